"""Measures of what a model learned, and probes."""
