"""Pages: one file of HTML each, which reads nothing from elsewhere."""

from __future__ import annotations

import base64
import io
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

#: The longer side of a picture in a page, in pixels.
SIDE = 1400


def render(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: Name of a file in ``mmmim/visualization/templates``.
        values: What it shows; texts are escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader('mmmim.visualization', 'templates')
    environment = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.get_template(template).render(**values)


def picture(path: str | Path) -> str:
    """A picture as data for ``src`` of a page, not larger than needed.

    Args:
        path: The file, of any format that Pillow reads.

    Raises:
        OSError: It cannot be read.
    """
    found = os.stat(path)
    return _encoded(str(path), found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=64)
def _encoded(path: str, modified: int, size: int) -> str:
    """A page is written again and again, and most of its pictures stay; the last two arguments tell those that do."""
    with Image.open(path) as image:
        small = image.convert('RGB')
    small.thumbnail((SIDE, 2 * SIDE))
    data = io.BytesIO()
    small.save(data, 'PNG', optimize=True)
    return 'data:image/png;base64,' + base64.b64encode(data.getvalue()).decode()
