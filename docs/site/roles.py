"""Docstrings name things as Sphinx does, ``:class:`mmmim.ViT```; on the site a name is a link where there is one."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r':(?:class|func|meth|mod|data|attr|exc):`~?([\w.]+)`')


class Roles(Extension):
    """Makes the roles of Sphinx optional references of mkdocs-autorefs."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a module, class or function."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(self._reference, obj.docstring.value)

    @staticmethod
    def _reference(found: re.Match) -> str:
        return f'<autoref identifier="{found[1]}" optional><code>{found[1]}</code></autoref>'
