"""Where configs and tools are: in the repository, or in the package when it is installed without it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def repository(package: Path = _PACKAGE) -> Path | None:
    """The clone that the package is used from (editable installs too), or None.

    Args:
        package: The folder of the package.
    """
    root = package.parent
    # Folders named `configs` or `tools` may lie beside any package; its own setup.py does not.
    return root if (root / 'model-index.yml').is_file() and (root / 'setup.py').is_file() else None


def resources(package: Path = _PACKAGE) -> Path:
    """The folder with ``configs``, ``tools`` and ``model-index.yml``: the repository, or ``mmmim/.mim`` of a wheel.

    Args:
        package: The folder of the package.
    """
    return repository(package) or package / '.mim'


def config_names() -> list[str]:
    """Names of the configs that come with mmmim, sorted: paths in ``configs`` without ``.py``, ``_base_`` left out."""
    folder = resources() / 'configs'
    files = (path.relative_to(folder).with_suffix('') for path in folder.rglob('*.py'))
    return sorted(path.as_posix() for path in files if path.parts[0] != '_base_')


def find_config(name: str) -> Path | None:
    """A config that comes with mmmim.

    Args:
        name: Name of a config in :func:`mmmim.list_models` (``capi/vitl14``), or a path in :func:`resources`
            (``configs/capi/vitl14.py``).

    Returns:
        Its file, or None.
    """
    if Path(name).is_absolute() or '..' in Path(name).parts:
        return None
    root = resources()
    for path in (root / 'configs' / f'{name}.py', root / name):
        if path.suffix == '.py' and path.is_file():
            return path
    return None
