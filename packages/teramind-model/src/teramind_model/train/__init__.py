"""Training: options, data, the loop, its log and its checkpoints."""
