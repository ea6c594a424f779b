"""Training data: tissue crops of atlas stores, keyed by (seed, step, sample)."""
