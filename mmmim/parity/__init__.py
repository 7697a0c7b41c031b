"""Replay of recorded runs: do the same weights, batch and draws give the same numbers?

A method's module has ``replay(fixture)``, ``is_input(name)`` and ``tolerance(name)``.
"""

from . import capi
from .report import Fixture, Row, compare, format_rows

#: Modules by method name.
METHODS = {'capi': capi}

__all__ = ['METHODS', 'Fixture', 'Row', 'compare', 'format_rows']
