"""Attention maps against the expression they read."""
