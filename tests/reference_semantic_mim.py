"""SemanticMIM's forward and backward pass once more, independent of mmmim's: see :mod:`tests.reference_common`.

Tokens are joined and split by index, and histograms made one pixel column at a time.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from tests import reference_common as common

EPS = 1e-6
BINS, CELL, WINDOW = 9, 8, 16
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
FULL_GRADIENTS = ('cls_token', 'mask_token', 'pos_embed')
TOY = {
    'beit': dict(img=32, patch=8, dim=32, depth=2, heads=4, proxy=3, mask_ratio=0.6, batch=2, vocab=24),
    'maskfeat': dict(img=224, patch=16, dim=32, depth=2, heads=4, proxy=8, mask_ratio=0.6, batch=2),
}


# ------------------------------------------------------------------------------------------------ patches and masks


def number_masked(c):
    return math.ceil((c['img'] // c['patch']) ** 2 * c['mask_ratio'])


def divide(permutation, number):
    """Visible and masked patches of every image, each in raster order."""
    masked = [sorted(row[:number].tolist()) for row in permutation]
    visible = [sorted(row[number:].tolist()) for row in permutation]
    return torch.tensor(visible), torch.tensor(masked)


# ------------------------------------------------------------------------------------------------------- network


def projections(w, name, q, kv):
    """Queries, keys and values of either flavour."""
    if f'{name}.q_bias' in w:
        zero = torch.zeros_like(w[f'{name}.v_bias'])
        q_layer = w[f'{name}.q_proj.weight'], w[f'{name}.q_bias']
        kv_layer = w[f'{name}.kv_proj.weight'], torch.cat([zero, w[f'{name}.v_bias']])
    else:
        q_layer = w[f'{name}.q.weight'], w[f'{name}.q.bias']
        kv_layer = w[f'{name}.kv.weight'], w[f'{name}.kv.bias']
    both = kv @ kv_layer[0].T + kv_layer[1]
    dim = q.shape[-1]
    return q @ q_layer[0].T + q_layer[1], both[..., :dim], both[..., dim:]


def attention(q, k, heads):
    return common.attention_weights(common.heads_of(q, heads), common.heads_of(k, heads))


def attend(w, name, q, kv, heads):
    q, k, v = projections(w, name, q, kv)
    out = attention(q, k, heads) @ common.heads_of(v, heads)
    return common.linear(w, f'{name}.proj', out.transpose(1, 2).flatten(2))


def mlp(w, name, x):
    return common.linear(w, f'{name}.layers.1', common.gelu(common.linear(w, f'{name}.layers.0.0', x)))


def scaled(w, name, x):
    return x * w[name] if name in w else x


def block(w, name, q, kv, heads):
    q_normed, kv_normed = (common.layer_norm(w, f'{name}.ln1', x, EPS) for x in (q, kv))  # a norm for both
    q = q + scaled(w, f'{name}.gamma_1', attend(w, f'{name}.attn', q_normed, kv_normed, heads))
    return q + scaled(w, f'{name}.gamma_2', mlp(w, f'{name}.ffn', common.layer_norm(w, f'{name}.ln2', q, EPS)))


def proxies(w, batch):
    """Learned vectors with rows of the table of their own."""
    token = w['backbone.cls_token']
    return (token + w['backbone.pos_embed'][:, : token.shape[1]]).expand(batch, -1, -1)


def cell_positions(w):
    return w['backbone.pos_embed'][0, w['backbone.cls_token'].shape[1] :]


def queries(w, masked):
    table = cell_positions(w)
    return torch.stack([w['backbone.mask_token'][0, 0] + table[row] for row in masked])


def encode(w, c, patches):
    """All tokens of whole images before the blocks."""
    tokens = common.embed(w, 'backbone.patch_embed.projection', patches) + cell_positions(w)
    return torch.cat([proxies(w, len(patches)), tokens], dim=1)


# --------------------------------------------------------------------------------------------------------- targets


def gradients_of_image(images):
    """Across and down, in float32 by the same convolution as the recorded run.

    Where one of them is zero, the direction is on the border of two bins, and rounding decides: so rounding is part of
    what is recorded.
    """
    kernel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    padded = F.pad(images.float(), (1, 1, 1, 1), mode='reflect')
    return tuple(
        F.conv2d(padded, k.view(1, 1, 3, 3).repeat(3, 1, 1, 1).contiguous(), groups=3) for k in (kernel, kernel.T)
    )


def direction(gx, gy):
    return torch.floor(torch.atan2(gx, gy) / math.pi * BINS).long() % BINS


def gaussian(side):
    """Repeated over the image."""
    x = torch.arange(side, dtype=torch.float64) % WINDOW - (WINDOW - 1) / 2
    bell = torch.exp(-0.5 * (x / (WINDOW // 2)) ** 2)
    return bell[:, None] * bell[None, :] / bell[:WINDOW].sum() ** 2


def unit(histogram):
    """Over the bins of one colour."""
    return histogram / histogram.norm(dim=2, keepdim=True).clamp(min=1e-12)


def hog(images, patch):
    """``[B, L, 3 * bins * cells]``, in the order (colour, bin, row, column)."""
    gx, gy = gradients_of_image(images)
    bins = direction(gx, gy)
    length = (gx.double() ** 2 + gy.double() ** 2).sqrt() * gaussian(images.shape[-1])
    batch, side = len(images), images.shape[-1] // CELL
    cells = torch.zeros(batch, 3, BINS, side, side, dtype=torch.float64)
    for i in range(side):
        for j in range(side):
            square = (..., slice(i * CELL, (i + 1) * CELL), slice(j * CELL, (j + 1) * CELL))
            for k in range(BINS):
                cells[:, :, k, i, j] = (length[square] * (bins[square] == k)).sum((-1, -2))
    cells = unit(cells)
    n, per = side * CELL // patch, patch // CELL
    rows = [cells[..., i * per : (i + 1) * per, j * per : (j + 1) * per].flatten(1) for i in range(n) for j in range(n)]
    return torch.stack(rows, dim=1)


def cross_entropy(logits, tokens):
    log_prob = logits - logits.logsumexp(-1, keepdim=True)
    return -torch.stack([log_prob[b, m, tokens[b, m]] for b, m in np.ndindex(*tokens.shape)]).mean()


def squared_error(pred, target):
    return ((pred - target) ** 2).mean(-1).mean()


# ------------------------------------------------------------------------------------------------------ quantities


def normalised(arrays):
    if 'images' in arrays:
        return torch.tensor(arrays['images'])
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (MEAN, STD))
    return (torch.tensor(arrays['images_uint8']).float() - mean) / std


def forward(w, c, arrays, kind):
    images = normalised(arrays)
    patches = common.cut(images.double(), c['patch'])
    visible, masked = divide(torch.tensor(arrays['draw/permutation']), number_masked(c))
    n, side = c['proxy'], c['img'] // c['patch']
    everything = encode(w, c, patches)
    tokens = torch.cat([everything[:, :n], common.take(everything[:, n:], visible)], dim=1)
    masks = queries(w, masked)
    grid = torch.zeros(len(images), side * side, dtype=torch.int32)
    for b, row in enumerate(masked):
        grid[b, row] = 1
    out = {'mask': grid.view(-1, side, side), 'tokens_in': tokens, 'mask_in': masks}
    for i in range(c['depth']):
        tokens = block(w, f'backbone.layers.{i}', tokens, tokens, c['heads'])
        source = torch.cat([tokens[:, :n], masks], dim=1)
        masks = block(w, f'backbone.extra_layers.{i}', masks, source, c['heads'])
        out |= {f'self_out/{i}': tokens, f'cross_kv/{i}': source, f'cross_out/{i}': masks}
    features = out['feat_mask'] = common.layer_norm(w, 'backbone.ln1', masks, EPS)
    if kind == 'beit':
        out['logits'] = common.linear(w, 'head.cls_head', features)
        tokens = torch.tensor(arrays['target_logits']).argmax(1).flatten(1)
        out['loss'] = cross_entropy(out['logits'], common.take(tokens, masked))
    else:
        out['hog'] = hog(images, c['patch'])
        out['pred'] = common.linear(w, 'neck.fc', features)
        out['loss'] = squared_error(out['pred'], common.take(out['hog'], masked).double())
    return out


def replay(arrays, settings):
    """Every recorded quantity but the initialisation."""
    c, kind = settings['config'], settings['kind']
    w, out = common.table(arrays, 'sd/'), {}

    def loss(w):
        out.update(forward(w, c, arrays, kind))
        return out['loss']

    _, found = common.gradients_of(w, lambda name: True, loss)
    recorded = [found.get(f'backbone.{name}') for name in settings['param_names']]
    out['grad_norm'] = np.array([-1.0 if gradient is None else common.norm(gradient) for gradient in recorded])
    out |= {f'grad/{name}': found[f'backbone.{name}'] for name in FULL_GRADIENTS}
    return {name: value if isinstance(value, np.ndarray) else value.detach().numpy() for name, value in out.items()}


# ------------------------------------------------------------------------------------------------------- recordings


def new_weights(c, kind, generator):
    """As initialised."""
    dim, patch = c['dim'], c['patch']

    draw = common.Draw(generator, lambda rows, columns: draw.normal(rows, columns))
    random = draw.normal
    w = {
        'backbone.cls_token': random(1, c['proxy'], dim),
        'backbone.pos_embed': random(1, c['proxy'] + (c['img'] // patch) ** 2, dim),
        'backbone.mask_token': random(1, 1, dim),
    }

    kernel = 'backbone.patch_embed.projection'
    w |= {f'{kernel}.weight': random(dim, 3, patch, patch), f'{kernel}.bias': random(dim)}
    for root in ('layers', 'extra_layers'):
        for i in range(c['depth']):
            name = f'backbone.{root}.{i}'
            if kind == 'beit':
                ones = torch.full((dim,), 0.1, dtype=torch.float64)
                w |= {f'{name}.gamma_1': ones, f'{name}.gamma_2': ones}
                w |= {f'{name}.attn.q_bias': 0 * ones, f'{name}.attn.v_bias': 0 * ones}
                w |= {f'{name}.attn.q_proj.weight': random(dim, dim)}
                w |= {f'{name}.attn.kv_proj.weight': random(2 * dim, dim)}
            else:
                w |= draw.full(f'{name}.attn.q', dim, dim)
                w |= draw.full(f'{name}.attn.kv', 2 * dim, dim)
            w |= draw.normed(f'{name}.ln1', dim) | draw.normed(f'{name}.ln2', dim)
            w |= draw.full(f'{name}.attn.proj', dim, dim)
            w |= draw.full(f'{name}.ffn.layers.0.0', 4 * dim, dim) | draw.full(f'{name}.ffn.layers.1', dim, 4 * dim)
    w |= draw.normed('backbone.ln1', dim)
    if kind == 'beit':
        return w | draw.full('head.cls_head', c['vocab'], dim)
    return w | draw.full('neck.fc', 3 * BINS * (patch // CELL) ** 2, dim)


def record(path, kind, *, seed=1, noise_std=0.1, **changes):
    """Make a recording in the layout of the given ones; ``kind`` is 'beit' or 'maskfeat', ``path`` that of the .npz."""
    c = {**TOY[kind], **changes}
    generator = torch.Generator().manual_seed(seed)
    w = new_weights(c, kind, generator)
    moved = common.perturbed(w, noise_std, generator)
    arrays = {f'sd/{name}': value.numpy().astype(np.float32) for name, value in moved.items()}
    shape = (c['batch'], 3, c['img'], c['img'])
    if kind == 'beit':
        arrays['images'] = torch.randn(shape, generator=generator).numpy()
    else:
        arrays['images_uint8'] = torch.randint(256, shape, generator=generator, dtype=torch.uint8).numpy()
    side = c['img'] // c['patch']
    draws = [torch.randperm(side * side, generator=generator) for _ in range(c['batch'])]
    arrays['draw/permutation'] = torch.stack(draws).numpy().astype(np.int32)
    if kind == 'beit':
        logits = torch.randn(c['batch'], c['vocab'], side, side, generator=generator)
        arrays['target_logits'] = logits.numpy()
    names = [n.removeprefix('backbone.') for n in w if n.startswith('backbone.')]
    settings = {'kind': kind, 'seed': seed, 'config': c}
    settings['param_names'] = names
    for name, value in replay(arrays, settings).items():
        whole = name in ('grad_norm', 'mask')
        arrays[name] = value if whole else np.asarray(value).astype(np.float32)
    return common.write(path, arrays, settings)
