"""CrossMAE's training step once more, independent of mmmim's: see :mod:`tests.reference_common`.

Mixtures are sums over states, one after the other.
"""

import numpy as np
import torch

from tests import reference_common as common

TOY = dict(image=32, patch=8, width=24, depth=4, heads=4, decoder_width=16, decoder_depth=3, decoder_heads=2)
TOY |= dict(batch=3, mask_ratio=0.75, kept_mask_ratio=0.5, mlp_ratio=4, layer_norm_eps=1e-6, normalised_pixels=True)
TOY |= dict(feature_maps=[0, 1, 2, 3], patch_embedding_is_a_feature_map=True)
SMALL = dict(image=[8, 12], patch=4, width=12, depth=2, heads=2, decoder_width=16, decoder_depth=2, decoder_heads=2)
SMALL |= dict(batch=2, feature_maps=[0, 1], mask_ratio=0.5, kept_mask_ratio=0.34)
OPTIMISER = dict(type='AdamW', lr=2e-3, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.05, clip_norm=None)
FIXED = ('pos_embed', 'decoder_pos_embed')
AFTER = ['wfm.linear.weight', 'dec_norms.0.bias', 'mask_token', 'cls_token', 'decoder_blocks.0.cross_attn.kv.weight']


def size(c):
    """Height and width of the images."""
    return (c['image'], c['image']) if isinstance(c['image'], int) else tuple(c['image'])


# ------------------------------------------------------------------------------------------------------- network


def forward(w, c, images, visible, predicted):
    """Every quantity of one forward pass, by its name in a recording."""
    eps = c['layer_norm_eps']
    squares = common.cut(images, c['patch'])
    tokens = common.embed(w, 'patch_embed.proj', squares) + w['pos_embed'][:, 1:]
    cls = (w['cls_token'] + w['pos_embed'][:, :1]).expand(len(images), -1, -1)
    x = torch.cat([cls, common.take(tokens, visible)], 1)
    states = [x] if c['patch_embedding_is_a_feature_map'] else []
    for i in range(c['depth']):
        x = common.block(w, f'blocks.{i}', x, c['heads'], eps)
        states += [x] if i in c['feature_maps'] else []

    mixing = w['wfm.linear.weight']
    contexts = [sum(weight * state for weight, state in zip(row, states, strict=True)) for row in mixing]
    places = common.take(w['decoder_pos_embed'][:, 1:], predicted)
    y = w['mask_token'] + places
    for j, context in enumerate(contexts):
        block, source = f'decoder_blocks.{j}', common.layer_norm(w, f'dec_norms.{j}', context, eps)
        q = common.linear(w, f'{block}.cross_attn.q', common.layer_norm(w, f'{block}.norm1', y, eps))
        k, v = common.linear(w, f'{block}.cross_attn.kv', source).chunk(2, -1)
        y = y + common.linear(w, f'{block}.cross_attn.proj', common.attend(q, k, v, c['decoder_heads']))
        y = y + common.mlp(w, f'{block}.mlp', common.layer_norm(w, f'{block}.norm2', y, eps))
    predictions = common.linear(w, 'decoder_pred', common.layer_norm(w, 'decoder_norm', y, eps))

    targets = common.take(squares.permute(0, 1, 3, 4, 2).flatten(2), predicted)  # colour last
    if c['normalised_pixels']:
        centred = targets - targets.mean(-1, keepdim=True)
        variance = centred.square().sum(-1, keepdim=True) / (targets.shape[-1] - 1)
        targets = centred / (variance + 1e-6).sqrt()
    return {
        'encoder_states': torch.stack(states),
        'decoder_context': torch.stack(contexts, -1),
        'predictions': predictions,
        'targets': targets,
        'loss': (predictions - targets).square().mean(),
    }


def is_trained(name):
    return name not in FIXED


# ----------------------------------------------------------------------------------------------------- recording


def replay(arrays, settings):
    """Everything a recording holds beside its inputs, computed from its inputs."""
    c, options = settings['config'], settings['optimiser']
    images = torch.tensor(arrays['images']).double()
    masks = [
        [torch.tensor(arrays[name][step]).long() for name in ('visible', 'predicted')] for step in range(len(images))
    ]
    out = {}

    def whole(w):
        out.update(forward(w, c, images[0], *masks[0]))
        return out['loss']

    _, gradients = common.gradients_of(common.table(arrays, 'param/'), is_trained, whole)
    out |= {f'grad/{name}': value for name, value in gradients.items()}
    w, state, losses = common.table(arrays, 'param/'), {}, []
    for step in range(1, len(images)):
        loss, gradients = common.gradients_of(
            w, is_trained, lambda w, step=step: forward(w, c, images[step], *masks[step])['loss']
        )
        losses.append(float(loss))
        common.adamw(
            w,
            gradients,
            state,
            step,
            lambda name, value: (
                options['lr'],
                0.0 if name.endswith('bias') or value.ndim < 2 else options['weight_decay'],
            ),
            options['betas'],
            options['eps'],
        )
    out['steps/losses'] = np.array(losses, dtype=np.float32)
    out |= {f'steps/after/{name}': w[name] for name in AFTER}
    return {name: common.as_recorded(value) for name, value in out.items()}


def new_weights(c, generator):
    """Weights of a model that is not trained yet, none of them zero."""
    draw = common.Draw(generator, lambda *shape: draw.normal(*shape, std=0.15))
    dim, width, patch, ratio = c['width'], c['decoder_width'], c['patch'], c['mlp_ratio']
    height, breadth = size(c)
    number = (height // patch) * (breadth // patch)
    w = {'cls_token': draw.normal(1, 1, dim), 'mask_token': draw.normal(1, 1, width)}
    for name, channels in (('pos_embed', dim), ('decoder_pos_embed', width)):
        w[name] = draw.normal(1, 1 + number, channels, std=0.5)
    w |= draw.full('patch_embed.proj', dim, 3 * patch**2)
    w['patch_embed.proj.weight'] = w['patch_embed.proj.weight'].unflatten(1, (3, patch, patch))

    def block(name, channels):
        inner = round(ratio * channels)
        mlp = draw.full(f'{name}.mlp.fc1', inner, channels) | draw.full(f'{name}.mlp.fc2', channels, inner)
        return draw.normed(f'{name}.norm1', channels) | draw.normed(f'{name}.norm2', channels) | mlp

    for i in range(c['depth']):
        name = f'blocks.{i}'
        w |= block(name, dim) | draw.full(f'{name}.attn.qkv', 3 * dim, dim) | draw.full(f'{name}.attn.proj', dim, dim)
    for j in range(c['decoder_depth']):
        name = f'decoder_blocks.{j}'
        w |= block(name, width) | draw.normed(f'dec_norms.{j}', dim)
        w |= draw.full(f'{name}.cross_attn.q', width, width) | draw.full(f'{name}.cross_attn.kv', 2 * width, dim)
        w |= draw.full(f'{name}.cross_attn.proj', width, width)
    states = len(c['feature_maps']) + c['patch_embedding_is_a_feature_map']
    w['wfm.linear.weight'] = draw.normal(c['decoder_depth'], states, std=states**-0.5)
    w |= draw.normed('decoder_norm', width) | draw.full('decoder_pred', 3 * patch**2, width)
    w = common.perturbed(w, 0.1, generator)
    for name in FIXED:
        w[name][:, 0] = 0
    return w


def record(path, *, seed=1, steps=3, optimiser=None, **changes):
    """Make a recording in the layout of the given one; ``path`` is that of the .npz, ``changes`` are to :data:`TOY`."""
    c, generator = {**TOY, **changes}, torch.Generator().manual_seed(seed)
    height, width = size(c)
    total = (height // c['patch']) * (width // c['patch'])
    seen = int(total * (1 - c['mask_ratio']))
    asked = total - seen - int(total * (c['mask_ratio'] - c['kept_mask_ratio']))
    assert 0 < seen < total
    orders = torch.rand(1 + steps, c['batch'], total, generator=generator).argsort(-1)
    images = [common.random_images(c['batch'], height, width, generator) for _ in range(1 + steps)]
    arrays = {
        'images': np.stack(images).astype(np.float16),
        'visible': orders[..., :seen].numpy(),
        'predicted': orders[..., seen : seen + asked].sort(-1).values.numpy(),
    }
    arrays |= {f'param/{key}': value.numpy().astype(np.float32) for key, value in new_weights(c, generator).items()}
    settings = {'seed': seed, 'config': c, 'optimiser': OPTIMISER | (optimiser or {})}
    return common.write(path, arrays | replay(arrays, settings), settings)
