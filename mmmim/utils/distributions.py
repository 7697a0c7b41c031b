"""Which installed distributions own the packages that mmmim imports."""

from __future__ import annotations

from importlib import metadata

#: By import name, the distributions on PyPI that bring it: the maintained line, and its predecessors.
_OWNERS = {
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite', 'mmcv-full'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
}


def shared_packages() -> list[str]:
    """A sentence for every import name that two installed distributions own, with the remedy.

    Two of them write into one folder: whichever came last is what is imported, and when one is uninstalled, files of
    the other go with it.
    """
    sentences = []
    for package, names in _OWNERS.items():
        owners = [name for name in names if _is_installed(name)]
        if len(owners) > 1:
            sentences.append(
                f'{" and ".join(owners)} are both installed and share the folder {package}/: uninstall all of them and '
                f'install {owners[0]} again, or take a new virtual environment (docs/en/install.md).'
            )
    return sentences


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
