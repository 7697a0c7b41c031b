"""Files that mmmim itself reads again."""

from __future__ import annotations

from mmmim.checkpoints import save_checkpoint_file
from mmmim.checkpoints.safetensors_file import write_safetensors

from .formats import Export


def write_backbone(export: Export) -> str:
    """The encoder alone: no predictor, head, teacher or state of an optimiser."""
    extractor = export.extractor
    content = {
        'state_dict': extractor.named_state(with_predictor=False),
        'meta': {},
        'mmmim': extractor.description(with_predictor=False),
    }
    save_checkpoint_file(content, export.out)
    return f"mmmim.get_model('{export.out}'), --pretrained {export.out}, --init {export.out}"


def write_safetensors_file(export: Export) -> str:
    """Encoder and predictor, with their description as JSON in the metadata of the file."""
    write_safetensors(export.out, export.extractor.named_state(), export.extractor.description())
    return f"mmmim.get_model('{export.out}'), --pretrained {export.out}, --init {export.out}"
