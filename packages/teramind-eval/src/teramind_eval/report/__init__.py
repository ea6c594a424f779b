"""The page: figures, tables and HTML made from measured results."""
