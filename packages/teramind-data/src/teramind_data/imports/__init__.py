"""Other people's data to stores: the authors' published per-tile files, and images that other methods generated."""
