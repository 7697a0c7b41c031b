"""Evaluations that learn nothing and need no labels: objects, clusters and neighbourhoods of the patches of an image.

Legend: N patches of an image in a grid h x w, C channels of a patch's feature, K clusters or classes.
"""
