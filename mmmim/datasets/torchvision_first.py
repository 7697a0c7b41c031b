"""Imported before everything else of this package: torchvision without what it takes half a second to import for."""

from mmmim.utils.internals import import_torchvision

import_torchvision()
