"""CAPI's sweep: heads of several rates and weight decays on several kinds of features, trained as one computation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.options import Count, Members, NonNegative, Positive

#: Channels of a head of attention.
HEAD_DIM = 64


def grid(rates: Iterable[float], decays: Iterable[float]) -> list[tuple[float, float]]:
    """Pairs of a rate and a weight decay in the order of the heads: the decay changes first."""
    return list(product(rates, decays))


def probe_sources(global_feature: Tensor, patches: Tensor) -> dict[str, Tensor]:
    """The features that CAPI probes (arXiv 2502.08769), in the order of its heads.

    Args:
        global_feature: The feature of the whole image, ``[B, D_g]``.
        patches: Features of all patches, ``[B, N, D]``.

    Returns:
        ``cls``, ``avg_patch`` (their mean), ``cls_avg_patch`` (both) and ``patch``, whose heads attend.
    """
    mean = patches.mean(dim=1)
    return {
        'cls': global_feature,
        'avg_patch': mean,
        'cls_avg_patch': torch.cat([global_feature, mean], dim=1),
        'patch': patches,
    }


class LinearHeads(nn.Module):
    """G linear layers side by side.

    Args:
        heads: Number of layers G.
        dim: Width D of the features.
        num_classes: Number of classes C.
        std: Deviation of the initial weights, normal and cut at 2.
    """

    def __init__(self, heads: int, dim: int, num_classes: int, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads, num_classes, dim), std=std))
        self.bias = nn.Parameter(torch.zeros(heads, num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``[B, G, C]`` of features ``[B, D]``, by one product of matrices."""
        logits = F.linear(features, self.weight.flatten(0, 1), self.bias.flatten())
        return logits.unflatten(1, self.bias.shape)

    def of_own(self, features: Tensor) -> Tensor:
        """Logits ``[B, G, C]`` of features of each layer's own, ``[G, B, D]``."""
        return torch.baddbmm(self.bias[:, None], features, self.weight.transpose(1, 2)).transpose(0, 1)


class AttentiveHeads(nn.Module):
    """G attentive probes side by side: a learned query attends to all tokens, a linear layer takes what it gathers.

    ``softmax(q_h . k_h / 8)`` over the tokens in each of ``D / 64`` heads of attention, with ``[k | v] = W x + b``; no
    norm, residual or output projection (CAPI, arXiv 2502.08769). Keys and values are never computed: ``q . W_k x`` is
    ``(W_k^T q) . x``, and the weighted sum of values is ``W_v`` times that of the tokens, as weights sum to 1. A key's
    bias adds the same to the scores of all tokens: it has no effect and no gradient, and stands for the layout alone.
    With heads of another width than 64, 8 is the root of that.

    Args:
        heads: Number of probes G.
        dim: Width D of the tokens, a multiple of ``head_dim``.
        num_classes: Number of classes C.
        std: Deviation of the initial weights and queries, normal and cut at 2.
        head_dim: Channels of a head of attention.

    Raises:
        InputError: The width is no multiple of ``head_dim``.
    """

    def __init__(self, heads: int, dim: int, num_classes: int, std: float = 0.02, head_dim: int = HEAD_DIM) -> None:
        super().__init__()
        if dim % head_dim:
            raise InputError(
                f'Attentive probes have heads of {head_dim} channels, which do not divide {dim}: set another '
                'model.head.head_dim.'
            )
        self.head_dim = head_dim
        self.query_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads, dim), std=std))
        self.kv = LinearHeads(heads, dim, 2 * dim, std)
        self.linear = LinearHeads(heads, dim, num_classes, std)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``[B, G, C]`` of tokens ``[B, N, D]``."""
        g, d = self.query_token.shape
        keys, values = (weight.reshape(-1, self.head_dim, d) for weight in self.kv.weight.chunk(2, dim=1))
        query = self.query_token.reshape(-1, 1, self.head_dim) * self.head_dim**-0.5
        scores = F.linear(tokens, torch.bmm(query, keys).squeeze(1))  # [B, N, G heads]
        gathered = torch.bmm(scores.softmax(dim=1).transpose(1, 2), tokens)  # [B, G heads, D]
        pooled = torch.bmm(gathered.transpose(0, 1), values.transpose(1, 2))  # [G heads, B, 64]
        pooled = pooled.unflatten(0, (g, -1)).transpose(1, 2).flatten(2) + self.kv.bias[:, None, d:]
        return self.linear.of_own(pooled)


@MODELS.register_module()
class ProbeSweep(nn.Module):
    """Probes of several kinds of features, of each as many as a grid of settings has; heads never see each other.

    Train it with :class:`mmmim.HeadAdamW` or :class:`mmmim.HeadSGD`: as the head of a :class:`mmmim.ProbeClassifier`
    with ``optim_wrapper.constructor='mmmim.SweepOptimWrapperConstructor'``, which gives them the rates and decays, or
    by :func:`mmmim.evaluation.probes.trained.train_probe`.

    Args:
        shapes: Shapes of the features by source, without the batch: ``(D,)`` is read by linear heads, ``(N, D)``,
            whatever N, by attentive ones.
        num_classes: Number of classes C.
        rates: Learning rates of the grid.
        decays: Weight decays of the grid, of which every rate has each.
        std: Deviation of the initial weights, normal and cut at 2.
        head_dim: Channels of a head of attention.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        num_classes: Count,
        rates: Annotated[Sequence[Positive], Members(1)],
        decays: Annotated[Sequence[NonNegative], Members(1)] = (0.0,),
        std: Positive = 0.02,
        head_dim: Count = HEAD_DIM,
    ) -> None:
        super().__init__()
        self.num_classes, self.grid = num_classes, grid(rates, decays)
        number = len(self.grid)
        self.probes = nn.ModuleDict(
            {
                source: AttentiveHeads(number, shape[-1], num_classes, std, head_dim)
                if len(shape) == 2
                else LinearHeads(number, shape[-1], num_classes, std)
                for source, shape in shapes.items()
            }
        )

    @property
    def sources(self) -> list[str]:
        """The source of every head, ``K = sources x G`` of them, in the order of the logits."""
        return [source for source in self.probes for _ in self.grid]

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Learning rate and weight decay of every head, ``[K]``."""
        return [{'lr': rate, 'weight_decay': decay} for _ in self.probes for rate, decay in self.grid]

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[B, K, C]`` of the features by source."""
        return torch.cat([probe(features[source]) for source, probe in self.probes.items()], dim=1)

    def decaying(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters that decay, and those that do not, the biases."""
        named = list(self.named_parameters())
        return [p for n, p in named if 'bias' not in n], [p for n, p in named if 'bias' in n]
