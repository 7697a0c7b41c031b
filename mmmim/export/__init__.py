"""Encoders in files of other libraries and programs; importing this package is cheap."""

from .formats import FORMATS, Export, export

__all__ = ['FORMATS', 'Export', 'export']
