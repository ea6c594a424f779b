"""teramind_data."""
