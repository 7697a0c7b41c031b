"""What images a config trains on."""

from __future__ import annotations

from typing import Any


def training_channels(cfg: Any) -> int:
    """Channels of a config's training images: the encoder's."""
    return cfg.model.get('backbone', {}).get('in_channels', 3)


def training_image_size(cfg: Any) -> tuple[int, int]:
    """Height and width of a config's training images: the encoder's, with room for gaps between patches."""
    size, collate = cfg.model.get('backbone', {}).get('img_size', 224), cfg.train_dataloader.get('collate_fn') or {}
    patch, gap = collate.get('patch_size', 1), collate.get('gap', 0)
    height, width = [size] * 2 if isinstance(size, int) else size
    return (height // patch * (patch + gap), width // patch * (patch + gap)) if gap else (height, width)
