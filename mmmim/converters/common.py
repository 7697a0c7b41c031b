"""What converters share."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmmim.checkpoints import check_state_dict
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.nested import under


def _equal_rows(key: str, value: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    return value


def _as_it_is(key: str, value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Layout:
    """Names and shapes of foreign weights, each of which is one or several of mmmim's.

    Attributes:
        method: The method in messages.
        roots: Names of the layout in messages, such as ``encoder.*, decoder.*``.
        names: Gives mmmim's names for a key of the layout: several for a fused tensor, None for a key that it lacks.
        adapt: Gives for a key, its tensor and all weights the tensor in mmmim's shape, whose rows are shared out
            equally among its names, or the tensors of these names. Raises :class:`InputError` for shapes the layout
            lacks.
        restore: The inverse of ``adapt``, from a key and the joined tensor, for weights and gradients.
    """

    method: str
    roots: str
    names: Callable[[str], tuple[str, ...] | None]
    adapt: Callable[[str, Tensor, Mapping[str, Tensor]], Tensor | Sequence[Tensor]] = _equal_rows
    restore: Callable[[str, Tensor], Tensor] = _as_it_is

    def convert(self, weights: Mapping[str, Tensor], source: str = 'The weights') -> dict[str, Tensor]:
        """Rename and reshape weights.

        Args:
            weights: Weights in this layout, nothing else.
            source: Name of the file in error messages.

        Returns:
            Copies under mmmim's names; those of the teacher, where there is one, under ``teacher.``.

        Raises:
            InputError: Keys or shapes that the layout does not have, or a weight that is there twice.
        """
        if unknown := [key for key in weights if self.names(key) is None]:
            raise InputError(
                f'{source}: {len(unknown)} keys are not in the layout of {self.method} ({self.roots}), e.g. '
                f'{", ".join(unknown[:5])}.'
            )
        converted: dict[str, Tensor] = {}
        for key, value in weights.items():
            names = self.names(key) or ()
            try:
                adapted = self.adapt(key, value, weights)
            except InputError as error:
                raise InputError(f'{source}: {error}') from None
            pieces = adapted.tensor_split(len(names)) if isinstance(adapted, Tensor) else adapted
            if twice := converted.keys() & names:
                raise InputError(f'{source} has {twice.pop()} twice, once as {key}.')
            converted |= {name: piece.clone() for name, piece in zip(names, pieces, strict=True)}
        return converted

    def collect(self, key: str, values: Mapping[str, Tensor]) -> Tensor | None:
        """The tensor of the layout that mmmim's tensors make up.

        Args:
            key: A name of the layout.
            values: Weights, or their gradients, under mmmim's names.

        Returns:
            The tensor in the layout's shape; None for a key that the layout or ``values`` lack.
        """
        names = self.names(key)
        if names is None or any(name not in values for name in names):
            return None
        return self.restore(key, torch.cat([values[name] for name in names]))


def check_shape(key: str, value: Tensor, right: bool, shape: str) -> None:
    """Refuse a shape that is not ``right``, naming the ``shape`` that is.

    Raises:
        InputError: It is not.
    """
    if not right:
        raise InputError(f'{key} has the shape {list(value.shape)}, not {shape}.')


def inner_table(checkpoint: Mapping[str, Any]) -> Any:
    """The table of weights of a file: what lies under ``model`` or ``state_dict``, or the file itself."""
    tables = [checkpoint[key] for key in ('model', 'state_dict') if isinstance(checkpoint.get(key), Mapping)]
    return tables[0] if tables else checkpoint


def has_key(table: Any, pattern: str) -> bool:
    """Whether a table has a key that begins as a pattern says, ``module.`` of data-parallel models left aside."""
    return isinstance(table, Mapping) and any(
        isinstance(key, str) and re.match(pattern, key.removeprefix('module.')) for key in table
    )


def flat_tensors(table: Any, source: str) -> dict[str, Tensor]:
    """A flat table of tensors, as a dict without the prefix ``module.`` of data-parallel models.

    Raises:
        InputError: It is empty, or holds something else.
    """
    if not isinstance(table, Mapping):
        raise InputError(f'{source} holds no flat table of tensors, but a {type(table).__name__}.')
    others = [str(key) for key, value in table.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if not table or others:
        raise InputError(f'{source} holds no flat table of tensors (not tensors: {", ".join(others[:5])}).')
    return {key.removeprefix('module.'): value for key, value in table.items()}


def take_preprocessor(weights: dict[str, Tensor]) -> dict[str, Any]:
    """What the statistics of a data preprocessor of mmpretrain say of a model's config; they are taken out of weights.

    Args:
        weights: Weights of a file, changed in place.

    Returns:
        ``dict(data_preprocessor=...)``; empty where a file has none.
    """
    found = {key: weights.pop(f'data_preprocessor.{key}', None) for key in ('mean', 'std')}
    values = {key: value.flatten().tolist() for key, value in found.items() if value is not None}
    return {'data_preprocessor': {'type': 'mmmim.MIMDataPreprocessor', **values}} if values else {}


def count_blocks(weights: Mapping[str, Tensor], root: str) -> int:
    """Number of blocks ``{root}.blocks.{i}``, from the largest index."""
    pattern = re.compile(re.escape(root) + r'\.blocks\.(\d+)\.')
    return max((int(match[1]) for match in map(pattern.match, weights) if match), default=-1) + 1


def mlp_ratio(weights: Mapping[str, Tensor], root: str, dim: int) -> float:
    """Hidden width over width ``dim`` of the MLPs of ``{root}.blocks``; 4 where there are none."""
    fc1 = weights.get(f'{root}.blocks.0.mlp.fc1.weight')
    return 4.0 if fc1 is None else fc1.shape[0] / dim


def _check_grid(positions: Tensor, grid: tuple[int, int], source: str) -> None:
    """Refuse positions ``[N, D]`` of another number of patches than a grid has.

    Raises:
        InputError: They are.
    """
    if len(positions) != grid[0] * grid[1]:
        raise InputError(f'{source} has positions of {len(positions)} patches, not of a {grid[0]} x {grid[1]} grid.')


def square_side(positions: Tensor, source: str) -> int:
    """Patches per side of the square image that positions ``[N, D]`` are of.

    Raises:
        InputError: They form no square.
    """
    side = math.isqrt(len(positions))
    if side**2 != len(positions):
        raise InputError(f'{source} has positions of {len(positions)} patches, which are no square image.')
    return side


#: Of widths whose heads are not 64 wide: ViT-H and ViT-g.
_NUM_HEADS = {1280: 16, 1408: 16}


def head_count(dim: int, given: int | None, option: str, source: str) -> int:
    """Attention heads of a width, which the shapes of weights do not tell.

    Args:
        dim: Width of the tokens that the heads divide.
        given: What the user says; None for heads of 64 channels (ViT-H: 80, ViT-g: 88).
        option: How the user says it, for error messages.
        source: Name of the converted file, for error messages.

    Raises:
        InputError: They do not divide the width.
    """
    if given is None:
        if dim % 64:
            raise InputError(f'{source}: the width {dim} does not tell how many attention heads: give {option}.')
        return _NUM_HEADS.get(dim, dim // 64)
    if given < 1 or dim % given:
        raise InputError(f'{given} attention heads do not divide the width {dim}: give {option}.')
    return given


def vit_config(
    weights: Mapping[str, Tensor],
    method: str,
    source: str,
    num_heads: int | None,
    needed: Sequence[str] = (),
    grid: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The sizes of the encoder that converted weights hold.

    Args:
        weights: Under mmmim's names, the encoder's under ``backbone.``.
        method: Name of the method that the weights are of, for error messages.
        source: Name of the converted file, for error messages.
        num_heads: Attention heads, which shapes do not tell; None for heads of 64 channels (ViT-H: 80, ViT-g: 88).
        needed: Further names that every model of the method has.
        grid: Rows and columns of patches of the training images; None for the square of a table of added positions.

    Returns:
        Config of a ``mmmim.ViT``.

    Raises:
        InputError: Needed weights are missing, heads do not divide the width, or the patches form no square, or none
            of the grid.
    """
    patch_name, positions_name = 'backbone.patch_embed.weight', 'backbone.positions.weight'
    own = (patch_name, positions_name) if grid is None else (patch_name,)
    if missing := [key for key in (*own, *needed) if key not in weights]:
        raise InputError(f"{source} has no {', '.join(missing)} (mmmim's names): not the whole of {method}.")
    patch = weights[patch_name]
    if patch.ndim != 4:
        raise InputError(f'{source}: the patch embedding has the shape {list(patch.shape)}, not [D, C, p, p].')
    dim, channels, patch_size = patch.shape[0], patch.shape[1], patch.shape[-1]
    height, width = grid or (square_side(weights[positions_name], source),) * 2
    if positions_name in weights:
        _check_grid(weights[positions_name], (height, width), source)
    return {
        'type': 'mmmim.ViT',
        'img_size': height * patch_size if height == width else (height * patch_size, width * patch_size),
        'patch_size': patch_size,
        'in_channels': channels,
        'embed_dim': dim,
        'depth': count_blocks(weights, 'backbone'),
        'num_heads': head_count(dim, num_heads, '--num-heads', source),
        'mlp_ratio': mlp_ratio(weights, 'backbone', dim),
    }


def grid_of(backbone: Mapping[str, Any]) -> tuple[int, int]:
    """Patches per side of the images of a config from :func:`vit_config`."""
    size = backbone['img_size']
    height, width = (size, size) if isinstance(size, int) else size
    return height // backbone['patch_size'], width // backbone['patch_size']


def pixel_model(backbone: Mapping[str, Any], neck: dict[str, Any], normalize: bool) -> dict[str, Any]:
    """Config of a model that predicts pixels: MAE's, with whatever neck.

    Args:
        backbone: Config of the encoder, as :func:`vit_config` gives it.
        neck: Config of the decoder, without what follows from the encoder: its width, the values of a patch, the grid.
        normalize: Whether the targets are normalised pixels.
    """
    patch_size, channels = backbone['patch_size'], backbone['in_channels']
    target = {'type': 'mmmim.PixelTarget', 'patch_size': patch_size, 'in_channels': channels, 'normalize': normalize}
    fitted = {'context_dim': backbone['embed_dim'], 'out_dim': channels * patch_size**2, 'grid': grid_of(backbone)}
    branch = {'target_generator': target, 'neck': {**neck, **fitted}, 'head': {'type': 'mmmim.RegressionHead'}}
    return {'type': 'mmmim.MaskedImageModeling', 'backbone': dict(backbone), 'branches': {'pixels': branch}}


def describe_vit(config: Mapping[str, Any]) -> str:
    """The sizes of the encoder of a model's config, in words."""
    backbone = config['backbone']
    return f'ViT of {describe_blocks(backbone)}, patch {backbone["patch_size"]}, {backbone["img_size"]} px'


def describe_blocks(config: Mapping[str, Any]) -> str:
    """Depth, width and heads of a config, in words."""
    return f'{config["depth"]} blocks x {config["embed_dim"]} with {config["num_heads"]} heads'


def checked_checkpoint(
    weights: dict[str, Tensor], config: dict[str, Any], parts: dict[str, dict], which: str | None, source: str
) -> dict[str, Any]:
    """A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

    Args:
        weights: Under mmmim's names.
        config: Config of the model.
        parts: Configs, out of ``config``, of the parts that must fit strictly, by the name of the part.
        which: Kind of the weights, 'ema' or 'student'; None where they are both, the teacher's under ``teacher.``.
        source: Name of the converted file, for error messages.

    Raises:
        InputError: Weights of a part are missing, unexpected or of another shape.
    """
    for name, cfg in parts.items():
        with torch.device('meta'):
            module = MODELS.build(cfg)
        prefix = f'{name}.'
        part = under(weights, prefix)
        check_state_dict(module, part, f'{source} ({prefix}*)', same_grid=True)
    return {'state_dict': weights, 'meta': {}, 'mmmim': {'version': 1, 'model': config, 'weights': which}}
