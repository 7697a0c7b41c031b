"""Images from nowhere, for measurements."""

from typing import Any, ClassVar

import torch
from torch.utils.data import Dataset

from mmmim.registry import DATASETS
from mmmim.utils.options import Count, Size


@DATASETS.register_module()
class SyntheticImages(Dataset):
    """Noise images that lie in memory: what loading and decoding do not cost.

    Args:
        size: Side, or (height, width), in pixels.
        number: Length of the data set; all samples share few images.
        channels: Channels of the images.
    """

    metainfo: ClassVar[dict] = {}

    def __init__(self, size: Size = 224, number: Count = 1_000_000, channels: Count = 3) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        rng = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (8, channels, height, width), dtype=torch.uint8, generator=rng)
        self.number = number

    def __len__(self) -> int:
        """As if there were so many."""
        return self.number

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample as ``mmpretrain.PackInputs`` returns it, without annotations."""
        return {'inputs': self.images[index % len(self.images)], 'data_samples': None}
