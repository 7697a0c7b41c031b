"""Several methods, several seeds, one table."""
