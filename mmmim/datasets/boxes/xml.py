"""XML files from elsewhere, without the parts of XML that do harm."""

from __future__ import annotations

from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mmmim.utils import InputError
from mmmim.utils.files import read_regular
from mmmim.utils.names import printable

#: Annotations of one image have some kilobytes.
MAX_BYTES = 2**22
#: Elements inside each other.
MAX_DEPTH = 50


def read_xml(path: str) -> Element:
    """The root of an XML file, see :func:`parse_xml`.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is no such XML, or longer than 4 MiB.
    """
    try:
        data = read_regular(path, MAX_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f'{printable(path)} cannot be read: {error.strerror or error}.') from None
    return parse_xml(data, path)


def parse_xml(data: bytes, name: str) -> Element:
    """The root of an XML document.

    A document type is refused where it begins, and with it every entity: entities could be expanded to gigabytes, or
    name other files.

    Args:
        data: Bytes of the document.
        name: What messages call it.

    Raises:
        InputError: It is no XML, has a document type, or elements inside each other without end.
    """
    builder, depth = TreeBuilder(), 0

    def refuse(reason: str) -> NoReturn:
        raise InputError(f'{printable(name)} is no annotation file ({reason}): get it anew.')

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            refuse(f'more than {MAX_DEPTH} elements lie inside each other')
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = lambda *args: refuse('it has a document type, which may declare entities')
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        refuse(f'no XML: {error}')
    except (LookupError, ValueError) as error:  # encodings that expat asks Python for
        if isinstance(error, InputError):
            raise
        refuse(f'no XML: {error}')
    return builder.close()
