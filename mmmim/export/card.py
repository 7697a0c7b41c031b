"""The page beside an exported model."""

from __future__ import annotations

import json
from pathlib import Path

from mmmim.utils.atomic import write_text_atomically
from mmmim.version import __version__

from .formats import Export
from .twins import Facts


def write_card(export: Export, facts: Facts, library: str, use: str, remarks: list[str]) -> None:
    """Write the model card, ``README.md`` of a folder.

    Args:
        export: What is exported.
        facts: What the exported encoder is made of.
        library: Name of the library on the Hugging Face Hub.
        use: Python code that loads the folder.
        remarks: Sentences about what differs from the encoder of mmmim.
    """
    vit = facts.vit
    kind = export.extractor.kind
    weights = 'with random weights' if kind is None else f'({kind} weights), pre-trained without labels'
    tokens = f'{vit.num_cls_tokens} CLS token(s) or proxies, {facts.num_registers} register(s)'
    lines = [
        '---',
        f'library_name: {library}',
        'pipeline_tag: image-feature-extraction',
        'tags:',
        '- mmmim',
        '- masked-image-modeling',
        '---',
        '',
        f'# {Path(export.source).stem}',
        '',
        f'The encoder of `{Path(export.source).name}` {weights}. Exported by mmmim {__version__}; it has '
        'no classifier.',
        '',
        '```python',
        use,
        '```',
        '',
        f'- **Model:** Vision Transformer, {vit.depth} blocks of width {vit.embed_dim}, {facts.heads} heads, patches '
        f'of {vit.patch_size} pixels, {tokens}.',
        f'- **Images:** RGB in the 0-1 range, normalised with mean {facts.mean} and standard deviation {facts.std}; '
        f'trained on {facts.image_size[0]} x {facts.image_size[1]} pixels.',
        *(f'- {remark}' for remark in remarks),
        '',
        'The architecture as mmmim describes it:',
        '',
        '```json',
        json.dumps(export.extractor.config['backbone'], indent=2),
        '```',
        '',
    ]
    write_text_atomically('\n'.join(lines), export.out / 'README.md')
