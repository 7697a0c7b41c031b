"""Charts of a page as SVG, in the colours of its style, with their numbers as text for those who do not see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

#: Of the drawing, whose letters have 14 px: small enough that they can be read on a telephone.
_WIDTH = 480
#: Colours of several encoders, told apart by people who confuse red and green, too (Okabe and Ito).
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')


def bars(values: Sequence[tuple[str, float, bool]], unit: str) -> str:
    """Horizontal bars from 0.

    Args:
        values: Label, value, and whether it is of random weights, from above.
        unit: What follows a value.
    """
    if not values:
        return ''
    height, top = 40, max(max(value for _, value, _ in values), 1e-12)
    parts = []
    for i, (label, value, is_random) in enumerate(values):
        y, length = i * height, max(value, 0) / top * (_WIDTH - 90)
        colour = 'var(--random)' if is_random else 'var(--mark)'
        parts += [
            f'<text x="0" y="{y + 14}">{escape(label)}</text>',
            f'<rect x="0" y="{y + 20}" width="{length:.1f}" height="10" rx="2" fill="{colour}"/>',
            f'<text x="{length + 6:.1f}" y="{y + 30}">{value:.4g} {escape(unit)}</text>',
        ]
    spoken = '; '.join(f'{label}: {value:.4g} {unit}' for label, value, _ in values)
    return _svg(parts, len(values) * height, spoken)


def curves(lines: Mapping[str, Mapping[int, float]], unit: str, axis: str) -> str:
    """Lines over whole numbers.

    Args:
        lines: Values by their place, for each label; a line whose label begins with 'random' is dashed.
        unit: What follows a value.
        axis: What the places are.
    """
    lines = {label: line for label, line in lines.items() if line}
    if not lines:
        return ''
    places = sorted({place for line in lines.values() for place in line})
    values = [value for line in lines.values() for value in line.values()]
    low, high = min(values), max(values)
    margin = max((high - low) * 0.1, 1e-9)
    low, high = low - margin, high + margin
    plot, left = 200, 48

    def x(place: int) -> float:
        return left + (place - places[0]) / max(places[-1] - places[0], 1) * (_WIDTH - left - 16)

    def y(value: float) -> float:
        return 8 + (high - value) / (high - low) * plot

    parts = []
    for value in (low, (low + high) / 2, high):
        parts.append(f'<line class="axis" x1="{left}" x2="{_WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="0" y="{y(value) + 4:.1f}">{value:.3g}</text>')
    parts += [f'<text x="{x(place) - 3:.1f}" y="{plot + 26}">{place}</text>' for place in places]
    parts.append(f'<text x="{left}" y="{plot + 44}">{escape(axis)}</text>')
    for i, (label, line) in enumerate(lines.items()):
        is_random = label.startswith('random')
        colour = 'var(--random)' if is_random else COLOURS[i % len(COLOURS)]
        points = ' '.join(f'{x(place):.1f},{y(value):.1f}' for place, value in line.items())
        dashes = ' stroke-dasharray="6 4"' if is_random else ''
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2.5"{dashes} points="{points}"/>')
        parts += [f'<circle cx="{x(p):.1f}" cy="{y(v):.1f}" r="3" fill="{colour}"/>' for p, v in line.items()]
        at = plot + 64 + i * 18
        stroke = f'stroke="{colour}" stroke-width="2.5"{dashes}'
        parts.append(f'<line x1="{left}" x2="{left + 24}" y1="{at - 4}" y2="{at - 4}" {stroke}/>')
        parts.append(f'<text x="{left + 32}" y="{at}">{escape(label)}</text>')
    spoken = '; '.join(
        f'{label}: ' + ', '.join(f'{axis} {place} {value:.4g} {unit}' for place, value in line.items())
        for label, line in lines.items()
    )
    return _svg(parts, plot + 70 + len(lines) * 18, spoken)


def _svg(parts: Sequence[str], height: int, spoken: str) -> str:
    body = ''.join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(spoken)}">{body}</svg>'
