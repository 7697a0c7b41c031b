"""What the independent implementations of the methods share; nothing here, or in them, is imported from mmmim.

They exist to make recordings of other sizes than those in ``tests/data``, for mmmim to replay. Every detail is written
the slow and literal way, on tables of weights in the layout of the recordings (attention as a softmax, patches cut out
one after the other, AdamW as its formula), in float64, so that what a comparison shows is the rounding of the other
side only.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch

# ------------------------------------------------------------------------------------------------------- network


def linear(w, name, x):
    out = x @ w[f'{name}.weight'].T
    return out + w[f'{name}.bias'] if f'{name}.bias' in w else out


def standardise(x, eps):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()


def layer_norm(w, name, x, eps):
    return standardise(x, eps) * w[f'{name}.weight'] + w[f'{name}.bias']


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def attention_weights(q, k):
    """``[..., L, d]`` and ``[..., C, d]`` to ``[..., L, C]``."""
    return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)


def heads_of(x, heads):
    """``[B, L, D]`` to ``[B, heads, L, D / heads]``."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(q, k, v, heads):
    q, k, v = (heads_of(x, heads) for x in (q, k, v))
    return (attention_weights(q, k) @ v).transpose(1, 2).flatten(2)


def self_attention(w, name, x, heads):
    return linear(w, f'{name}.proj', attend(*linear(w, f'{name}.qkv', x).chunk(3, -1), heads))


def mlp(w, name, x):
    return linear(w, f'{name}.fc2', gelu(linear(w, f'{name}.fc1', x)))


def block(w, name, x, heads, eps):
    x = x + self_attention(w, f'{name}.attn', layer_norm(w, f'{name}.norm1', x, eps), heads)
    return x + mlp(w, f'{name}.mlp', layer_norm(w, f'{name}.norm2', x, eps))


def take(x, index):
    """``[B, L, ...]``, or ``[1, L, ...]`` for all, at ``[B, M]``."""
    return torch.stack([x[b % len(x)][row] for b, row in enumerate(index)])


def unit(x, eps=1e-12):
    return x / x.norm(dim=-1, keepdim=True).clamp(min=eps)


def cut(images, patch):
    """Squares of images, raster order: ``[B, N, 3, patch, patch]``."""
    rows, columns = (range(0, side - patch + 1, patch) for side in images.shape[-2:])
    corners = [(i, j) for i in rows for j in columns]
    return torch.stack([images[:, :, i : i + patch, j : j + patch] for i, j in corners], 1)


def embed(w, name, squares):
    """A convolution of kernel and stride ``patch``, on what :func:`cut` gives."""
    return squares.flatten(2) @ w[f'{name}.weight'].flatten(1).T + w[f'{name}.bias']


# --------------------------------------------------------------------------------------------------------- steps


def norm(*tensors):
    return math.sqrt(sum(tensor.detach().double().square().sum().item() for tensor in tensors))


def gradients_of(w, is_trained, loss_function):
    """Loss and gradients of the trained weights that it depends on."""
    for name in w:
        w[name] = w[name].detach().requires_grad_(is_trained(name))
    trained = {name: value for name, value in w.items() if value.requires_grad}
    loss = loss_function(w)
    found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return loss.detach(), {name: g for name, g in zip(trained, found, strict=True) if g is not None}


def adamw(w, gradients, state, step, options, betas, eps):
    """Step number ``step``, from 1; ``options`` gives the rate and the decay of a weight, by name and value."""
    for name, gradient in gradients.items():
        first, second = state.get(name, (torch.zeros_like(gradient),) * 2)
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient.square()
        state[name] = first, second
        value = w[name].detach()
        lr, decay = options(name, value)
        mean, square = first / (1 - betas[0] ** step), second / (1 - betas[1] ** step)
        w[name] = value * (1 - lr * decay) - lr * mean / (square.sqrt() + eps)


def average(w, momentum, student='encoder.', teacher='target_encoder.'):
    """Move the teacher."""
    for name in w:
        if name.startswith(teacher):
            moved = w[student + name.removeprefix(teacher)].detach()
            w[name] = momentum * w[name].detach() + (1 - momentum) * moved


# ---------------------------------------------------------------------------------------------------- recordings


class Draw:
    """Tables of new weights of layers: ``matrix`` and ``bias`` make them of rows and columns; biases start at zero."""

    def __init__(self, generator, matrix, bias=None):
        self.generator, self.matrix = generator, matrix
        self.bias = bias or (lambda rows, columns: torch.zeros(rows, dtype=torch.float64))

    def normal(self, *shape, std=0.02):
        return std * torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def full(self, name, rows, columns):
        return {f'{name}.weight': self.matrix(rows, columns), f'{name}.bias': self.bias(rows, columns)}

    @staticmethod
    def normed(name, dim):
        ones = torch.ones(dim, dtype=torch.float64)
        return {f'{name}.weight': ones, f'{name}.bias': torch.zeros_like(ones)}

    def two_layers(self, name, dim):
        return self.full(f'{name}.fc1', 4 * dim, dim) | self.full(f'{name}.fc2', dim, 4 * dim)

    def blocks(self, name, depth, dim, qkv_bias=True):
        w = {}
        for prefix in (f'{name}.{i}' for i in range(depth)):
            w |= self.normed(f'{prefix}.norm1', dim)
            if qkv_bias:
                w |= self.full(f'{prefix}.attn.qkv', 3 * dim, dim)
            else:
                w[f'{prefix}.attn.qkv.weight'] = self.matrix(3 * dim, dim)
            w |= self.full(f'{prefix}.attn.proj', dim, dim) | self.normed(f'{prefix}.norm2', dim)
            w |= self.two_layers(f'{prefix}.mlp', dim)
        return w


def uniform(generator, *shape):
    """In [-1, 1)."""
    return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1


def xavier(generator):
    return lambda rows, columns: uniform(generator, rows, columns) * math.sqrt(6 / (rows + columns))


def perturbed(w, std, generator, fixed=()):
    """Weights that no longer start at a constant, so that no two encoders are equal, by the names of a recording."""
    return {
        name: value
        if name.endswith(fixed or 'nothing')
        else value + std * torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for name, value in w.items()
    }


def random_images(batch, height, width, generator):
    """Noise and something smooth, so that the patches of an image resemble each other as they do in photographs."""
    smooth = torch.randn(batch, 3, 3, 3, generator=generator)
    smooth = torch.nn.functional.interpolate(smooth, (height, width), mode='bilinear')
    return (0.5 * torch.randn(batch, 3, height, width, generator=generator) + smooth).numpy()


def table(arrays, prefix):
    """Recorded weights."""
    return {key.removeprefix(prefix): torch.tensor(a).double() for key, a in arrays.items() if key.startswith(prefix)}


def as_recorded(value):
    """Tensors in single precision."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.detach().numpy().astype(np.float32 if value.is_floating_point() else np.int32)


def write(path, arrays, settings):
    """``path`` (.npz) and the .json beside it; returns ``path``."""
    path = Path(path)
    np.savez(path, **arrays)
    path.with_suffix('.json').write_text(json.dumps(settings, indent=1))
    return path
