import itertools
import runpy
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread

from tests.paths import ROOT

sys.path.insert(0, str(ROOT / 'docs/figures'))
from diagrams import Diagram, landscape, patch_regions

FIGURES = sorted(path.name for path in (ROOT / 'docs/figures').glob('*.py') if path.stem != 'diagrams')


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


def test_the_background_is_opaque_and_letters_are_shapes(tmp_path):
    page = Diagram(200, 100)
    page.picture(10, 10, 80, np.zeros((8, 8, 3)), np.array([[0, 1], [2, 0]]), '#ff0000')
    page.text(150, 20, 'text')
    for name in ('a.png', 'a.svg'):
        page.save(tmp_path / name)
    pixels = (imread(tmp_path / 'a.png') * 255).round().astype(int)
    assert pixels.shape == (100, 200, 4)
    assert (pixels[..., 3] == 255).all()
    places = {(50, 150): [255, 255, 255], (30, 30): [0, 0, 0], (30, 70): [242, 242, 242], (70, 30): [255, 0, 0]}
    assert {place: pixels[place][:3].tolist() for place in places} == places
    root = ElementTree.parse(tmp_path / 'a.svg').getroot()
    assert root.get('width') == '144pt'  # 200 pixels
    assert not [*root.iter('{http://www.w3.org/2000/svg}text')]  # no font is needed


def test_regions_of_patches():
    pixels, regions = landscape(60)
    assert pixels.shape == (60, 60, 3)
    assert 0 <= pixels.min() <= pixels.max() <= 1
    found = patch_regions(regions, 6)
    assert found.shape == (6, 6)
    assert found[0, 0] == 0
    assert set(found.ravel()) == {0, 1, 2, 3, 4}
    assert patch_regions(np.array([[1, 1, 0], [1, 2, 0], [0, 0, 0]]), 1).tolist() == [[0]]
