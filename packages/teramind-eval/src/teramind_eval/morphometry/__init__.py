"""Nuclei: finding them, measuring them, comparing them with other nuclei or with the truth."""
