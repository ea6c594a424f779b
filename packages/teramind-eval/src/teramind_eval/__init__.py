"""teramind_eval."""
