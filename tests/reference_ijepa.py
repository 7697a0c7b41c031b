"""I-JEPA's training step once more, independent of mmmim's: see :mod:`tests.reference_common`.

Boxes of patches are loops, and target blocks are predicted one after the other.
"""

import math

import numpy as np
import torch

from tests.reference_common import (
    Draw,
    adamw,
    average,
    block,
    cut,
    embed,
    gradients_of,
    layer_norm,
    linear,
    norm,
    perturbed,
    standardise,
    table,
    take,
    write,
)

EPS, TARGET_EPS = 1e-6, 1e-5
PATIENCE, STEPS = 20, 3
EMA = 0.996, 1.0
FULL_GRADIENTS = (
    'encoder.patch_embed.proj.weight',
    'encoder.blocks.0.attn.qkv.bias',
    'encoder.norm.weight',
    'predictor.mask_token',
    'predictor.predictor_embed.weight',
    'predictor.predictor_proj.bias',
)
FULL_WEIGHTS = (
    'encoder.blocks.0.mlp.fc1.bias',
    'predictor.mask_token',
    'target_encoder.norm.weight',
    'target_encoder.patch_embed.proj.bias',
)
TOY = dict(img=64, patch=8, grid=8, dim=48, depth=2, heads=4, pred_dim=24, pred_depth=2, batch=4, traj_batch=3)
TOY |= dict(enc_mask_scale=[0.85, 1.0], pred_mask_scale=[0.15, 0.2], aspect_ratio=[0.75, 1.5])
TOY |= dict(nenc=1, npred=4, min_keep=4, allow_overlap=False)
# The momentum is one with which a teacher that moves at the wrong time shows.
SMALL = dict(grid=5, patch=4, dim=16, heads=2, depth=1, pred_dim=12, pred_depth=1, batch=2, traj_batch=2, min_keep=1)
SMALL |= dict(nenc=2, npred=2, enc_mask_scale=[0.5, 0.9], pred_mask_scale=[0.15, 0.3], steps=2, draws={}, noise_std=0.2)
SMALL |= dict(optimiser=dict(ema_momentum='0.6+0.1*t'))
OPTIMISER = dict(betas=[0.9, 0.999], eps=1e-8, clip=None, lr='2e-3*(t+1)', weight_decay_decayed=1.0)
OPTIMISER |= dict(ema_momentum='0.99+0.001*t, after the step')
SCHEDULE = dict(ipe=10, epochs=5, warmup=2, ipe_scale=1.25, start=2e-4, ref=1e-3, final=1e-6, wd=(0.04, 0.4))
RELEASED = {**TOY, 'min_keep': 10}
# Masks without a model: by name, settings, images, what is added to the seed, whether sizes of blocks are recorded.
WIDE = dict(pred_mask_scale=[0.05, 0.3], aspect_ratio=[0.3, 3], enc_mask_scale=[0.3, 0.9], min_keep=5, nenc=2, npred=2)
DRAWS = {
    'g14': (dict(grid=14, patch=16), 6, 500, True),
    'g16': (dict(grid=16, patch=14), 6, 500, True),
    'relax': (dict(grid=14, min_keep=33), 16, 600, False),
    'overlap': (dict(grid=14, allow_overlap=True), 16, 600, False),
    'wide': (dict(grid=14, **WIDE), 6, 700, True),
}
# Contexts that have to give up target blocks; those of the given recording never do.
CROWDED = {'crowded': (dict(grid=10, min_keep=11, npred=12), 6, 800, False)}


# ----------------------------------------------------------------------------------------------------- masks


def block_size(u_scale, u_aspect, scale, aspect, grid):
    """Rows and columns of a block."""
    patches = int(grid * grid * (scale[0] + u_scale * (scale[1] - scale[0])))
    ratio = aspect[0] + u_aspect * (aspect[1] - aspect[0])
    rows, columns = round(math.sqrt(patches * ratio)), round(math.sqrt(patches / ratio))
    return min(rows, largest(grid)), min(columns, largest(grid))


def largest(grid):
    return grid - 1


def positions_of(size, grid):
    """How many rows, or columns, a block may start in."""
    return grid - size


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
    top = int(torch.randint(0, positions_of(size[0], grid), (1,)))
    left = int(torch.randint(0, positions_of(size[1], grid), (1,)))
    return {r * grid + c for r in range(top, top + size[0]) for c in range(left, left + size[1])}


def enough(patches, least):
    return len(patches) > least


def context(size, targets, c):
    """A context of one image; the last targets are ignored one by one where nothing else helps."""
    ignored = 0
    while True:
        for _ in range(PATIENCE):
            patches = box(size, c['grid'])
            if not c['allow_overlap']:
                for target in targets[: max(len(targets) - ignored, 0)]:
                    patches = patches - target
            if enough(patches, c['min_keep']):
                return sorted(patches)
        ignored += 1


def cut_to(contexts, least):
    return [patches[:least] for patches in contexts]


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
    seen = [torch.tensor(cut_to([contexts[k] for contexts in all_contexts], least)) for k in range(c['nenc'])]
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
    patches = cut(images, c['patch'])
    x = embed(patches, *(w[f'{part}.patch_embed.proj.{kind}'] for kind in ('weight', 'bias'))) + w[f'{part}.pos_embed']
    if contexts is not None:
        x = torch.cat([take(x, index) for index in contexts])
    for i in range(c['depth']):
        x = block(w, f'{part}.blocks.{i}', x, c['heads'], EPS)
    return layer_norm(w, f'{part}.norm', x, EPS)


def targets_of(c, full, targets):
    """Rows of the targets: block by block, for every context, image by image."""
    normed = standardise(full, TARGET_EPS)
    return torch.cat([take(normed, index) for index in targets for _ in range(c['nenc'])])


def predictor_input(w, c, z, contexts, targets):
    table, rows = w['predictor.predictor_pos_embed'], []
    for asked in targets:
        for seen, tokens in zip(contexts, z.chunk(c['nenc']), strict=True):
            known = linear(w, 'predictor.predictor_embed', tokens) + take(table, seen)
            rows.append(torch.cat([known, w['predictor.mask_token'] + take(table, asked)], 1))
    return torch.cat(rows)


def predict(w, c, x, predicted):
    for i in range(c['pred_depth']):
        x = block(w, f'predictor.predictor_blocks.{i}', x, c['heads'], EPS)
    x = layer_norm(w, 'predictor.predictor_norm', x, EPS)
    return linear(w, 'predictor.predictor_proj', x[:, -predicted:])


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

    adamw(w, gradients, state, t + 1, choose, options['betas'], options['eps'])
    average(w, number_at(options['ema_momentum'], t))


# ------------------------------------------------------------------------------------------------------ schedules


def warmed_up(s):
    return int(s['warmup'] * s['ipe'])


def total(s):
    return int(s['ipe_scale'] * s['epochs'] * s['ipe'])


def first_step():
    """The step of the first iteration: schedules are advanced before they are used."""
    return 1


def rate(s, n):
    if n < warmed_up(s):
        return s['start'] + n / warmed_up(s) * (s['ref'] - s['start'])
    progress = (n - warmed_up(s)) / (total(s) - warmed_up(s))
    return s['final'] + (s['ref'] - s['final']) * 0.5 * (1 + math.cos(math.pi * progress))


def decay(s, n):
    low, high = s['wd']
    return min(high, high + (low - high) * 0.5 * (1 + math.cos(math.pi * n / total(s))))


def momentum_at(s, i):
    return EMA[0] + i * (EMA[1] - EMA[0]) / (s['ipe'] * s['epochs'] * s['ipe_scale'])


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


def all_masks(c, settings, draws):
    """Every recorded mask."""
    out = {}
    for prefix, call, seed in seeds(settings['seed'], settings.get('steps', STEPS)):
        batch = c['traj_batch'] if prefix else c['batch']
        for kind, masks in zip(('enc', 'pred'), draw_masks(c, batch, call, seed), strict=True):
            out |= {f'{prefix}masks_{kind}.{i}': mask for i, mask in enumerate(masks)}
    for name, (options, batch, offset, with_sizes) in draws.items():
        d = {**RELEASED, **options}
        if with_sizes:
            out[f'draw.{name}.sizes'] = torch.tensor([sizes(d, call) for call in range(64)]).flatten(1)
        for call in range(3):
            seen, asked = draw_masks(d, batch, call, settings['seed'] + offset + call)
            out[f'draw.{name}.{call}.enc'] = seen[0] if d['nenc'] == 1 else torch.stack(seen)
            out[f'draw.{name}.{call}.pred'] = torch.stack(asked)
    return {name: mask.numpy() for name, mask in out.items()}


def schedules(s):
    steps = range(int(s['ipe'] * s['epochs']))
    return {
        'sched.lr': [rate(s, i + first_step()) for i in steps],
        'sched.wd': [decay(s, i + first_step()) for i in steps],
        'sched.ema': [momentum_at(s, i) for i in steps],
    }


def single_modules(w, c, arrays):
    tokens, narrow = (torch.tensor(arrays[f'eps.{part}_in']).double() for part in ('encoder', 'predictor'))
    return {
        'eps.encoder_block0': block(w, 'encoder.blocks.0', tokens, c['heads'], EPS),
        'eps.encoder_norm': layer_norm(w, 'encoder.norm', tokens, EPS),
        'eps.predictor_block0': block(w, 'predictor.predictor_blocks.0', narrow, c['heads'], EPS),
        'eps.predictor_norm': layer_norm(w, 'predictor.predictor_norm', narrow, EPS),
        'eps.target_norm': standardise(tokens, TARGET_EPS),
    }


def number_at(formula, t):
    return eval(formula.split(', ')[0], {'t': t})  # of a recording that the tests made


def replay(arrays, settings, draws=DRAWS):
    """Everything a recording holds beside its inputs, computed from its inputs."""
    c = settings['config']
    w = table(arrays, 'sd.')
    images, out = torch.tensor(arrays['images']).double(), {}

    def loss_of(w):
        out.update(forward(w, c, images, as_masks(c, arrays, '')))
        return out['loss']

    _, gradients = gradients_of(w, is_trained, loss_of)
    with torch.no_grad():
        out['encoder_full'] = encode(w, 'encoder', c, images)
        out['encoder_full_avg'] = out['encoder_full'].mean(1)
        out |= single_modules(w, c, arrays)
    out |= {f'gradnorm.{name}': norm(gradient) for name, gradient in gradients.items()}
    out |= {f'grad.{name}': gradients[name] for name in FULL_GRADIENTS}
    for grid in (c['grid'], 14):
        out[f'pos_table.grid{grid}.dim{c["dim"]}'] = position_table(grid, c['dim'])
    out |= schedules(settings.get('schedule', SCHEDULE))

    losses, state, options = [], {}, settings['optimiser']
    for t in range(settings.get('steps', STEPS)):
        batch = torch.tensor(arrays[f'traj.{t}.images']).double()
        masks = as_masks(c, arrays, f'traj.{t}.')

        def loss_at(w, batch=batch, masks=masks):
            return forward(w, c, batch, masks)['loss']

        loss, gradients = gradients_of(w, is_trained, loss_at)
        losses.append(loss)
        update(w, gradients, state, t, options)
        for part in ('encoder', 'predictor', 'target_encoder'):
            out[f'traj.{t}.total_norm.{part}'] = norm(*parts(w, part).values())
    out['traj.losses'] = torch.stack(losses)
    out |= {f'traj.final_norm.{name}': norm(value) for name, value in w.items()}
    out |= {f'traj.final.{name}': w[name] for name in FULL_WEIGHTS}
    out = {name: value.detach().numpy() if torch.is_tensor(value) else value for name, value in out.items()}
    return {name: np.float32(value) for name, value in out.items()} | all_masks(c, settings, draws)


def new_weights(c, generator):
    """Weights of a model that is not trained yet, in the order of a recording."""
    draw = Draw(generator, lambda rows, columns: draw.normal(rows, columns))
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


def docs(c, settings, draws):
    """What the sidecar says of arrays that the replay needs to know more of."""
    out = {}
    for prefix, call, seed in seeds(settings['seed'], settings['steps']):
        out[f'{prefix}masks_enc.0'] = f'context indices (B,Kc); collator call {call}, torch.manual_seed({seed})'
    for name, (options, batch, offset, with_sizes) in draws.items():
        d = {**RELEASED, **options}
        scales = ', '.join(
            f'{label} ({d[key][0]},{d[key][1]})'
            for label, key in (
                ('target scale', 'pred_mask_scale'),
                ('aspect', 'aspect_ratio'),
                ('context scale', 'enc_mask_scale'),
            )
        )
        said = {key: d[key] for key in ('min_keep', 'allow_overlap')}
        if with_sizes:
            out[f'draw.{name}.sizes'] = f'{scales}, img {d["grid"] * d["patch"]} patch {d["patch"]}'
        for call in range(3):
            seed = settings['seed'] + offset + call
            where = f'min_keep {d["min_keep"]}' if with_sizes else f'grid {d["grid"]}, {said}'
            out[f'draw.{name}.{call}.enc'] = (
                f'context indices, {where}, collator call {call}, batch {batch}, torch.manual_seed({seed}) just before'
            )
            out[f'draw.{name}.{call}.pred'] = 'target indices (npred,B,Kt), same call'
    s = settings['schedule']
    out['sched.lr'] = (
        f'ipe {s["ipe"]}, epochs {s["epochs"]}, warmup {s["warmup"]} epochs, ipe_scale {s["ipe_scale"]} '
        f'(T={total(s)}), start {s["start"]} ref {s["ref"]} final {s["final"]}'
    )
    out['sched.wd'] = f'same setting, {s["wd"][0]}->{s["wd"][1]}'
    return {name: {'doc': text} for name, text in out.items()}


def record(path, *, seed=1, steps=STEPS, optimiser=None, schedule=None, draws=DRAWS, noise_std=0.05, **changes):
    """Make a recording in the layout of the given one; ``path`` is that of the .npz.

    ``optimiser``, ``schedule`` and ``changes`` are to :data:`OPTIMISER`, :data:`SCHEDULE` and :data:`TOY` (``img``
    follows from grid and patch); ``draws`` are masks without a model, as :data:`DRAWS`.
    """
    c = {**TOY, **changes}
    c['img'] = c['grid'] * c['patch']
    generator = torch.Generator().manual_seed(seed)
    arrays = {'images': torch.randn(c['batch'], 3, c['img'], c['img'], generator=generator)}
    w = perturbed(new_weights(c, generator), noise_std, generator, fixed='pos_embed')
    arrays |= {f'sd.{name}': value for name, value in w.items()}
    for t in range(steps):
        arrays[f'traj.{t}.images'] = torch.randn(c['traj_batch'], 3, c['img'], c['img'], generator=generator)
    # So small that the epsilons of norms are seen.
    arrays['eps.encoder_in'] = 1e-3 * torch.randn(2, 5, c['dim'], generator=generator)
    arrays['eps.predictor_in'] = 1e-3 * torch.randn(2, 5, c['pred_dim'], generator=generator)
    arrays = {name: value.float().numpy() for name, value in arrays.items()}
    trained = {name: v for name, v in arrays.items() if name.startswith(('sd.encoder', 'sd.predictor'))}
    settings = {
        'source': 'tests/reference_ijepa.py',
        'seed': seed,
        'steps': steps,
        'config': c,
        'optimiser': {**OPTIMISER, **(optimiser or {})},
        'schedule': {**SCHEDULE, **(schedule or {})},
        'weight_decay_groups': {
            name.removeprefix('sd.'): {
                'weight_decay': 'decayed' if is_decayed(name, value) else 'none',
                'requires_grad': not name.endswith('pos_embed'),
            }
            for name, value in trained.items()
        },
    }
    settings['arrays'] = docs(c, settings, draws)
    arrays |= all_masks(c, settings, draws)
    arrays |= replay(arrays, settings, draws=draws)
    return write(path, arrays, settings)
