import numpy as np
import pytest
import torch

from mmmim.utils import InputError
from mmmim.visualization.attention import (
    Query,
    draw_attention,
    extra_queries,
    mark_patches,
    patch_queries,
    query_maps,
    to_heat,
)


def test_queries():
    assert [query.name for query in extra_queries(1, 3)] == ['CLS', 'register 1', 'register 2']
    assert [query.name for query in extra_queries(2, 2)] == ['proxy 1', 'proxy 2']
    assert patch_queries([(1, 2)], (2, 3)) == [Query('patch 1, 2', place=(1, 2))]
    for place in [(2, 0), (0, 3), (-1, 0)]:
        with pytest.raises(InputError, match='the image has 2 x 3 patches'):
            patch_queries([place], (2, 3))
    with pytest.raises(InputError, match='has no extra tokens'):
        extra_queries(0, 0)


def test_maps_are_rows_without_columns_of_extra_tokens():
    attention = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    queries = [*patch_queries([(1, 0)], (2, 3)), *extra_queries(1, 2)]
    maps = query_maps(attention, queries, (2, 3))
    assert maps.shape == (2, 3, 3, 2, 3)
    assert torch.equal(maps[:, :, 0].flatten(-2), attention[:, :, 2 + 3, 2:])
    assert torch.equal(maps[:, :, 1:].flatten(-2), attention[:, :, :2, 2:])
    less = query_maps(attention, queries, (2, 3), subtract_extra=True)
    expected = attention[:, :, 5, 2:] - (attention[:, :, 0, 2:] + attention[:, :, 1, 2:]) / 2
    torch.testing.assert_close(less[:, :, 0].flatten(-2), expected)


def test_colours():
    heat = to_heat(torch.tensor([[0.0, 0.2], [0.1, 0.0]]), 8)
    assert heat.shape == (8, 8, 3)
    assert heat.dtype == np.uint8
    brightness = heat.astype(int).sum(axis=-1)
    assert brightness[0, 4] > brightness[4, 0] > brightness[0, 0]
    assert (heat[:4, 4:] == heat[0, 4]).all()
    red, blue, white = (
        to_heat(torch.tensor([[-1.0, 1.0], [0.0, 0.0]]), 2, signed=True)[i] for i in [(0, 1), (0, 0), (1, 0)]
    )
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert white.min() > 240
    assert to_heat(torch.zeros(2, 2), 2).max() < 10


def test_frames_lie_around_patches():
    image = np.full((120, 120, 3), 7, dtype=np.uint8)
    marked = mark_patches(image, [(1, 2), None, (0, 0)], 10)
    changed = (marked != image).any(axis=-1)
    assert not changed[10:20, 20:30].any()
    assert not changed[:10, :10].any()
    assert changed.sum() == 4 * 10 + 4 + 2 * 10 + 1
    assert (image == 7).all()


@pytest.mark.parametrize(
    ('layers', 'heads', 'columns'),
    [([3], 1, ['patch 0, 0', 'patch 1, 1']), ([1, 3], 1, ['block 1', 'block 3']), ([1, 3], 2, ['head 0', 'head 1'])],
)
def test_what_the_columns_are(tmp_path, monkeypatch, layers, heads, columns):
    import mmmim.visualization.attention as module

    drawn = {}

    def table(rows, path, columns, names, title, caption):
        drawn.update(rows=rows, columns=columns, names=names, caption=caption)

    monkeypatch.setattr(module, 'draw_image_table', table)
    queries = patch_queries([(0, 0), (1, 1)], (2, 2))
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    maps = torch.rand(len(layers), heads, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    draw_attention([('a.png', image, maps)], queries, layers, tmp_path / 'a.png', 'title')
    assert drawn['columns'] == ['input', *columns]
    assert len(drawn['rows']) == len(drawn['names']) == maps.shape[:3].numel() // len(columns)
    assert all(len(row) == 3 for row in drawn['rows'])
    # Column 2 of the first row, away from frames.
    second = {1: maps[0, 0, 1] if len(layers) == 1 else maps[1, 0, 0], 2: maps[0, -1, 0]}[heads]
    place = (1, 1) if len(layers) == 1 else (0, 0)
    assert np.array_equal(drawn['rows'][0][2], mark_patches(to_heat(second, 8), [place], 4))
