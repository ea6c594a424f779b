"""Scores as AnnData tables in a store, for scanpy, squidpy and SpatialData."""
