"""teramind_model."""
