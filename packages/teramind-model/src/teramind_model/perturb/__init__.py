"""In-silico experiments: a brain and the same brain with edited genes, from the same noise, and what differs."""
