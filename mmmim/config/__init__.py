"""Configs: reading, changing, scaling and comparing them."""
