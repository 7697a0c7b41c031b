"""Imported before everything else of this package: torchvision without what it takes half a second to import for."""

from mmmim import registry  # noqa: F401  quiets what other libraries print when they are imported
from mmmim.utils.internals import import_torchvision

import_torchvision()
