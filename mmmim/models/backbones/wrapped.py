"""What encoders of other libraries share: the interface of the toolbox's, and strict loading of local files."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmmim.checkpoints import load_checkpoint_file, load_state_dict
from mmmim.checkpoints.layouts import describe_layout
from mmmim.structures import Context, PatchMask
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError
from mmmim.utils.nested import under

from ..interfaces import Encoder, Sizes, known
from ..layers import in_precision_of, layer_index, patch_grid, pick_patches, unpatchify

#: Parts of a classifier: its head, and the norm of pooled tokens (``ln2`` in mmpretrain).
_CLASSIFIER = re.compile(r'(head|head_dist|fc_norm|ln2)\.')
#: What messages add where a model has stages of several grids.
OR_STAGES = ', or mmmim.HierarchicalEncoder for a Swin Transformer or a ConvNeXt'


class WrappedEncoder(Encoder):
    """A Vision Transformer of another library behind the interface of :class:`mmmim.ViT`.

    What runs is the library's own ``forward``. Under a mask the patches that are not visible are left out where its
    first block begins, behind patch embedding, positions and extra tokens; or, with a mask token, that stands in their
    place from the patch embedding on.

    Attributes:
        encoder: The other library's model.
        mask_token: What stands for hidden patches, ``[1, D]``; None where they are left out.
        any_size: Whether it takes images of other sizes than ``grid`` says.
        any_graph: Whether what it computes is one graph for all of them.
        no_graph: Why it is none for any number of images, in words; empty where it is one.
        needs_all: Why no patch may be left out, in words; empty where patches know of each other by attention alone
            and of their place by what is added to them.
        mixes: Why patches know of each other before the first block, in words; empty where they do not.
        stem_tokens: Tokens of the patch embedding along a side of a patch, more than one where later stages merge them.
        channels_first: Whether maps of the patch embedding are ``[B, D, h, w]``; of a convolution they always are.
    """

    encoder: nn.Module
    mask_token: nn.Parameter | None
    mean: list[float]
    std: list[float]
    any_size: bool = True
    any_graph: bool = True
    no_graph: str = ''
    needs_all: str = ''
    mixes: str = ''
    stem_tokens: int = 1
    channels_first: bool = False

    def _add_mask_token(self, fused: bool, width: int | None = None) -> None:
        """Hide patches behind a mask token, as wide as the patch embedding, instead of leaving them out."""
        self.mask_token = nn.Parameter(torch.empty(1, width or self.embed_dim)) if fused else None
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=0.02)

    def sizes(self) -> Sizes:
        """Those of every encoder, and the statistics that its images are normalised with."""
        mean, std = (known(torch.tensor(values, device='cpu')) for values in (self.mean, self.std))
        return {**super().sizes(), 'mean': ('mean', mean), 'std': ('std', std)}

    def _check_channels(self) -> None:
        """Refuse statistics of another number of channels than the encoder takes.

        Raises:
            InputError: Naming both numbers.
        """
        if len(self.mean) != self.in_channels or len(self.std) != self.in_channels:
            raise InputError(
                f'{type(self).__name__} takes images of {self.in_channels} channel(s) and has the mean and std of '
                f'{len(self.mean)} and {len(self.std)}: give mean and std one value per channel.'
            )

    @property
    def blocks(self) -> nn.ModuleList:
        """Blocks, first to last."""
        raise NotImplementedError

    @property
    def norm(self) -> nn.Module:
        """Norm after the last block."""
        raise NotImplementedError

    @property
    def patch_embedding(self) -> nn.Module:
        """What makes tokens of patches, before positions: ``[B, N, D]``, ``[B, h, w, D]`` or ``[B, D, h, w]``."""
        raise NotImplementedError

    @property
    def projection(self) -> nn.Module | None:
        """What takes tokens behind the final norm into a space that they share with texts (CLIP); None without one."""
        return None

    @property
    def attentions(self) -> list[Any]:
        """The self-attention of every block; None for what is none."""
        return [getattr(block, 'attn', None) for block in self.blocks]

    def states(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Outputs of ``blocks``, given in ascending order, before the final norm: each ``[B, E + N, D]``."""
        raise NotImplementedError

    def _outputs(self, blocks: Sequence[int], run: Callable[[], Any]) -> list[Tensor]:
        """What some blocks give while the model runs, in the order that they are asked for."""
        found: dict[int, Tensor] = {}

        def keep(index: int) -> Any:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                found[index] = output[0] if isinstance(output, tuple) else output

            return hook

        with ExitStack() as stack:
            for index in blocks:
                stack.callback(self.blocks[index].register_forward_hook(keep(index)).remove)
            run()
        return [found[index] for index in blocks]

    def normed(self, state: Tensor) -> Tensor:
        """The output of a block, ``[B, E + N, D]``, after the final norm."""
        return self.norm(state)

    def unread(self, depth: int | None, final_norm: bool) -> Iterator[nn.Module | nn.Parameter]:
        """Later blocks, the mask token of pre-training, and the norm if it is not used."""
        yield from () if depth is None else self.blocks[depth:]
        if self.mask_token is not None:
            yield self.mask_token
        if not final_norm:
            yield self.norm

    def init_weights(self) -> None:
        """Leave the weights alone, they are there from construction: mmengine would initialise ``encoder`` anew."""

    def load_weights(self, path: str | Path) -> None:
        """Load a file of the library strictly; see :func:`load_foreign_weights`."""
        load_foreign_weights(self.encoder, path)

    def forward(
        self, images: Tensor, mask: PatchMask | None = None, layers: Sequence[int] = (), depth: int | None = None
    ) -> Context:
        """Encode.

        Args:
            images: ``[B, C, H, W]``, normalised with ``mean`` and ``std``, of any floating type: features have that of
                the weights.
            mask: Mask whose visible patches are seen; None for the whole images.
            layers: Blocks whose output to keep in ``hidden``, negative ones from the end.
            depth: How many blocks to run before the final norm; None for all.

        Returns:
            Context with ``visible [G, V, D]`` (all N patches where a mask token stands for the hidden ones) and
            ``extra [G, E, D]``.

        Raises:
            InputError: There is a mask and the model cannot be kept from hidden patches, the images have another size
                than the encoder takes, or there is no such block.
        """
        name = type(self).__name__
        if mask is not None:
            images, mask = self._whole(images, mask)
        grid = patch_grid(images.shape[-2:], self.patch_size)
        if not self.any_size and grid != self.grid:  # in this order: a graph keeps what is asked of its sizes
            raise InputError(
                f'This {name} takes {self.grid[0]} x {self.grid[1]} patches only, got {grid[0]} x {grid[1]}: its '
                'positions are relative. Set its img_size, or resize the images.'
            )
        if depth == 0:
            raise InputError(f'{name} has no state before its first block: set depth to 1 or more.')
        keep = [layer_index(layer, self.depth) for layer in layers]
        end = (self.depth if depth is None else depth) - 1
        blocks = sorted({*keep, end})
        with ExitStack() as stack:
            if mask is not None:
                stack.enter_context(self._leaving_out(mask) if self.mask_token is None else self._hiding(mask))
            embedded = stack.enter_context(self._input_of_blocks()) if keep and self.stem_tokens == 1 else []
            states = dict(zip(blocks, self.states(in_precision_of(self, images), blocks), strict=True))
        last = self.norm(states[end])
        return Context(
            visible=last[:, self.num_extra_tokens :],
            extra=last[:, : self.num_extra_tokens],
            grid=grid,
            positions=_no_positions,
            hidden=tuple(states[index] for index in keep),
            num_cls_tokens=self.num_cls_tokens,
            embedded=next(iter(embedded), None),
            normed=self.normed,
        )

    @contextmanager
    def _input_of_blocks(self) -> Iterator[list[Tensor]]:
        """While it is open, what the first block gets is put into a list, ``[G, E + V, D]``."""
        found: list[Tensor] = []
        with self.blocks[0].register_forward_pre_hook(lambda block, inputs: found.append(inputs[0])):
            yield found

    def _whole(self, images: Tensor, mask: PatchMask) -> tuple[Tensor, PatchMask]:
        """Images whose patches touch each other, and the mask of them.

        Patches that lie in larger cells (Latent MIM) are put together to an image for every mask, ``[G, C, H, W]``;
        where a mask token is seen every mask has an image of its own, too.
        """
        if reason := self.mixes or (self.needs_all if self.mask_token is None else ''):
            raise InputError(
                f'{type(self).__name__}: {type(self.encoder).__name__} cannot leave out masked patches: {reason}. '
                'docs/en/students.md says which models can, and what else there is.'
            )
        if mask.offsets is None and (self.mask_token is None or len(images) == mask.num_masks):
            return images, mask
        own = torch.arange(mask.num_masks, device=images.device)
        if mask.offsets is None:
            return images[mask.image_index], replace(mask, image_index=own)
        patches = pick_patches(images, self.patch_size, mask.of_all.visible, mask)
        return unpatchify(patches, mask.grid, self.in_channels), replace(mask, image_index=own, offsets=None)

    def _leaving_out(self, mask: PatchMask) -> AbstractContextManager[Any]:
        """While it is open, the first block sees the extra tokens and the visible patches of each mask."""

        def pick(module: nn.Module, inputs: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            x, *rest = inputs
            extra, patches = x[:, : self.num_extra_tokens], x[:, self.num_extra_tokens :]
            seen = gather_patches(patches, mask.visible, mask.image_index)
            return (torch.cat([extra[mask.image_index], seen], dim=1), *rest), options

        return self.blocks[0].register_forward_pre_hook(pick, with_kwargs=True)

    def _hiding(self, mask: PatchMask) -> AbstractContextManager[Any]:
        """While it is open, the mask token stands in the place of patches that are not visible, before positions."""
        token = self.mask_token
        assert token is not None

        def hide(module: nn.Module, inputs: Any, output: Any) -> Any:
            x, *rest = output if isinstance(output, tuple) else (output,)
            seen = torch.zeros(mask.num_masks, mask.grid[0] * mask.grid[1], dtype=torch.bool, device=x.device)
            seen = seen.scatter(1, mask.visible, True).view(-1, *mask.grid)
            if self.stem_tokens > 1:
                seen = seen.repeat_interleave(self.stem_tokens, 1).repeat_interleave(self.stem_tokens, 2)
            if self.channels_first or isinstance(module, nn.Conv2d):
                seen, masked = seen.unsqueeze(1), token.view(1, -1, 1, 1)
            else:
                seen, masked = seen.view(*x.shape[:-1], 1), token
            x = torch.where(seen, x, masked.to(x.dtype))
            return (x, *rest) if isinstance(output, tuple) else x

        return self.patch_embedding.register_forward_hook(hide)


def _no_positions(index: Tensor) -> Tensor:
    raise InputError(
        'A neck asks the encoder for positions of patches, and encoders of other libraries tell none: use mmmim.ViT, '
        'or a neck with positions of its own (docs/en/students.md).'
    )


def load_foreign_weights(
    module: nn.Module, path: str | Path, prefix: str = '', adapt: Callable[..., dict[str, Tensor]] | None = None
) -> None:
    """Load another library's file into its model.

    Left out, and listed in the log, are only the parameters of a classifier that ``module`` has no place for and, in
    files of whole models, what lies outside ``prefix``.

    Args:
        module: The model that takes the weights.
        path: Local file: ``.safetensors``, or anything that torch reads with ``weights_only=True``.
        prefix: What the encoder's names begin with in files of whole models.
        adapt: Gives for the weights of the file and those of ``module`` weights under the names of ``module``.

    Raises:
        InputError: The file is missing, damaged or holds other things, or keys are missing, unexpected or mis-shaped.
    """
    state = read_foreign_weights(path)
    own = module.state_dict()
    inside = (under(state, prefix) if prefix else None) or state
    adapted = inside if adapt is None else adapt(inside, own)
    if adapted is not inside:
        print_log(f"{path} is in the layout of the model's authors.", logger='current')
        inside = state = adapted
    fitting = {key: value for key, value in inside.items() if key in own or not _CLASSIFIER.match(key)}
    load_state_dict(module, fitting, str(path))
    used = {prefix + key for key in fitting} if inside is not state else set(fitting)
    if left_out := [key for key in state if key not in used]:
        print_log(left_out_of(path, left_out), logger='current')


def left_out_of(path: str | Path, names: Sequence[str]) -> str:
    """What the log says of weights of a file that are no part of the encoder."""
    return f'Left out of {path}, not part of the encoder: {", ".join(names)}'


def read_foreign_weights(path: str | Path) -> dict[str, Tensor]:
    """Weights of another library's file, under the names that they have there.

    Raises:
        InputError: The file is missing, damaged, holds other things, or is a checkpoint of mmmim.
    """
    file = Path(path).expanduser()
    state: Any = load_checkpoint_file(file)
    if 'mmmim' in state:
        raise InputError(f'{file} is a checkpoint of mmmim, which brings its own encoder: name none beside it.')
    state = next((state[key] for key in ('state_dict', 'model') if isinstance(state.get(key), dict)), state)
    if wrong := [str(key) for key, value in state.items() if not isinstance(value, Tensor)]:
        raise InputError(f'{file} holds other things than weights: {", ".join(wrong[:5])}. {describe_layout(state)}')
    return state


def is_meta(module: nn.Module) -> bool:
    """Whether a model is built to be looked at only, without weights."""
    return next(module.parameters()).device == torch.device('meta')
