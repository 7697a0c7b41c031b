"""An independent data2vec for images in plain tensor operations, which records runs of any size."""

import numpy as np
import torch
import torch.nn.functional as F

#: Options of targets by variant: state, norm of each block, norm of the mean, threshold of the loss.
VARIANTS = {
    'recipe': ('end', 'layer', True, 2.0),
    'recipe_beta012': ('end', 'layer', True, 0.12),
    'code_without_layer_norm': ('end', None, True, 2.0),
    'paper': ('end', 'layer', False, 2.0),
    'fc_instance': ('fc', 'instance', True, 2.0),
    'end_average_only': ('end', None, False, 2.0),
}
SMALL = {
    'grid': [2, 3], 'patch': 4, 'width': 12, 'depth': 3, 'heads': 3, 'mlp_ratio': 2, 'layer_norm_eps': 1e-5, 'batch': 2,
    'masked_per_image': 4, 'target_layers': [0, 2],
}  # fmt: skip


def index_of(grid):
    """Rows of the table for all pairs of tokens, one pair at a time; CLS is the first."""
    height, width = grid
    places = [None] + [(row, column) for row in range(height) for column in range(width)]
    rows = (2 * height - 1) * (2 * width - 1)
    index = np.empty((len(places), len(places)), dtype=np.int64)
    for i, query in enumerate(places):
        for j, key in enumerate(places):
            if query is None or key is None:
                index[i, j] = rows + (0 if key is not None else 1 if query is not None else 2)
            else:
                down, right = query[0] - key[0] + height - 1, query[1] - key[1] + width - 1
                index[i, j] = down * (2 * width - 1) + right
    return index


def draw_weights(c, rng):
    """Random weights by the names of the layout."""
    width, hidden, (height, columns) = c['width'], round(c['width'] * c['mlp_ratio']), c['grid']
    shapes = {
        'cls_token': (1, 1, width),
        'mask_token': (1, 1, width),
        'patch_embed.proj.weight': (width, 3, c['patch'], c['patch']),
        'patch_embed.proj.bias': (width,),
        'rel_pos_bias.relative_position_bias_table': ((2 * height - 1) * (2 * columns - 1) + 3, c['heads']),
        'norm.weight': (width,), 'norm.bias': (width,), 'lm_head.weight': (width, width), 'lm_head.bias': (width,),
    }  # fmt: skip
    for i in range(c['depth']):
        block = {
            'gamma_1': (width,), 'gamma_2': (width,), 'norm1.weight': (width,), 'norm1.bias': (width,),
            'attn.q_bias': (width,), 'attn.v_bias': (width,), 'attn.qkv.weight': (3 * width, width),
            'attn.proj.weight': (width, width), 'attn.proj.bias': (width,), 'norm2.weight': (width,),
            'norm2.bias': (width,), 'mlp.fc1.weight': (hidden, width), 'mlp.fc1.bias': (hidden,),
            'mlp.fc2.weight': (width, hidden), 'mlp.fc2.bias': (width,),
        }  # fmt: skip
        shapes |= {f'blocks.{i}.{name}': shape for name, shape in block.items()}
    drawn = {name: 0.2 * torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    ones = ('gamma_1', 'gamma_2', 'norm.weight', 'norm1.weight', 'norm2.weight')
    return {name: value + 0.7 if name.endswith(ones) else value for name, value in drawn.items()}


def encode(w, c, images, masked=None):
    """Outputs of all blocks and of their second branches, without CLS, and predictions of all patches."""
    x = F.conv2d(images, w['patch_embed.proj.weight'], w['patch_embed.proj.bias'], stride=c['patch'])
    x = x.flatten(2).transpose(1, 2)
    if masked is not None:
        x = torch.where(masked.flatten(1).unsqueeze(-1), w['mask_token'], x)
    x = torch.cat([w['cls_token'].expand(len(x), -1, -1), x], dim=1)
    bias = w['rel_pos_bias.relative_position_bias_table'][torch.from_numpy(index_of(c['grid']))].permute(2, 0, 1)

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[f'{name}.weight'], w[f'{name}.bias'], c['layer_norm_eps'])

    outputs, branches = [], []
    for i in range(c['depth']):
        own = {key.removeprefix(f'blocks.{i}.'): value for key, value in w.items() if key.startswith(f'blocks.{i}.')}
        zero = torch.zeros_like(own['attn.q_bias'])
        qkv = F.linear(
            norm(x, f'blocks.{i}.norm1'),
            own['attn.qkv.weight'],
            torch.cat([own['attn.q_bias'], zero, own['attn.v_bias']]),
        )
        q, k, v = (part.unflatten(-1, (c['heads'], -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
        weights = (q @ k.mT / q.shape[-1] ** 0.5 + bias).softmax(dim=-1)
        out = (weights @ v).transpose(1, 2).flatten(2)
        x = x + own['gamma_1'] * F.linear(out, own['attn.proj.weight'], own['attn.proj.bias'])
        hidden = F.gelu(F.linear(norm(x, f'blocks.{i}.norm2'), own['mlp.fc1.weight'], own['mlp.fc1.bias']))
        branch = own['gamma_2'] * F.linear(hidden, own['mlp.fc2.weight'], own['mlp.fc2.bias'])
        x = x + branch
        outputs.append(x[:, 1:])
        branches.append(branch[:, 1:])
    return outputs, branches, F.linear(norm(x, 'norm')[:, 1:], w['lm_head.weight'], w['lm_head.bias'])


def standardized(x, dim):
    """Zero mean and unit biased variance, plus 1e-5, along an axis."""
    return (x - x.mean(dim, keepdim=True)) / (x.var(dim, keepdim=True, correction=0) + 1e-5).sqrt()


@torch.no_grad()
def targets_of(teacher, c, images, masked, variant):
    """Targets of the masked patches of a batch, ``[masked, D]``."""
    state, kind, last, _ = VARIANTS[variant]
    outputs, branches, _ = encode(teacher, c, images)
    states = [(outputs if state == 'end' else branches)[i] for i in c['target_layers']]
    if kind is not None:
        states = [standardized(x, -1 if kind == 'layer' else 1) for x in states]
    mean = sum(states) / len(states)
    return (standardized(mean, -1) if last else mean)[masked.flatten(1)]


def loss_of(predictions, targets, beta):
    """Smooth L1."""
    error = (predictions - targets).abs()
    return torch.where(error < beta, error**2 / (2 * beta), error - beta / 2).mean()


def record(seed=0, loss='recipe', steps=2, **changes):
    """Arrays and settings of a run in the form of the given recording."""
    c = {**SMALL, **changes}
    c['image'] = [side * c['patch'] for side in c['grid']]
    rng = torch.Generator().manual_seed(seed)
    weights = draw_weights(c, rng)
    shape = (steps + 1, c['batch'])
    images = torch.randn(*shape, 3, *c['image'], generator=rng).half()
    number = c['grid'][0] * c['grid'][1]
    order = torch.rand(*shape, number, generator=rng).argsort(-1)
    masks = (order < c['masked_per_image']).unflatten(-1, tuple(c['grid']))
    arrays = {f'param/{name}': value for name, value in weights.items()}
    arrays |= {'images': images, 'masks': masks, 'rel_pos_index': torch.from_numpy(index_of(c['grid']))}
    with torch.no_grad():
        outputs, branches, _ = encode(weights, c, images[0].float())
    arrays |= {'teacher_layers_end': torch.stack(outputs), 'teacher_layers_fc': torch.stack(branches)}
    student = {name: value.clone().requires_grad_() for name, value in weights.items()}
    for variant, (_, _, _, beta) in VARIANTS.items():
        targets = targets_of(weights, c, images[0].float(), masks[0], variant)
        predictions = encode(student, c, images[0].float(), masks[0])[2][masks[0].flatten(1)]
        value = loss_of(predictions, targets, beta)
        arrays |= {f'{variant}/targets': targets, f'{variant}/loss': value.detach()}
        if variant == 'recipe':
            value.backward()
            arrays['recipe/predictions'] = predictions.detach()
            arrays |= {f'grad/{name}': value.grad.clone() for name, value in student.items()}
            for value in student.values():
                value.grad = None
    decayed = [n for n, v in student.items() if v.ndim > 1 and n != 'cls_token']
    groups = [
        {'params': [student[n] for n in decayed], 'weight_decay': 0.1},
        {'params': [v for n, v in student.items() if n not in decayed], 'weight_decay': 0.0},
    ]
    optimiser = {'betas': [0.8, 0.9], 'eps': 1e-7, 'weight_decay': 0.1, 'clip_norm': 0.3, 'loss': loss}
    adamw = torch.optim.AdamW(groups, lr=1e-3, betas=(0.8, 0.9), eps=1e-7)
    teacher = {name: value.clone() for name, value in weights.items()}
    rates, decays = [1e-3 * (step + 1) for step in range(steps)], [0.6 + 0.1 * step for step in range(steps)]
    losses, norms = [], []
    for step, (rate, decay) in enumerate(zip(rates, decays, strict=True), start=1):
        for group in adamw.param_groups:
            group['lr'] = rate
        adamw.zero_grad()
        targets = targets_of(teacher, c, images[step].float(), masks[step], loss)
        predictions = encode(student, c, images[step].float(), masks[step])[2][masks[step].flatten(1)]
        value = loss_of(predictions, targets, VARIANTS[loss][3])
        value.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(student.values(), 0.3))
        adamw.step()
        losses.append(value.detach())
        arrays[f'steps/targets_{step - 1}'] = targets
        for name, own in teacher.items():
            own.mul_(decay).add_(student[name].detach(), alpha=1 - decay)
    arrays |= {'steps/losses': torch.stack(losses), 'steps/grad_norms': torch.stack(norms)}
    arrays |= {'steps/lr': np.array(rates), 'steps/ema_decay': np.array(decays)}
    for name in weights:
        arrays |= {f'steps/student/{name}': student[name].detach(), f'steps/teacher/{name}': teacher[name]}
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    return arrays, {'config': c, 'optimiser': optimiser, 'seed': seed}
