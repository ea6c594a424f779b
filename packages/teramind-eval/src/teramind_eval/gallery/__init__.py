"""Sheets of pictures: an overview with numbered boxes and what is in them, and the atlas's regions over sections."""
