"""Latent MIM's training step once more, independent of mmmim's: see :mod:`tests.reference_common`.

Patches are cut out one cell at a time, and all pairs of patches are compared.
"""

import numpy as np
import torch

from tests import reference_common as common

BLOCK_EPS, PROJECTOR_EPS = 1e-6, 1e-5
WEIGHT_DECAY, BETAS, ADAM_EPS = 0.05, (0.9, 0.95), 1e-8
FULL_GRADIENTS = ['encoder.cls_token', 'decoder.mask_token', 'decoder.cls_token', 'encoder.norm.weight']
FULL_GRADIENTS += ['encoder.head.norm2.bias', 'decoder.blocks.0.norm2kv.weight', 'decoder.head.bias']
FULL_GRADIENTS += ['encoder.blocks.0.attn.qkv.bias']
TOY = dict(grid=4, patch=8, gap=4, dim=48, heads=4, depth=2, ddim=32, dheads=4, ddepth=2, mlp_dim=64, tau=0.2)
TOY |= dict(num_vis=4, sim_coeff=0.1, batch=2, mom=0.99, sim_trg=0.75, lr=0.001, steps=3)
# wd: far more than anybody trains with, so that a wrong parameter group shows in the final norms
SMALL = dict(grid=3, patch=4, gap=2, dim=16, heads=2, depth=1, ddim=12, dheads=3, ddepth=1, mlp_dim=20, num_vis=3)
SMALL |= dict(batch=2, steps=2, wd=2.0, momenta=[0.5, 0.7], sim_targets=[0.7, 0.4])


# ------------------------------------------------------------------------------------------- patches and positions


def cut(images, patch, gap, rows, columns):
    """The patch of every cell, raster order, each flattened as (row, column, colour): ``[B, L, patch * patch * 3]``."""
    batch, height, width = rows.shape
    result = []
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                top = i * (patch + gap) + int(rows[b, i, j])
                left = j * (patch + gap) + int(columns[b, i, j])
                square = images[b, :, top : top + patch, left : left + patch]
                result.append(torch.stack([square[:, y, x] for y in range(patch) for x in range(patch)]).flatten())
    return torch.stack(result).reshape(batch, height * width, -1)


def position_table(grid, dim):
    """Zeros for CLS, then a row per cell: ``[1 + L, dim]``."""
    frequencies = 10000 ** (-4 * torch.arange(dim // 4, dtype=torch.float64) / dim)
    rows = [torch.zeros(dim, dtype=torch.float64)]
    for i in range(grid):
        for j in range(grid):
            u, v = (place / (grid - 1) * grid * frequencies for place in (i, j))
            rows.append(torch.cat([v.sin(), v.cos(), u.sin(), u.cos()]))
    return torch.stack(rows)


def divide(noise, num_vis):
    """Visible and target positions of every image."""
    order = torch.stack([torch.argsort(row) for row in noise])
    return order[:, :num_vis], order[:, num_vis:]


# ------------------------------------------------------------------------------------------------------- network


def cross_attention(w, name, x, source, heads):
    k, v = common.linear(w, f'{name}.kv_proj', source).chunk(2, -1)
    return common.linear(w, f'{name}.proj', common.attend(common.linear(w, f'{name}.q_proj', x), k, v, heads))


def project(w, name, x):
    for i in range(3):
        x = common.layer_norm(w, f'{name}.norm{i}', common.linear(w, f'{name}.linear{i}', x), PROJECTOR_EPS)
        if i < 2:
            x = common.gelu(x)
    return x


def encode(w, side, c, patches, index):
    """States of an encoder that sees the patches at ``index``: before the final norm, after it, and projected."""
    x = common.linear(w, f'{side}.embed.proj', common.take(patches, index))
    positions = w[f'{side}.pos_embed.pos_embeds']
    x = x + common.take(positions[None, 1:], index)
    cls = w[f'{side}.cls_token'] + positions[0]
    x = torch.cat([cls.expand(len(x), -1, -1), x], 1)
    for i in range(c['depth']):
        x = common.block(w, f'{side}.blocks.{i}', x, c['heads'], BLOCK_EPS)
    normed = common.layer_norm(w, f'{side}.norm', x, BLOCK_EPS)
    return x, normed, project(w, f'{side}.head', normed)


def decode(w, c, z_vis, visible, target):
    """Queries and source of the first block, its output, and predictions."""
    positions = w['decoder.pos_embed.pos_embeds']
    asked, seen = common.take(positions[None, 1:], target), common.take(positions[None, 1:], visible)
    e = common.linear(w, 'decoder.embed', z_vis)
    nearness = (asked @ seen.transpose(1, 2) * asked.shape[-1] ** -0.5).softmax(-1)
    queries = w['decoder.mask_token'] + asked + nearness @ e[:, 1:]
    queries = torch.cat([(w['decoder.cls_token'] + positions[0]).expand(len(e), -1, -1), queries], 1)
    source = e + torch.cat([positions[0].expand(len(e), 1, -1), seen], 1)
    x, states = queries, []
    for i in range(c['ddepth']):
        x = decoder_block(w, f'decoder.blocks.{i}', x, source, c['dheads'])
        states.append(x)
    x = common.layer_norm(w, 'decoder.norm', x, BLOCK_EPS)
    return queries, source, states[0], common.linear(w, 'decoder.head', x)[:, 1:]


def decoder_block(w, name, x, source, heads):
    x = x + common.self_attention(w, f'{name}.self_attn', common.layer_norm(w, f'{name}.norm1', x, BLOCK_EPS), heads)
    own = common.layer_norm(w, f'{name}.norm2q', x, BLOCK_EPS)
    other = common.layer_norm(w, f'{name}.norm2kv', source, BLOCK_EPS)
    x = x + cross_attention(w, f'{name}.cross_attn', own, other, heads)
    return x + common.mlp(w, f'{name}.mlp', common.layer_norm(w, f'{name}.norm3', x, BLOCK_EPS))


# -------------------------------------------------------------------------------------------------------- losses


def standardise_predictions(p):
    """Per image and channel, over patches."""
    centred = p - p.mean(1, keepdim=True)
    std = (centred.square().sum(1, keepdim=True) / (p.shape[1] - 1)).sqrt()
    return centred / (std + 1e-4)


def discriminate(pred, target, tau):
    pred = standardise_predictions(pred)
    terms = []
    for p, z in zip(common.unit(pred), common.unit(target), strict=True):
        logits = p @ z.T / tau
        terms.append((logits.logsumexp(-1) - logits.diagonal()).mean())
    return 2 * tau * torch.stack(terms).mean()


def similarity(x):
    """Mean over images and pairs, with itself too."""
    return torch.stack([(common.unit(tokens) @ common.unit(tokens).T).mean() for tokens in x]).mean()


def constrain(x, coefficient, gamma):
    return coefficient * (similarity(x) - gamma) ** 2


def total_loss(c, pred, target, z_vis, gamma):
    loss = discriminate(pred, target, c['tau'])
    if c['sim_coeff'] > 0:
        loss = loss + constrain(pred, c['sim_coeff'], gamma) + constrain(z_vis[:, 1:], c['sim_coeff'], gamma)
    return loss


# ---------------------------------------------------------------------------------------------------------- step


def targets_of(w, c, patches, target):
    """The target encoder's normed states, and its projected patches at the targets."""
    with torch.no_grad():
        _, normed, projected = encode(w, 'target_encoder', c, patches, target)
    return normed, projected[:, 1:]


def forward(w, c, images, draws, gamma):
    """Every quantity of one forward pass, by its name in a recording."""
    rows, columns, noise = draws
    patches = cut(images, c['patch'], c['gap'], rows, columns)
    visible, target = divide(noise, c['num_vis'])
    pre, post, z_vis = encode(w, 'encoder', c, patches, visible)
    trg_normed, z_trg = targets_of(w, c, patches, target)
    queries, source, block0, pred = decode(w, c, z_vis, visible, target)
    out = {
        'patches_all': patches,
        'vis_idx': visible,
        'trg_idx': target,
        'enc_pre_norm': pre,
        'enc_post_norm': post,
        'z_vis': z_vis,
        'trg_post_norm': trg_normed,
        'z_trg': z_trg,
        'dec_query_init': queries,
        'dec_kv': source,
        'dec_block0_out': block0,
        'pred': pred,
        'loss_patch_disc': discriminate(pred, z_trg, c['tau']),
        'avg_sim_pred': similarity(pred),
        'avg_sim_vis': similarity(z_vis[:, 1:]),
        'avg_sim_trg': similarity(z_trg),
        'loss_total': total_loss(c, pred, z_trg, z_vis, gamma),
    }
    if c['sim_coeff'] > 0:
        out['loss_sim_pred'] = constrain(pred, c['sim_coeff'], gamma)
        out['loss_sim_vis'] = constrain(z_vis[:, 1:], c['sim_coeff'], gamma)
    return out


def is_trained(name):
    return not name.startswith('target_encoder.') and not name.endswith('pos_embeds')


def is_decayed(name, value):
    return value.ndim > 1 and not any(part in name for part in ('bias', 'norm', 'embed'))


def train(w, c, images, draws, momenta, gammas):
    """Several steps; ``draws`` have a leading axis of steps. Losses; the weights are changed."""
    losses, state = [], {}

    def choose(name, value):
        return c['lr'], c.get('wd', WEIGHT_DECAY) if is_decayed(name, value) else 0.0

    for t, (momentum, gamma) in enumerate(zip(momenta, gammas, strict=True)):
        common.average(w, float(momentum))
        now = tuple(draw[t] for draw in draws)

        def loss_at(w, now=now, gamma=float(gamma)):
            return forward(w, c, images, now, gamma)['loss_total']

        loss, gradients = common.gradients_of(w, is_trained, loss_at)
        losses.append(float(loss))
        common.adamw(w, gradients, state, t + 1, choose, BETAS, ADAM_EPS)
    return losses


# ----------------------------------------------------------------------------------------------------- recording


def parameter_names(w):
    return [name for name in w if not name.endswith('pos_embeds')]


def draws_of(arrays, prefix):
    rows, columns = (torch.tensor(arrays[f'{prefix}{name}_offset']).long() for name in ('row', 'col'))
    return rows, columns, torch.tensor(arrays[f'{prefix}noise']).double()


def replay(arrays, settings):
    """Everything a recording holds beside its inputs, computed from its inputs (but ``init/``)."""
    c, w = settings['config'], common.table(arrays, 'sd/')
    images, draws = torch.tensor(arrays['images']).double(), draws_of(arrays, 'draw/')
    names = parameter_names(w)
    out = {}

    def whole(w):
        out.update(forward(w, c, images, draws, c['sim_trg']))
        return out['loss_total']

    _, gradients = common.gradients_of(w, is_trained, whole)
    norms = [common.norm(gradients[name]) if name in gradients else -1.0 for name in names]
    out['grad_norm'] = np.array(norms)
    out |= {f'grad/{name}': gradients[name] for name in FULL_GRADIENTS}

    draws = draws_of(arrays, 'traj/')
    out['traj/loss'] = np.array(train(w, c, images, draws, arrays['traj/momentum'], arrays['traj/sim_target']))
    out['traj/final_param_norm'] = np.array([common.norm(w[name]) for name in names])
    for side, name in (('target', 'target_encoder.cls_token'), ('encoder', 'encoder.cls_token')):
        out[f'traj/final_{side}_cls_token'] = w[name]

    return {name: common.as_recorded(value) for name, value in out.items()}


def new_weights(c, generator):
    """Weights of a model that is not trained yet, in the order of a recording."""
    draw = common.Draw(generator, common.xavier(generator))
    normed, full = draw.normed, draw.full
    dim, ddim, hidden = c['dim'], c['ddim'], c['mlp_dim']
    w = {'encoder.cls_token': draw.normal(1, 1, dim)}
    w |= full('encoder.embed.proj', dim, 3 * c['patch'] ** 2)
    w['encoder.pos_embed.pos_embeds'] = position_table(c['grid'], dim)
    w |= draw.blocks('encoder.blocks', c['depth'], dim)
    w |= normed('encoder.norm', dim)
    for i, (rows, columns) in enumerate([(hidden, dim), (hidden, hidden), (dim, hidden)]):
        w[f'encoder.head.linear{i}.weight'] = draw.matrix(rows, columns)
        w |= normed(f'encoder.head.norm{i}', rows)
    w |= {f'target_{name}': value.clone() for name, value in w.items()}
    w |= {
        'decoder.cls_token': draw.normal(1, 1, ddim),
        'decoder.mask_token': torch.zeros(1, 1, ddim, dtype=torch.float64),
    }
    w |= full('decoder.embed', ddim, dim)
    w['decoder.pos_embed.pos_embeds'] = position_table(c['grid'], ddim)
    for i in range(c['ddepth']):
        name = f'decoder.blocks.{i}'
        w |= normed(f'{name}.norm1', ddim) | full(f'{name}.self_attn.qkv', 3 * ddim, ddim)
        w |= full(f'{name}.self_attn.proj', ddim, ddim) | normed(f'{name}.norm2q', ddim)
        w |= normed(f'{name}.norm2kv', ddim) | full(f'{name}.cross_attn.q_proj', ddim, ddim)
        w |= full(f'{name}.cross_attn.kv_proj', 2 * ddim, ddim) | full(f'{name}.cross_attn.proj', ddim, ddim)
        w |= normed(f'{name}.norm3', ddim) | draw.two_layers(f'{name}.mlp', ddim)
    return w | normed('decoder.norm', ddim) | full('decoder.head', dim, ddim)


def random_draws(c, generator, *steps):
    """Offsets inside the cells, rows first, then columns, then the noise that divides the patches."""
    shape = (*steps, c['batch'], c['grid'], c['grid'])
    offsets = []
    for _ in range(2):  # contiguous patches have no offsets
        draw = torch.randint(c['gap'], shape, generator=generator) if c['gap'] else torch.zeros(shape)
        offsets.append(draw.numpy().astype(np.int32))
    noise = torch.rand(*steps, c['batch'], c['grid'] ** 2, generator=generator)
    return dict(zip(('row_offset', 'col_offset', 'noise'), (*offsets, noise.numpy()), strict=True))


def record(path, *, seed=1, momenta=(0.9,) * 3, sim_targets=(0.7, 0.6, 0.4), noise_std=0.05, **changes):
    """Make a recording in the layout of the given one; ``path`` is that of the .npz.

    ``momenta`` and ``sim_targets`` are of every step; ``changes`` are to :data:`TOY`, and ``wd``, the weight decay.
    """
    c = {**TOY, **changes}
    side = c['grid'] * (c['patch'] + c['gap'])
    generator = torch.Generator().manual_seed(seed)
    w = new_weights(c, generator)
    arrays = {'images': common.random_images(c['batch'], side, side, generator)}
    moved = common.perturbed(w, noise_std, generator, fixed='pos_embeds')
    arrays |= {f'sd/{name}': value.numpy().astype(np.float32) for name, value in moved.items()}
    arrays |= {f'draw/{name}': draw for name, draw in random_draws(c, generator).items()}
    arrays |= {f'traj/{name}': draw for name, draw in random_draws(c, generator, c['steps']).items()}
    arrays['traj/momentum'] = np.array(momenta)
    arrays['traj/sim_target'] = np.array(sim_targets)
    names = parameter_names(w)
    settings = {'seed': seed, 'config': c, 'grad_norm_names': names, 'param_names': names}
    return common.write(path, arrays | replay(arrays, settings), settings)
