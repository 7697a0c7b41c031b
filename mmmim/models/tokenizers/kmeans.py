"""A tokenizer made of nothing but the training images: k-means of patches."""

from typing import Any

import torch
from torch import Tensor

from mmmim.checkpoints import check_values, load_checkpoint_file
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.options import Count

from ..functional import nearest
from ..interfaces import Tokenizer
from ..layers import patchify
from ..target_generators.pixels import patch_statistics


def standardised_patches(pixels: Tensor, patch_size: int) -> Tensor:
    """Patches without their mean and standard deviation over pixels and colours.

    Args:
        pixels: ``[B, C, H, W]`` in [0, 1].
        patch_size: Side of a patch in pixels.

    Returns:
        ``[B, N, C * patch_size**2]``.
    """
    patches = patchify(pixels, patch_size)
    mean, std = patch_statistics(patches)
    return (patches - mean) / std


def fit_codebook(patches: Tensor, num_tokens: int, seed: int) -> Tensor:
    """Centres of clusters, by k-means on small batches (scikit-learn).

    Args:
        patches: ``[n, D]`` of :func:`standardised_patches`.
        num_tokens: Number of tokens, K.
        seed: Seed of the first centres and of the batches.

    Returns:
        ``[K, D]``.

    Raises:
        InputError: There are fewer patches than tokens.
    """
    from sklearn.cluster import MiniBatchKMeans

    if len(patches) < num_tokens:
        raise InputError(f'{len(patches)} patches are too few for {num_tokens} tokens: use more images.')
    batch = max(1024, 4 * num_tokens)
    means = MiniBatchKMeans(num_tokens, random_state=seed, batch_size=batch, n_init=1).fit(patches.numpy())
    return torch.from_numpy(means.cluster_centers_).float()


@MODELS.register_module()
class KMeansTokenizer(Tokenizer):
    """The nearest of K patterns, found by k-means in the patches of a training set.

    A stand-in for learned tokenizers that needs no download: it knows brightness patterns of single patches, not what
    they show. ``tools/misc/fit_patch_codebook.py`` fits one.

    Args:
        codebook: File that the tool has written.
        num_tokens: K, that of the file.
        patch_size: Side of a patch in pixels, that of the file.
        untrained: Random patterns, which mean nothing: for tests.
        in_channels: Channels of the images, those of the file.

    Raises:
        InputError: There is no file, or it is another codebook.
    """

    centres: Tensor

    def __init__(
        self,
        codebook: str | None = None,
        num_tokens: Count = 512,
        patch_size: Count = 16,
        untrained: bool = False,
        in_channels: Count = 3,
    ) -> None:
        super().__init__()
        self.num_tokens, self.patch_size, self.in_channels = num_tokens, patch_size, in_channels
        size = (num_tokens, in_channels * patch_size**2)
        # On the meta device there are sizes only, and the file is not read.
        sizes_only = torch.get_default_device().type == 'meta'
        self.register_buffer('centres', torch.randn(size) if untrained or sizes_only else _read(codebook, size))

    @torch.no_grad()
    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens ``[B, N]`` of ``pixels [B, C, H, W]`` in [0, 1], for a grid of patches of the codebook's size."""
        return nearest(standardised_patches(pixels, self.patch_size), self.centres)


def _read(codebook: str | None, size: tuple[int, int]) -> Tensor:
    tool = f'python tools/misc/fit_patch_codebook.py CONFIG FILE --codes {size[0]}'
    if codebook is None:
        raise InputError(f'KMeansTokenizer.codebook is not set: {tool} writes such a file.')
    try:
        file: dict[str, Any] = load_checkpoint_file(codebook)
    except InputError as error:
        raise InputError(f'KMeansTokenizer.codebook: {error} {tool} writes it.') from error
    centres = file.get('centres')
    if not isinstance(centres, Tensor) or centres.ndim != 2:
        raise InputError(f'KMeansTokenizer: {codebook} is no codebook: {tool} writes one.')
    if centres.shape != size:
        raise InputError(
            f'KMeansTokenizer: {codebook} has {centres.shape[0]} patterns of {centres.shape[1]} values, and num_tokens '
            f'and patch_size ask for {size[0]} of {size[1]}: change them (or in_channels), or fit another codebook.'
        )
    check_values({'centres': centres}, f'KMeansTokenizer: {codebook}', {'centres': torch.empty(0)})
    return centres.float()
