"""CAPI's sweep: heads of several rates and weight decays on several kinds of features, trained as one computation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.utils import InputError

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

    Args:
        heads: Number of probes G.
        dim: Width D of the tokens, a multiple of 64.
        num_classes: Number of classes C.
        std: Deviation of the initial weights and queries, normal and cut at 2.

    Raises:
        InputError: The width is no multiple of 64.
    """

    def __init__(self, heads: int, dim: int, num_classes: int, std: float = 0.02) -> None:
        super().__init__()
        if dim % HEAD_DIM:
            raise InputError(f'Attentive probes have heads of {HEAD_DIM} channels, which do not divide {dim}.')
        self.query_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads, dim), std=std))
        self.kv = LinearHeads(heads, dim, 2 * dim, std)
        self.linear = LinearHeads(heads, dim, num_classes, std)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``[B, G, C]`` of tokens ``[B, N, D]``."""
        g, d = self.query_token.shape
        keys, values = (weight.reshape(-1, HEAD_DIM, d) for weight in self.kv.weight.chunk(2, dim=1))
        query = self.query_token.reshape(-1, 1, HEAD_DIM) * HEAD_DIM**-0.5
        scores = F.linear(tokens, torch.bmm(query, keys).squeeze(1))  # [B, N, G heads]
        gathered = torch.bmm(scores.softmax(dim=1).transpose(1, 2), tokens)  # [B, G heads, D]
        pooled = torch.bmm(gathered.transpose(0, 1), values.transpose(1, 2))  # [G heads, B, 64]
        pooled = pooled.unflatten(0, (g, -1)).transpose(1, 2).flatten(2) + self.kv.bias[:, None, d:]
        return self.linear.of_own(pooled)


class ProbeSweep(nn.Module):
    """Probes of several kinds of features, of each as many as a grid of settings has; heads never see each other.

    Train it with :class:`mmmim.engine.HeadAdamW` and :func:`mmmim.evaluation.probes.trained.train_probe`.

    Args:
        shapes: Shapes of the features by source, without the batch: ``(D,)`` is read by linear heads, ``(N, D)`` by
            attentive ones.
        settings: Number of settings G.
        num_classes: Number of classes C.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], settings: int, num_classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.probes = nn.ModuleDict(
            {
                source: (AttentiveHeads if len(shape) == 2 else LinearHeads)(settings, shape[-1], num_classes)
                for source, shape in shapes.items()
            }
        )

    @property
    def sources(self) -> list[str]:
        """The source of every head, ``K = sources x G`` of them, in the order of the logits."""
        return [source for source in self.probes for _ in range(self.settings)]

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[B, K, C]`` of the features by source."""
        return torch.cat([probe(features[source]) for source, probe in self.probes.items()], dim=1)

    def decaying(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters that decay, and those that do not, the biases."""
        named = list(self.named_parameters())
        return [p for n, p in named if 'bias' not in n], [p for n, p in named if 'bias' in n]
