"""PiLaMIM's training step once more, independent of mmmim's: see :mod:`tests.reference_common`.

Images are put together pixel by pixel, and permutations applied one image at a time.
"""

import math

import numpy as np
import torch

from tests import reference_common as common

EPS = 1e-5
WEIGHT_DECAY, BETAS, ADAM_EPS = 0.05, (0.9, 0.95), 1e-8
FULL_GRADIENTS = ['encoder.cls_token', 'encoder.pos_embedding', 'decoder.mask_token']
FULL_GRADIENTS += ['target_decoder.mask_token', 'target_decoder.pos_embedding', 'decoder.head.bias']
FULL_GRADIENTS += ['encoder.layer_norm.weight']
TOY = dict(img=32, patch=8, dim=48, heads=4, depth=2, pdim=32, ldim=40, ddepth=2, dheads=4, mask_ratio=0.75)
TOY |= dict(batch=3, steps=3, lr=0.001)
# wd: far more than anybody trains with, so that a wrong parameter group shows in the final norms
SMALL = dict(img=12, patch=4, dim=16, heads=2, depth=1, pdim=12, ldim=18, ddepth=1, dheads=3, mask_ratio=0.7)
SMALL |= dict(batch=2, steps=2, wd=2.0, momenta=[0.5, 0.7])


# ------------------------------------------------------------------------------------------------ patches and masks


def pixels_of(patch):
    """Colour, row and column of every number of a patch vector."""
    return [(channel, y, x) for channel in range(3) for y in range(patch) for x in range(patch)]


def fold(vectors, side, patch):
    """Images of patch vectors."""
    number_of = {}  # place in an image: number in the patch vectors, one after another
    corners = [(i, j) for i in range(0, side, patch) for j in range(0, side, patch)]
    for t, (i, j) in enumerate(corners):
        for n, (channel, y, x) in enumerate(pixels_of(patch)):
            number_of[channel, i + y, j + x] = t * 3 * patch**2 + n
    order = [number_of[channel, y, x] for channel in range(3) for y in range(side) for x in range(side)]
    return vectors.flatten(1)[:, order].reshape(len(vectors), 3, side, side)


def inverse(order):
    back = torch.zeros_like(order)
    for b in range(len(order)):
        for place, patch in enumerate(order[b].tolist()):
            back[b, patch] = place
    return back


# ------------------------------------------------------------------------------------------------------- network


def transformer(w, name, x, heads):
    depth = len({key.split('.')[2] for key in w if key.startswith(f'{name}.transformer.')})
    for i in range(depth):
        x = common.block(w, f'{name}.transformer.{i}', x, heads, EPS)
    return x


def located(w, side, images, patch):
    """All patches with their positions."""
    tokens = common.embed(w, f'{side}.patchify', common.cut(images, patch))
    return tokens + w[f'{side}.pos_embedding'][:, 0]


def encode(w, side, c, images, order, kept):
    """Tokens before and after the final norm: CLS, then the first ``kept`` patches of ``order``."""
    x = common.take(located(w, side, images, c['patch']), order[:, :kept])
    x = torch.cat([w[f'{side}.cls_token'].expand(len(x), -1, -1), x], 1)
    x = transformer(w, side, x, c['heads'])
    return x, common.layer_norm(w, f'{side}.layer_norm', x, EPS)


def decoder_input(w, name, embedding, z, back):
    e = common.linear(w, embedding, z)
    missing = back.shape[1] + 1 - e.shape[1]
    tokens = torch.cat([e[:, 1:], w[f'{name}.mask_token'].expand(len(e), missing, -1)], 1)
    return torch.cat([e[:, :1], common.take(tokens, back)], 1) + w[f'{name}.pos_embedding'][:, 0]


# --------------------------------------------------------------------------------------------------------- losses


def masked_loss(pred, target, mask, ratio):
    """Over the nominal ratio, not the share of the patches that are masked."""
    return ((pred - target).square() * mask).mean() / ratio


def targets_of(w, c, images, order):
    """The target encoder's normed tokens, in the order of its permutation, CLS first."""
    with torch.no_grad():
        return encode(w, 'target_encoder', c, images, order, order.shape[1])[1]


def forward(w, c, images, order, target_order):
    """Every quantity of one forward pass, by its name in a recording."""
    kept = int(order.shape[1] * (1 - c['mask_ratio']))
    back, target_back = inverse(order), inverse(target_order)
    pre, z = encode(w, 'encoder', c, images, order, kept)
    target = targets_of(w, c, images, target_order)
    pixel_input = decoder_input(w, 'decoder', 'decoder_embed', z, back)
    latent_input = decoder_input(w, 'target_decoder', 'decoder_latent_embed', z, back)
    vectors = common.linear(w, 'decoder.head', transformer(w, 'decoder', pixel_input, c['dheads']))[:, 1:]
    latents = common.linear(
        w, 'target_decoder.head_latent', transformer(w, 'target_decoder', latent_input, c['dheads'])
    )
    image = fold(vectors, c['img'], c['patch'])
    mask = (back >= kept).double()
    mask_image = fold(mask[..., None].expand_as(vectors), c['img'], c['patch'])
    ratio = c['mask_ratio']
    wanted = common.take(target[:, 1:], target_back)
    losses = {
        'loss_pixel': masked_loss(image, images, mask_image, ratio),
        'loss_latent': masked_loss(latents[:, 1:], wanted, mask[..., None], ratio),
        'loss_cls': (latents[:, 0] - target[:, 0]).square().mean(),
    }
    losses['loss_total'] = losses['loss_pixel'] + losses['loss_latent'] + losses['loss_cls']
    return {
        'draw/enc_backward': back,
        'draw/tgt_backward': target_back,
        'z_vis': z,
        'enc_pre_norm': pre,
        'target_full_shuffled': target,
        'pixdec_in': pixel_input,
        'latdec_in': latent_input,
        'pred_img': image,
        'mask_img': mask_image,
        'pred_latent': latents[:, 1:],
        'mask_latent': mask,
        'pred_cls': latents[:, 0],
        'target_cls': target[:, 0],
        'aligned/target_latent': wanted,
        **{f'aligned/{name}': loss for name, loss in losses.items()},
    }


# ----------------------------------------------------------------------------------------------------------- steps


def is_trained(name):
    return not name.startswith('target_encoder.')


def train(w, c, images, orders, target_orders, momenta):
    """Several steps; the weights are changed. Losses."""
    losses, state = [], {}

    def choose(name, value):
        return c['lr'], c.get('wd', WEIGHT_DECAY)

    for t, momentum in enumerate(momenta):

        def total(w, t=t):
            return forward(w, c, images, orders[t], target_orders[t])['aligned/loss_total']

        loss, gradients = common.gradients_of(w, is_trained, total)
        losses.append(float(loss))
        common.adamw(w, gradients, state, t + 1, choose, BETAS, ADAM_EPS)
        common.average(w, float(momentum))
    return losses


# ----------------------------------------------------------------------------------------------------- recording


def replay(arrays, settings):
    """Everything a recording holds beside its inputs, computed from its inputs (but ``init/``)."""
    c, names = settings['config'], settings['param_names']
    out = {}

    def of(name):
        value = torch.tensor(arrays[name])
        return value.double() if value.is_floating_point() else value.long()

    images = of('images')

    def whole(w):
        out.update(forward(w, c, images, of('draw/enc_forward'), of('draw/tgt_forward')))
        return out['aligned/loss_total']

    _, gradients = common.gradients_of(common.table(arrays, 'sd/'), is_trained, whole)
    out |= {f'aligned/grad/{name}': gradients[name] for name in FULL_GRADIENTS}
    norms = [common.norm(gradients[name]) if name in gradients else -1.0 for name in names]
    out['aligned/grad_norm'] = np.array(norms)
    w, orders = common.table(arrays, 'sd/'), (of('traj/enc_forward'), of('traj/tgt_forward'))
    out['traj/aligned/loss'] = np.array(train(w, c, images, *orders, arrays['traj/momentum']))
    out['traj/aligned/final_param_norm'] = np.array([common.norm(w[name]) for name in names])
    out['traj/aligned/final_target_cls'] = w['target_encoder.cls_token']
    return {name: common.as_recorded(value) for name, value in out.items()}


def new_weights(c, generator):
    """Weights of a model that is not trained yet, in the order of a recording."""
    draw = common.Draw(
        generator,
        lambda rows, columns: common.uniform(generator, rows, columns) / math.sqrt(columns),
        lambda rows, columns: common.uniform(generator, rows) / math.sqrt(columns),
    )
    full, normal = draw.full, draw.normal

    def blocks(name, dim, depth):
        return draw.blocks(f'{name}.transformer', depth, dim, qkv_bias=False)

    dim, number, pixels = c['dim'], (c['img'] // c['patch']) ** 2, 3 * c['patch'] ** 2

    def encoder(name):
        kernel = full(f'{name}.patchify', dim, pixels)
        kernel[f'{name}.patchify.weight'] = kernel[f'{name}.patchify.weight'].reshape(dim, 3, c['patch'], c['patch'])
        w = {f'{name}.cls_token': normal(1, 1, dim), f'{name}.pos_embedding': normal(number, 1, dim)} | kernel
        return w | blocks(name, dim, c['depth']) | draw.normed(f'{name}.layer_norm', dim)

    def decoder(name, embedding, width, depth, head, out):
        w = full(embedding, width, dim)
        w |= {f'{name}.mask_token': normal(1, 1, width), f'{name}.pos_embedding': normal(number + 1, 1, width)}
        return w | blocks(name, width, depth) | full(f'{name}.{head}', out, width)

    w = encoder('encoder') | encoder('target_encoder')
    w |= decoder('decoder', 'decoder_embed', c['pdim'], c.get('pdepth', c['ddepth']), 'head', pixels)
    depth = c.get('ldepth', c['ddepth'])
    return w | decoder('target_decoder', 'decoder_latent_embed', c['ldim'], depth, 'head_latent', dim)


def random_orders(c, generator, *steps):
    """Permutations, first those of the context encoder, then those of the target encoder."""
    total = (c['img'] // c['patch']) ** 2
    orders = torch.rand(2, *steps, c['batch'], total, generator=generator).argsort(-1).numpy().astype(np.int32)
    return dict(zip(('enc_forward', 'tgt_forward'), orders, strict=True))


def record(path, *, seed=1, momenta=(0.9,) * 3, noise_std=0.05, **changes):
    """Make a recording in the layout of the given one; ``path`` is that of the .npz.

    ``momenta`` are of every step; ``changes`` are to :data:`TOY`, and ``wd``, the weight decay, ``pdepth`` and
    ``ldepth``, the depths of the decoders.
    """
    c = {**TOY, **changes}
    generator = torch.Generator().manual_seed(seed)
    w = new_weights(c, generator)
    arrays = {'images': common.random_images(c['batch'], c['img'], c['img'], generator)}
    moved = common.perturbed(w, noise_std, generator)
    arrays |= {f'sd/{name}': value.numpy().astype(np.float32) for name, value in moved.items()}
    arrays |= {f'draw/{name}': order for name, order in random_orders(c, generator).items()}
    arrays |= {f'traj/{name}': order for name, order in random_orders(c, generator, c['steps']).items()}
    arrays['traj/momentum'] = np.array(momenta)
    settings = {'seed': seed, 'config': c, 'param_names': list(w)}
    return common.write(path, arrays | replay(arrays, settings), settings)
