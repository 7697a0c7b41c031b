"""Tables as text."""

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is aligned as plain text, too: the first column to the left, the others to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def join(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return '| ' + ' | '.join(padded) + ' |'

    rule = (
        '|' + '|'.join('-' * (width + 2) if not i else '-' * (width + 1) + ':' for i, width in enumerate(widths)) + '|'
    )
    return '\n'.join([join(lines[0]), rule, *(join(line) for line in lines[1:])])
