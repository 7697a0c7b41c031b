"""A decoder of convolutions (data2vec 2.0)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Prediction
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError
from mmmim.utils.options import Count, NonNegative

from ..interfaces import Neck, Sizes


class ConvolutionalLayer(nn.Module):
    """A grouped convolution, a norm of the channels without weights and GELU, in a residual where widths are equal.

    Args:
        in_dim: Width of the input.
        dim: Width of the output.
        kernel: Side of the kernel, odd.
        groups: Groups of channels that are convolved apart from each other.
    """

    def __init__(self, in_dim: int, dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, kernel, padding=kernel // 2, groups=groups)
        self.residual = in_dim == dim

    def forward(self, x: Tensor) -> Tensor:
        """``[G, in_dim, h, w]`` to ``[G, dim, h, w]``."""
        out = self.conv(x).movedim(1, -1)
        out = F.gelu(F.layer_norm(out, out.shape[-1:])).movedim(-1, 1)
        return x + out if self.residual else out


@MODELS.register_module()
class ConvolutionalDecoder(Neck):
    """Predicts masked patches by convolutions over the grid (data2vec 2.0, arXiv 2212.07525, section 3.2).

    Tokens of visible patches go back to their places; in the places of the others is noise, fresh in every step, and no
    mask token. Convolutions mix neighbours, and a linear layer makes predictions of the masked patches. A prediction of
    the global token is the encoder's first CLS as it is.

    Args:
        context_dim: Width D of the encoder.
        embed_dim: Width Dp of the convolutions.
        depth: Number of convolutions; the first one has a residual where Dp is D.
        kernel: Side of the kernels, odd.
        groups: Groups of channels that are convolved apart from each other; must divide both widths.
        out_dim: Width of the predictions.
        noise_std: Standard deviation of the noise.
        predict_cls: Whether to hand on CLS as a prediction of the global token.
        init_cfg: mmengine's initialisation config; None for none.

    Raises:
        InputError: The kernel is even, groups do not divide a width, or patches and CLS have different ones.
    """

    def __init__(
        self,
        context_dim: Count = 768,
        embed_dim: Count = 768,
        depth: Count = 6,
        kernel: Count = 3,
        groups: Count = 16,
        out_dim: Count = 768,
        noise_std: NonNegative = 0.01,
        predict_cls: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if kernel % 2 == 0:
            raise InputError(f'ConvolutionalDecoder.kernel={kernel}: an even kernel has no middle: use an odd number.')
        for name, width in (('context_dim', context_dim), ('embed_dim', embed_dim)):
            if width % groups:
                raise InputError(f'ConvolutionalDecoder.groups={groups} does not divide {name}={width}: change one.')
        if predict_cls and out_dim != context_dim:
            raise InputError(
                f'ConvolutionalDecoder.out_dim={out_dim} must be context_dim={context_dim} where CLS is handed on as a '
                'prediction: change it, or set predict_cls=False.'
            )
        self.context_dim, self.out_dim, self.noise_std, self.predict_cls = context_dim, out_dim, noise_std, predict_cls
        widths = [context_dim] + [embed_dim] * depth
        self.convolutions = nn.ModuleList(ConvolutionalLayer(*pair, kernel, groups) for pair in pairwise(widths))
        self.proj = nn.Linear(embed_dim, out_dim)

    def sizes(self) -> Sizes:
        """Widths of the encoder and of the predictions."""
        return {'width': ('context_dim', self.context_dim), 'prediction width': ('out_dim', self.out_dim)}

    def noise(self, like: Tensor, number: int) -> Tensor:
        """What stands in the places of ``number`` patches, ``[G, N, D]``, for tokens ``[G, V, D]``."""
        return self.noise_std * torch.randn(like.shape[0], number, like.shape[2], dtype=like.dtype, device=like.device)

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict.

        Args:
            context: Encoder output, ``visible [G, V, D]``.
            mask: Mask that says which patches these are, and which are predicted.

        Returns:
            ``patches [G, T*M, out_dim]`` and, where it is predicted, ``cls [G, D]``.

        Raises:
            InputError: The global token is to be predicted, and the encoder has no CLS.
        """
        tokens, (height, width) = context.seen(mask), context.grid
        noise = self.noise(tokens, height * width)
        index = mask.visible.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
        x = noise.scatter(1, index, tokens).transpose(1, 2).unflatten(2, (height, width))
        for layer in self.convolutions:
            x = layer(x)
        x = gather_patches(x.flatten(2).transpose(1, 2), mask.flat_predict())
        if self.predict_cls and not context.num_cls_tokens:
            raise InputError('ConvolutionalDecoder.predict_cls=True: model.backbone has no CLS: set num_cls_tokens=1.')
        return Prediction(patches=self.proj(x), cls=context.cls[:, 0] if self.predict_cls else None)
