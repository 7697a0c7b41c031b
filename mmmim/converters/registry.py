"""The layouts that can be converted, by name, and which of them a file is in.

Importing this module is cheap: command lines read it before they import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mmmim.utils import InputError


@dataclass(frozen=True)
class Converter:
    """A converter: a module of this package with ``detect``, ``convert_checkpoint`` and ``describe``.

    Attributes:
        name: Name of the module.
        what: What it converts, a phrase for help and messages.
        example: Name of a file that it converts, as an example.
        options: Arguments of its ``convert_checkpoint`` that a user may set.
        version: Raised when the same file gives another result: what was converted before is then converted anew.
    """

    name: str
    what: str
    example: str
    options: tuple[str, ...] = ()
    version: int = 1

    @property
    def module(self) -> Any:
        """The module, imported when it is first asked for."""
        return import_module(f'{__package__}.{self.name}')

    def detect(self, checkpoint: Mapping[str, Any]) -> bool:
        """Whether a file is in this layout, from its names of weights.

        Args:
            checkpoint: What the file holds.
        """
        return self.module.detect(checkpoint)

    def convert(self, checkpoint: Mapping[str, Any], source: str, **options: Any) -> dict[str, Any]:
        """Convert what a file holds.

        Args:
            checkpoint: What the file holds.
            source: Name of the file, for error messages.
            **options: Some of :attr:`options`.

        Returns:
            A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

        Raises:
            InputError: Keys that are unknown, missing or of a wrong shape.
        """
        return self.module.convert_checkpoint(checkpoint, source, **options)

    def describe(self, converted: Mapping[str, Any]) -> str:
        """Sizes and parts of a converted checkpoint, in words."""
        return self.module.describe(converted)


_HEADS = ('num_heads', 'decoder_num_heads')
#: All converters, by name.
CONVERTERS = {
    converter.name: converter
    for converter in (
        Converter('capi', "weights released by CAPI's authors", 'capi_vitl14_lvd.pth'),
        Converter('crossmae', "weights released by CrossMAE's authors", 'CROSSMAE.pth', (*_HEADS, 'normalize')),
        Converter('data2vec', "training checkpoint of data2vec's authors, for images", 'checkpoint-799.pth'),
        Converter(
            'ijepa', "training checkpoint of I-JEPA's authors", 'IN1K-vit.h.14-300e.pth.tar', ('num_heads', 'encoder')
        ),
        Converter('latent_mim', "training checkpoint of Latent MIM's authors", 'checkpoint_0800.pth', _HEADS),
        Converter(
            'mae',
            'weights of MAE in the layout of its authors or of mmpretrain',
            'mae_pretrain_vit_base.pth',
            (*_HEADS, 'normalize'),
        ),
        Converter('mff', 'weights of MFF in the layout of mmpretrain', 'mff_vit-base-p16.pth', (*_HEADS, 'normalize')),
        Converter('pilamim', "training checkpoint of PiLaMIM's authors", 'pilamim_base_imagenet1k-799.pt', _HEADS),
        Converter(
            'semantic_mim',
            "training checkpoint of SemanticMIM's plug-in for mmpretrain (BEiT or MaskFeat)",
            'epoch_300.pth',
            ('num_heads',),
        ),
        Converter(
            'simmim', 'weights of SimMIM with a Swin Transformer in the layout of mmpretrain', 'simmim_swin-base-w6.pth'
        ),
    )
}


def find_converter(checkpoint: Mapping[str, Any], source: str) -> Converter:
    """The one converter that claims a file.

    Args:
        checkpoint: What the file holds.
        source: Name of the file, for error messages.

    Raises:
        InputError: No converter claims it, or more than one.
    """
    if 'mmmim' in checkpoint:
        raise InputError(f'{source} is a checkpoint of mmmim already: there is nothing to convert.')
    found = [converter for converter in CONVERTERS.values() if converter.detect(checkpoint)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f'{source} has names of several layouts ({", ".join(converter.name for converter in found)}): say which '
            'by --from NAME.'
        )
    from mmmim.checkpoints.layouts import describe_layout

    raise InputError(
        f'{source} is in none of the layouts that can be converted ({", ".join(CONVERTERS)}). '
        f'{describe_layout(checkpoint)} With --from NAME it is read as one of them, and what does not fit is named.'
    )
