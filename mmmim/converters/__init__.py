"""Weights published by the authors, in their layout, to mmmim's."""
