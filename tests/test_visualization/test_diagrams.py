import itertools
import runpy
import sys

import pytest

from tests.paths import ROOT

sys.path.insert(0, str(ROOT / 'docs/figures'))
from diagrams import Diagram

FIGURES = sorted(path.name for path in (ROOT / 'docs/figures').glob('*.py') if 'import Diagram' in path.read_text())


def overlap(a, b):
    wide = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    high = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return wide > 0.5 and high > 0.5


def problems(page):
    """Texts that leave their box or the page, or lie on each other."""
    extents = {text.get_text(): page.extent(text) for text, _ in page.texts}
    for text, area in page.texts:
        box = page.extent(text)
        if box.x < area.x or box.x + box.width > area.x + area.width:
            yield f'{text.get_text()} is wider than its box'
        if box.y < area.y or box.y + box.height > area.y + area.height:
            yield f'{text.get_text()} is higher than its box'
    for (one, a), (other, b) in itertools.combinations(extents.items(), 2):
        if overlap(a, b):
            yield f'{one} lies on {other}'


@pytest.mark.parametrize('name', FIGURES)
def test_figures_of_the_methods(name, tmp_path):
    module = runpy.run_path(str(ROOT / 'docs/figures' / name))
    page = module['draw']()
    assert [*problems(page)] == []
    assert len(page.texts) > 10
    stored = module['OUT']
    assert stored.is_file()
    assert stored.stat().st_size < 300_000
    assert f'src="{stored.name}"' in stored.with_name('README.md').read_text()
    page.save(tmp_path / 'a.svg')
    module['draw']().save(tmp_path / 'b.svg')
    assert (tmp_path / 'a.svg').read_bytes() == (tmp_path / 'b.svg').read_bytes()


def test_problems_are_found():
    page = Diagram(200, 100)
    page.box(10, 10, 40, 30, 'far too long for it')
    page.text(100, 80, 'one')
    page.text(104, 80, 'two')
    page.text(195, 60, 'outside')
    assert [*problems(page)] == [
        'far too long for it is wider than its box',
        'outside is wider than its box',
        'one lies on two',
    ]
