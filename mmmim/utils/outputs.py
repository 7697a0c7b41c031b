"""Files and folders that a user names for results, checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .errors import InputError

#: Extensions of the pictures that can be drawn, and of files that other programs would take for a picture.
PICTURES = ('.png', '.pdf', '.svg', '.jpg')
_LIKE_PICTURES = (*PICTURES, '.jpeg', '.webp', '.gif', '.bmp', '.tif', '.tiff', '.eps')


def check_picture(path: str, option: str = '--out') -> None:
    """Refuse a file that is not named like a picture that can be drawn.

    Raises:
        InputError: Its extension is another, or it is a folder.
    """
    if os.path.splitext(path)[1].lower() not in PICTURES:
        raise InputError(f'{option} {path}: give a file that ends in .png, .pdf, .svg or .jpg.')
    check_file(path, option)


def check_file(path: str, option: str = '--out') -> None:
    """Refuse a file that cannot be one.

    Raises:
        InputError: A folder has the name.
    """
    if os.path.isdir(path):
        raise InputError(f'{option} {path} is a folder: give the name of a file.')


def check_folder(path: str, option: str = '--out') -> None:
    """Refuse a folder that cannot be one.

    Raises:
        InputError: A file has the name of it, or of one above it.
    """
    above = os.path.abspath(path)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise InputError(f'{option} {path}: {above} is a file, not a folder: give another name.')


def picture_files(out: str, names: Sequence[str], option: str = '--out') -> list[str]:
    """Where a tool writes its pictures: in the folder ``out``, or, named like a picture, in that file itself.

    Args:
        out: Folder or file that the command line names.
        names: Names of the pictures in a folder.
        option: What ``out`` is called on the command line.

    Returns:
        A file for each of ``names``.

    Raises:
        InputError: ``out`` is named like a picture and there are several, or it cannot be drawn in that format; or
            files and folders lie in each other's place.
    """
    if os.path.isdir(out) or os.path.splitext(out)[1].lower() not in _LIKE_PICTURES:
        check_folder(out, option)
        return [os.path.join(out, name) for name in names]
    check_picture(out, option)
    if len(names) > 1:
        written = f'{", ".join(names[:-1])} and {names[-1]}'
        raise InputError(f'{option} {out} is one picture, and {written} are written: give a folder.')
    check_folder(os.path.dirname(os.path.abspath(out)), option)
    return [out]
