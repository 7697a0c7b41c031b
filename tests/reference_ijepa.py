"""I-JEPA's training step once more, independent of mmmim's: see :mod:`tests.reference_common`.

Boxes of patches are loops, and target blocks are predicted one after the other.
"""

import math

import numpy as np
import torch

from tests import reference_common as common

EPS, TARGET_EPS = 1e-6, 1e-5
PATIENCE = 20
FULL_GRADIENTS = ['encoder.patch_embed.proj.weight', 'encoder.blocks.0.attn.qkv.bias']
FULL_GRADIENTS += ['encoder.norm.weight', 'predictor.mask_token', 'predictor.predictor_embed.weight']
FULL_GRADIENTS += ['predictor.predictor_proj.bias']
FULL_WEIGHTS = ['encoder.blocks.0.mlp.fc1.bias', 'predictor.mask_token', 'target_encoder.norm.weight']
FULL_WEIGHTS += ['target_encoder.patch_embed.proj.bias']
TOY = dict(img=64, patch=8, grid=8, dim=48, depth=2, heads=4, pred_dim=24, pred_depth=2, batch=4, traj_batch=3)
TOY |= dict(enc_mask_scale=[0.85, 1.0], pred_mask_scale=[0.15, 0.2], aspect_ratio=[0.75, 1.5])
TOY |= dict(nenc=1, npred=4, min_keep=4, allow_overlap=False)
# The momentum is one with which a teacher that moves at the wrong time shows.
SMALL = dict(grid=5, patch=4, dim=16, heads=2, depth=1, pred_dim=12, pred_depth=1, batch=2, traj_batch=2, min_keep=1)
SMALL |= dict(nenc=2, npred=2, enc_mask_scale=[0.5, 0.9], pred_mask_scale=[0.15, 0.3], steps=2, noise_std=0.2)
SMALL |= dict(optimiser=dict(ema_momentum='0.6+0.1*t'))
OPTIMISER = dict(betas=[0.9, 0.999], eps=1e-8, clip=None, lr='2e-3*(t+1)', weight_decay_decayed=1.0)
OPTIMISER |= dict(ema_momentum='0.99+0.001*t, after the step')
# ----------------------------------------------------------------------------------------------------- masks


def block_size(u_scale, u_aspect, scale, aspect, grid):
    """Rows and columns of a block."""
    patches = int(grid * grid * (scale[0] + u_scale * (scale[1] - scale[0])))
    ratio = aspect[0] + u_aspect * (aspect[1] - aspect[0])
    rows, columns = round(math.sqrt(patches * ratio)), round(math.sqrt(patches / ratio))
    return min(rows, grid - 1), min(columns, grid - 1)


def sizes(c, call):
    """Size of the target blocks and of the contexts of a batch: one number each."""
    generator = torch.Generator().manual_seed(call)
    u1, u2 = (torch.rand(1, generator=generator).item() for _ in range(2))
    return (
        block_size(u1, u1, c['pred_mask_scale'], c['aspect_ratio'], c['grid']),
        block_size(u2, u2, c['enc_mask_scale'], [1.0, 1.0], c['grid']),
    )


def box(size, grid):
    """Patches of a block at a random place."""
    top = int(torch.randint(0, grid - size[0], (1,)))
    left = int(torch.randint(0, grid - size[1], (1,)))
    return {r * grid + c for r in range(top, top + size[0]) for c in range(left, left + size[1])}


def context(size, targets, c):
    """A context of one image; the last targets are ignored one by one where nothing else helps."""
    ignored = 0
    while True:
        for _ in range(PATIENCE):
            patches = box(size, c['grid'])
            if not c['allow_overlap']:
                for target in targets[: max(len(targets) - ignored, 0)]:
                    patches = patches - target
            if len(patches) > c['min_keep']:
                return sorted(patches)
        ignored += 1


def draw_masks(c, batch, call, seed):
    """``nenc`` contexts ``[B, V]`` and ``npred`` target blocks ``[B, M]``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        target_size, context_size = sizes(c, call)
        assert target_size[0] * target_size[1] > c['min_keep']
        all_targets, all_contexts = [], []
        for _ in range(batch):
            targets = [box(target_size, c['grid']) for _ in range(c['npred'])]
            all_targets.append([sorted(target) for target in targets])
            all_contexts.append([context(context_size, targets, c) for _ in range(c['nenc'])])
    least = min(len(patches) for contexts in all_contexts for patches in contexts)
    seen = [torch.tensor([contexts[k][:least] for contexts in all_contexts]) for k in range(c['nenc'])]
    asked = [torch.tensor([targets[t] for targets in all_targets]) for t in range(c['npred'])]
    return seen, asked


# ------------------------------------------------------------------------------------------------------- network


def position_table(grid, dim):
    """A row per patch: ``[N, dim]``."""
    quarter = dim // 4
    frequencies = [10000 ** (-j / quarter) for j in range(quarter)]
    places = [(r, c) for r in range(grid) for c in range(grid)]
    rows = [[f(x * w) for x in (c, r) for f in (math.sin, math.cos) for w in frequencies] for r, c in places]
    return torch.tensor(rows, dtype=torch.float64)


def encode(w, part, c, images, contexts=None):
    """Normed tokens of whole images, or of the contexts, one after the other."""
    x = common.embed(w, f'{part}.patch_embed.proj', common.cut(images, c['patch'])) + w[f'{part}.pos_embed']
    if contexts is not None:
        x = torch.cat([common.take(x, index) for index in contexts])
    for i in range(c['depth']):
        x = common.block(w, f'{part}.blocks.{i}', x, c['heads'], EPS)
    return common.layer_norm(w, f'{part}.norm', x, EPS)


def targets_of(c, full, targets):
    """Rows of the targets: block by block, for every context, image by image."""
    normed = common.standardise(full, TARGET_EPS)
    return torch.cat([common.take(normed, index) for index in targets for _ in range(c['nenc'])])


def predictor_input(w, c, z, contexts, targets):
    table, rows = w['predictor.predictor_pos_embed'], []
    for asked in targets:
        for seen, tokens in zip(contexts, z.chunk(c['nenc']), strict=True):
            known = common.linear(w, 'predictor.predictor_embed', tokens) + common.take(table, seen)
            rows.append(torch.cat([known, w['predictor.mask_token'] + common.take(table, asked)], 1))
    return torch.cat(rows)


def predict(w, c, x, predicted):
    for i in range(c['pred_depth']):
        x = common.block(w, f'predictor.predictor_blocks.{i}', x, c['heads'], EPS)
    x = common.layer_norm(w, 'predictor.predictor_norm', x, EPS)
    return common.linear(w, 'predictor.predictor_proj', x[:, -predicted:])


def compare(prediction, target):
    difference = (prediction - target).abs()
    return torch.where(difference < 1, 0.5 * difference**2, difference - 0.5).mean()


# ---------------------------------------------------------------------------------------------------------- step


def forward(w, c, images, masks):
    """Every quantity of one forward pass, by its name in a recording."""
    contexts, targets = masks
    with torch.no_grad():
        full = encode(w, 'target_encoder', c, images)
        wanted = targets_of(c, full, targets)
    z = encode(w, 'encoder', c, images, contexts)
    x = predictor_input(w, c, z, contexts, targets)
    prediction = predict(w, c, x, targets[0].shape[1])
    return {
        'encoder_context': z,
        'target_full': full,
        'target_tokens': wanted,
        'predictor_input': x,
        'predictions': prediction,
        'loss': compare(prediction, wanted),
    }


def is_trained(name):
    return not name.startswith('target_') and not name.endswith('pos_embed')


def is_decayed(name, value):
    return value.ndim > 1 and 'bias' not in name


def update(w, gradients, state, t, options):
    """A step, then the target encoder."""

    def choose(name, value):
        decay = options['weight_decay_decayed'] if is_decayed(name, value) else 0.0
        return number_at(options['lr'], t), decay

    common.adamw(w, gradients, state, t + 1, choose, options['betas'], options['eps'])
    common.average(w, number_at(options['ema_momentum'], t))


# ----------------------------------------------------------------------------------------------------- recording


def parts(w, part):
    return {name: value for name, value in w.items() if name.startswith(f'{part}.')}


def as_masks(c, arrays, prefix):
    return tuple(
        [torch.tensor(arrays[f'{prefix}masks_{kind}.{i}']) for i in range(c[count])]
        for kind, count in (('enc', 'nenc'), ('pred', 'npred'))
    )


def seeds(seed, steps):
    """Prefix, call of the collate function and seed of places, of the batch and of every step."""
    return [('', 0, seed + 107), *((f'traj.{t}.', t + 1, seed + 207 + 10 * t) for t in range(steps))]


def all_masks(c, settings):
    """Every recorded mask."""
    out = {}
    for prefix, call, seed in seeds(settings['seed'], settings.get('steps', 3)):
        batch = c['traj_batch'] if prefix else c['batch']
        for kind, masks in zip(('enc', 'pred'), draw_masks(c, batch, call, seed), strict=True):
            out |= {f'{prefix}masks_{kind}.{i}': mask.numpy() for i, mask in enumerate(masks)}
    return out


def number_at(formula, t):
    return eval(formula.split(', ')[0], {'t': t})  # of a recording that the tests made


def replay(arrays, settings):
    """Everything a recording holds beside its inputs, computed from its inputs."""
    c = settings['config']
    w = common.table(arrays, 'sd.')
    images, out = torch.tensor(arrays['images']).double(), {}

    def loss_of(w):
        out.update(forward(w, c, images, as_masks(c, arrays, '')))
        return out['loss']

    _, gradients = common.gradients_of(w, is_trained, loss_of)
    with torch.no_grad():
        out['encoder_full'] = encode(w, 'encoder', c, images)
        out['encoder_full_avg'] = out['encoder_full'].mean(1)
    out |= {f'gradnorm.{name}': common.norm(gradient) for name, gradient in gradients.items()}
    out |= {f'grad.{name}': gradients[name] for name in FULL_GRADIENTS}
    losses, state, options = [], {}, settings['optimiser']
    for t in range(settings.get('steps', 3)):
        batch = torch.tensor(arrays[f'traj.{t}.images']).double()
        masks = as_masks(c, arrays, f'traj.{t}.')

        def loss_at(w, batch=batch, masks=masks):
            return forward(w, c, batch, masks)['loss']

        loss, gradients = common.gradients_of(w, is_trained, loss_at)
        losses.append(loss)
        update(w, gradients, state, t, options)
        for part in ('encoder', 'predictor', 'target_encoder'):
            out[f'traj.{t}.total_norm.{part}'] = common.norm(*parts(w, part).values())
    out['traj.losses'] = torch.stack(losses)
    out |= {f'traj.final_norm.{name}': common.norm(value) for name, value in w.items()}
    out |= {f'traj.final.{name}': w[name] for name in FULL_WEIGHTS}
    out = {name: value.detach().numpy() if torch.is_tensor(value) else value for name, value in out.items()}
    return {name: np.float32(value) for name, value in out.items()} | all_masks(c, settings)


def new_weights(c, generator):
    """Weights of a model that is not trained yet, in the order of a recording."""
    draw = common.Draw(generator, lambda rows, columns: draw.normal(rows, columns))
    dim, pred_dim, patch = c['dim'], c['pred_dim'], c['patch']
    w = {'encoder.pos_embed': position_table(c['grid'], dim)[None]}
    w |= draw.full('encoder.patch_embed.proj', dim, 3 * patch * patch)
    w['encoder.patch_embed.proj.weight'] = w['encoder.patch_embed.proj.weight'].unflatten(1, (3, patch, patch))
    w |= draw.blocks('encoder.blocks', c['depth'], dim) | draw.normed('encoder.norm', dim)
    w['predictor.mask_token'] = draw.normal(1, 1, pred_dim)
    w['predictor.predictor_pos_embed'] = position_table(c['grid'], pred_dim)[None]
    w |= draw.full('predictor.predictor_embed', pred_dim, dim)
    w |= draw.blocks('predictor.predictor_blocks', c['pred_depth'], pred_dim)
    w |= draw.normed('predictor.predictor_norm', pred_dim) | draw.full('predictor.predictor_proj', dim, pred_dim)
    return w | {f'target_{name}': value.clone() for name, value in parts(w, 'encoder').items()}


def record(path, *, seed=1, steps=3, optimiser=None, noise_std=0.05, **changes):
    """Make a recording in the layout of the given one; ``path`` is that of the .npz.

    ``optimiser`` and ``changes`` are to :data:`OPTIMISER` and :data:`TOY` (``img`` follows from grid and patch).
    """
    c = {**TOY, **changes}
    c['img'] = c['grid'] * c['patch']
    generator = torch.Generator().manual_seed(seed)
    arrays = {'images': torch.randn(c['batch'], 3, c['img'], c['img'], generator=generator)}
    w = common.perturbed(new_weights(c, generator), noise_std, generator, fixed='pos_embed')
    arrays |= {f'sd.{name}': value for name, value in w.items()}
    for t in range(steps):
        arrays[f'traj.{t}.images'] = torch.randn(c['traj_batch'], 3, c['img'], c['img'], generator=generator)
    arrays = {name: value.float().numpy() for name, value in arrays.items()}
    settings = {'seed': seed, 'steps': steps, 'config': c, 'optimiser': {**OPTIMISER, **(optimiser or {})}}
    # What the sidecar says of arrays that the replay needs to know more of.
    settings['arrays'] = {
        f'{prefix}masks_enc.0': {'doc': f'context indices (B,Kc); collator call {call}, torch.manual_seed({drawn})'}
        for prefix, call, drawn in seeds(seed, steps)
    }
    arrays |= all_masks(c, settings)
    return common.write(path, arrays | replay(arrays, settings), settings)
