"""Pictures of what tokens attend to (SemanticMIM, arXiv 2406.10673, figures 1, 7, 9 and 14)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mmmim.evaluation.label_free.discovery import strongest
from mmmim.features import FeatureExtractor
from mmmim.features.attention_maps import visit_attention
from mmmim.models.layers import patch_grid
from mmmim.utils import InputError

from .image_table import draw_image_table

#: Green, which none of the colour maps has.
_MARK = (40, 255, 40)


@dataclass(frozen=True)
class Query:
    """A token whose attention is shown: its name, and its ``index`` among extra tokens or ``place`` among patches.

    With neither, it stands for the mean of all patches.
    """

    name: str
    index: int | None = None
    place: tuple[int, int] | None = None


#: What there is to show of encoders without CLS.
MEAN = Query('mean of patches')


def patch_queries(places: Sequence[tuple[int, int]], grid: tuple[int, int]) -> list[Query]:
    """Patches as queries.

    Args:
        places: (row, column) of each, from 0.
        grid: Rows and columns of patches, ``(h, w)``.

    Raises:
        InputError: A patch lies outside of the grid.
    """
    for row, column in places:
        if not (0 <= row < grid[0] and 0 <= column < grid[1]):
            raise InputError(
                f'There is no patch in row {row} and column {column}: the image has {grid[0]} x {grid[1]} patches, '
                f'rows 0 to {grid[0] - 1} and columns 0 to {grid[1] - 1}. A larger image has more (--size).'
            )
    return [Query(f'patch {row}, {column}', place=(row, column)) for row, column in places]


def extra_queries(num_cls_tokens: int, num_extra_tokens: int) -> list[Query]:
    """All extra tokens of an encoder as queries.

    Raises:
        InputError: It has none.
    """
    if not num_extra_tokens:
        raise InputError(
            'The encoder has no extra tokens (CLS, proxies or registers): there is nothing to show of them.'
        )
    cls = ['CLS'] if num_cls_tokens == 1 else [f'proxy {i + 1}' for i in range(num_cls_tokens)]
    registers = [f'register {i + 1}' for i in range(num_extra_tokens - num_cls_tokens)]
    return [Query(name, index=i) for i, name in enumerate(cls + registers)]


def query_maps(
    attention: Tensor, queries: Sequence[Query], grid: tuple[int, int], subtract_extra: bool = False
) -> Tensor:
    """Attention of tokens to patches.

    Args:
        attention: Attention in one or more images, ``[B, heads, E + N, E + N]``.
        queries: The Q tokens whose attention is wanted.
        grid: Rows and columns of patches, ``(h, w)``.
        subtract_extra: Whether to subtract the mean map of the extra tokens.

    Returns:
        ``[B, heads, Q, h, w]``: columns of extra tokens are dropped, nothing is normalised again.
    """
    extra = attention.shape[-1] - grid[0] * grid[1]
    rows = []
    for query in queries:
        if query == MEAN:
            rows.append(attention[:, :, extra:, extra:].mean(dim=2))
        else:
            index = query.index if query.place is None else extra + query.place[0] * grid[1] + query.place[1]
            rows.append(attention[:, :, index, extra:])
    maps = torch.stack(rows, dim=2)
    if subtract_extra:
        maps = maps - attention[:, :, :extra, extra:].mean(dim=2, keepdim=True)
    return maps.unflatten(-1, grid)


def image_maps(
    extractor: FeatureExtractor,
    image: np.ndarray,
    queries: Sequence[Query],
    layers: Sequence[int],
    heads: str = 'mean',
    subtract_extra: bool = False,
) -> Tensor:
    """Attention of tokens of one image to its patches; whole maps are in memory one block at a time.

    Args:
        extractor: The encoder that looks at the image.
        image: ``[s, s, C]``, of the channels of the encoder.
        queries: The Q tokens whose attention is wanted.
        layers: Blocks, each once.
        heads: 'mean' over the heads, or 'each'.
        subtract_extra: Whether to subtract the mean map of the extra tokens.

    Returns:
        ``[layers, heads or 1, Q, h, w]`` on the CPU.

    Raises:
        InputError: There is no such block.
    """
    batch = extractor.preprocess(torch.from_numpy(image.copy()).permute(2, 0, 1).unsqueeze(0))
    grid = patch_grid(batch.shape[-2:], extractor.patch_size)
    found: list[tuple[int, Tensor]] = []

    def visit(layer: int, attention: Tensor) -> None:
        maps = query_maps(attention, queries, grid, subtract_extra)[0].cpu()
        found.append((layer, maps.mean(dim=0, keepdim=True) if heads == 'mean' else maps))

    visit_attention(extractor.backbone, batch, visit, layers)
    return torch.stack([maps for _, maps in found])


def only_strongest(maps: Tensor, mass: float) -> Tensor:
    """Maps ``[..., h, w]`` of which the patches that hold a share of the attention are left, and others are 0."""
    kept = strongest(maps.flatten(-2).numpy(), mass)
    return maps * torch.from_numpy(kept).view_as(maps)


def to_heat(values: Tensor, side: int, signed: bool = False) -> np.ndarray:
    """A map as colours, magnified without interpolation.

    Args:
        values: Values of the map, ``[h, w]``.
        side: Side of the picture in pixels, a multiple of h and w.
        signed: Whether values may be negative: blue, white where 0, and red, instead of black to bright.

    Returns:
        RGB ``[side, side, 3]`` uint8; the largest value (magnitude) has the strongest colour.
    """
    largest = values.abs().max().clamp_min(1e-12)
    shades = (values / largest + 1) / 2 if signed else values / largest
    colours = matplotlib.colormaps['RdBu_r' if signed else 'inferno'](shades.numpy(), bytes=True)[..., :3]
    return colours.repeat(side // len(values), axis=0).repeat(side // values.shape[1], axis=1)


def mark_patches(image: np.ndarray, places: Sequence[tuple[int, int] | None], patch_size: int) -> np.ndarray:
    """A copy of an image ``[s, s, 3]`` uint8 with a frame around every patch at (row, column)."""
    marked, width = image.copy(), max(1, round(len(image) / 120))
    for place in places:
        if place is not None:
            (top, left), (bottom, right) = (tuple((step + end) * patch_size for step in place) for end in (0, 1))
            marked[max(0, top - width) : bottom + width, max(0, left - width) : right + width] = _MARK
            marked[top:bottom, left:right] = image[top:bottom, left:right]
    return marked


def draw_attention(
    examples: Sequence[tuple[str, np.ndarray, Tensor]],
    queries: Sequence[Query],
    layers: Sequence[int],
    path: str | os.PathLike,
    title: str,
    signed: bool = False,
) -> None:
    """Draw maps of tokens beside the images: a column per head, per block or per token, the first of which are several.

    Args:
        examples: Name, RGB image ``[s, s, 3]`` uint8 and maps ``[layers, heads or 1, Q, h, w]`` of each image.
        queries: The Q tokens; patches among them are framed.
        layers: Names of the blocks.
        path: The picture to write.
        title: Title above all panels.
        signed: Whether the mean map of the extra tokens was subtracted.
    """
    heads = examples[0][2].shape[1]
    if heads > 1:
        columns = [f'head {head}' for head in range(heads)]
    elif len(layers) > 1:
        columns = [f'block {layer}' for layer in layers]
    else:
        columns = [query.name for query in queries]
    rows, names = [], []
    for name, image, maps in examples:
        for label, shown, values in _rows(name, queries, layers, maps):
            rows.append(_pictures(image, shown, values, signed))
            names.append(label)
    scale = (
        'Attention minus the mean attention of the extra tokens, from blue (less) to red (more)'
        if signed
        else 'Attention to the patches, from 0 (black) to the largest value (bright)'
    )
    blocks = f'Block {layers[0]}' if len(layers) == 1 else 'Blocks counted from 0'
    over = 'mean over heads' if heads == 1 else 'every head'
    caption = f'{scale}, each map on a scale of its own. {blocks}, {over}; attention to extra tokens is left out.'
    draw_image_table(rows, path, ['input', *columns], names, title, caption)


def _rows(
    name: str, queries: Sequence[Query], layers: Sequence[int], maps: Tensor
) -> Iterator[tuple[str, list[Query], Tensor]]:
    """Of an image: name of each row, the tokens that it shows, their maps ``[columns, h, w]``."""
    if maps.shape[:2] == (1, 1):
        yield name, list(queries), maps[0, 0]
        return
    for q, query in enumerate(queries):
        if maps.shape[1] == 1:
            yield f'{name}, {query.name}', [query], maps[:, 0, q]
            continue
        for i, layer in enumerate(layers):
            yield f'{query.name}, block {layer}', [query], maps[i, :, q]


def _pictures(image: np.ndarray, shown: list[Query], maps: Tensor, signed: bool) -> list[np.ndarray]:
    """An image and maps, one for each token or all of one token, with frames around the patches asked for."""
    patch_size = len(image) // maps.shape[-1]
    places = [query.place for query in shown]
    of_maps = places if len(places) == len(maps) else places * len(maps)
    return [
        mark_patches(image, places, patch_size),
        *(
            mark_patches(to_heat(one, len(image), signed), [place], patch_size)
            for one, place in zip(maps, of_maps, strict=True)
        ),
    ]


def draw_attention_distance(distances: np.ndarray, path: str | os.PathLike, title: str) -> None:
    """Draw the attention distance of every head over the blocks, and the mean of the heads.

    Args:
        distances: ``[layers, heads]`` in pixels.
        path: The picture to write.
        title: Title above the panel.
    """
    layers, heads = distances.shape
    figure = Figure(figsize=(6.4, 4.0), layout='constrained')
    ax = figure.subplots()
    blocks = np.arange(layers)
    ax.scatter(np.repeat(blocks, heads), distances.ravel(), s=22, color='C0', alpha=0.6, linewidths=0, label='a head')
    ax.plot(blocks, distances.mean(axis=1), color='C1', linewidth=2, label='mean of the heads')
    ax.set(xlabel='block', ylabel='attention distance (pixels)', ylim=(0, 1.08 * distances.max()))
    ax.set_xticks(blocks[:: max(1, layers // 12)])
    ax.set_title(title, fontsize=10)
    ax.spines[['top', 'right']].set_visible(False)
    ax.grid(axis='y', alpha=0.3)
    figure.legend(loc='outside lower center', ncols=2, frameon=False)
    figure.savefig(path, dpi=130)
