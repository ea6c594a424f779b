"""Downloads of published data: what a source offers, listed first; then files, resumed and verified."""
