"""Learned tokenizers of mmpretrain, with their published weights."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.checkpoints import load_checkpoint_file, load_state_dict, weights_of
from mmmim.config.downloads import LocalWeights
from mmmim.config.weights import published
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.options import Count

from ..functional import nearest
from ..interfaces import Tokenizer

# mmpretrain's models are imported where they are built: that takes seconds.

#: What these modules hold beside weights, and files may lack: how often tokens were used.
_STATISTICS = ('quantize.cluster_size', 'quantize.embedding.cluster_size')


def _resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """``[B, 3, H, W]`` in [0, 1] at another size (bicubic, antialiased)."""
    if pixels.shape[-2:] == size:
        return pixels
    return F.interpolate(pixels, size=size, mode='bicubic', align_corners=False, antialias=True).clamp(0, 1)


def _load(module: nn.Module, weights: str | None, tokenizer: str, file: str) -> None:
    """Load published weights; none on the meta device, where there are sizes only.

    Raises:
        InputError: There is no file, or weights are missing or of another shape.
    """
    if torch.get_default_device().type == 'meta':
        return
    if weights is None:
        raise InputError(
            f'{tokenizer}.weights is not set: it needs {file}, which OpenMMLab publishes with its BEiT configs '
            f"(mmselfsup/1.x/target_generator_ckpt). Put it anywhere, e.g. weights='checkpoints/{file}', or name it to "
            f"have it downloaded, weights='{Path(file).stem}'."
        )
    if (row := published(weights)) is not None and not Path(weights).exists():
        if row.tokenizer != f'mmmim.{tokenizer}':
            raise InputError(f"{tokenizer}.weights={weights!r} is {row.what}: use '{Path(file).stem}'.")
        weights = str(LocalWeights(row).fetch())
    try:
        checkpoint = load_checkpoint_file(weights)
    except InputError as error:
        raise InputError(f'{tokenizer}.weights, which is {file} of OpenMMLab: {error}') from error
    own = module.state_dict()
    state = {key: value for key, value in weights_of(checkpoint, weights).items() if key in own}
    state |= {key: own[key] for key in _STATISTICS if key in own and key not in state}
    load_state_dict(module, state, weights)


@MODELS.register_module()
class DalleTokenizer(Tokenizer):
    """The encoder of DALL-E's discrete autoencoder, BEiT's tokenizer (arXiv 2106.08254, section 2.1).

    It sees every patch as 8 x 8 pixels: at half of the resolution for patches of 16. The picture is reduced from that
    of the encoder by a bicubic filter; BEiT's pipeline reduces the original to the same crop by a Lanczos filter.

    Args:
        weights: The file ``dalle_encoder.pth`` of OpenMMLab, or 'dalle_encoder' to have it downloaded.
        num_tokens: Number of tokens, K.
        hidden_dim: Width of the first of the encoder's four stages.
        untrained: Random weights, whose tokens mean nothing: for tests.

    Raises:
        InputError: There is no file, or it does not fit.
    """

    in_channels = 3

    def __init__(
        self, weights: str | None = None, num_tokens: Count = 8192, hidden_dim: Count = 256, untrained: bool = False
    ) -> None:
        from mmpretrain.models.selfsup.cae import DALLEEncoder

        super().__init__()
        self.num_tokens = num_tokens
        self.encoder = DALLEEncoder(n_hid=hidden_dim, vocab_size=num_tokens)
        if not untrained:
            _load(self.encoder, weights, 'DalleTokenizer', 'dalle_encoder.pth')

    @torch.no_grad()
    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens ``[B, N]`` of ``pixels [B, 3, H, W]`` in [0, 1]."""
        picture = _resized(pixels, (8 * grid[0], 8 * grid[1]))
        # The range that the autoencoder was trained on (arXiv 2102.12092, appendix A.3).
        return self.encoder(0.8 * picture + 0.1).argmax(dim=1).flatten(1)


@MODELS.register_module()
class VQKDTokenizer(Tokenizer):
    """The tokenizer of BEiT v2, which was distilled from CLIP (arXiv 2208.06366).

    It sees every patch as 16 x 16 pixels.

    Args:
        weights: The file ``vqkd_encoder.pth`` of OpenMMLab, or 'vqkd_encoder' to have it downloaded.
        num_tokens: Number of tokens, K.
        arch: Size of the encoder: 'base', or mmpretrain's dict of another.
        grid: ``(h, w)`` in patches that the weights are of.
        untrained: Random weights, whose tokens mean nothing: for tests.

    Raises:
        InputError: There is no file, or it does not fit.
    """

    in_channels = 3

    def __init__(
        self,
        weights: str | None = None,
        num_tokens: Count = 8192,
        arch: str | dict = 'base',
        grid: tuple[Count, Count] = (14, 14),
        untrained: bool = False,
    ) -> None:
        from mmpretrain.models.selfsup.beit import VQKD

        super().__init__()
        self.num_tokens = num_tokens
        encoder: dict[str, Any] = {
            'arch': arch,
            'img_size': (16 * grid[0], 16 * grid[1]),
            'patch_size': 16,
            'norm_cfg': {'type': 'LN', 'eps': 1e-6},
            'out_type': 'featmap',
            'use_abs_pos_emb': True,
            'use_rel_pos_bias': False,
            'layer_scale_init_value': 0.0,
        }
        self.encoder = VQKD(encoder, num_embed=num_tokens, quantize_kmeans_init=False)
        if not untrained:
            _load(self.encoder, weights, 'VQKDTokenizer', 'vqkd_encoder.pth')

    @torch.no_grad()
    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens ``[B, N]`` of ``pixels [B, 3, H, W]`` in [0, 1]."""
        # The parts of VQKD without its statistics, which it updates and sums over processes in eval mode.
        features = self.encoder.encoder(2 * _resized(pixels, (16 * grid[0], 16 * grid[1])) - 1)[0]
        codes = F.normalize(self.encoder.encode_task_layer(features.flatten(2).transpose(1, 2)), dim=-1)
        return nearest(codes, self.encoder.quantize.embedding.weight)
