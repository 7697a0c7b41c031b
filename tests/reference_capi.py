"""A second, naive implementation of CAPI's training step, independent of mmmim's.

It exists to make recordings of other sizes than the one in ``tests/data``, for mmmim to replay: nothing here is
imported from mmmim, and every detail is written the slow and literal way (attention as a softmax, rope computed by
every attention, every predicted token on its own, Sinkhorn-Knopp one position at a time, two optimisers). It computes
in float64 by default, so that what a comparison shows is the rounding of the other side only.

Everything a wrong implementation would get wrong is a function or a method of its own: the tests replace one of them
and expect the recording to be refused.
"""

import copy
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

MAX_FREQ, MIN_FREQ = 7.0, 7e-4
NORM_EPS = 1e-5

OPTIMISER = {
    'student': {
        'type': 'AdamW',
        'betas': [0.9, 0.95],
        'eps': 1e-8,
        # far more than anybody trains with, so that a wrong parameter group shows in the final norms
        'weight_decay': 2.0,
        'norm_weight_wd_factor': 0.1,
        'bias_wd_factor': 0.0,
        'patch_embed_lr_factor': 0.2,
        'rope_lr_factor': 0.0,
    },
    'clustering': {'type': 'AdamW', 'betas': [0.9, 0.95], 'eps': 1e-8, 'weight_decay': 0.5},
    'note': 'weight decay is exaggerated on purpose, so that a wrong parameter group shows in the final norms',
}
TEMPERATURES = {'student': 0.12, 'teacher': 0.06}
# (lr, clustering_lr, momentum): no constant ratio between the three, and an average that moves visibly
SCHEDULE = [(0.002, 0.0015, 0.9), (0.004, 0.001, 0.8), (0.003, 0.002, 0.95)]
ARRAYS = {
    'images': '[B,3,H,W] normalised pixels',
    'visible_indices': 'flat indices into B*N patches, row-major, sorted per image',
    'predict_indices': 'flat indices into B*N patches',
    'teacher_patches': '[B,N,D] teacher patch tokens after the final norm',
    'assignments': '[B,N,K] positional Sinkhorn-Knopp of the clustering head',
    'targets': '[M_total,K] assignments at predict_indices',
    'student_visible': '[B,V,D] student patch tokens after the final norm, registers dropped',
    'predictions': '[M_total,Dp] predictor output after its norm',
    'logits': '[M_total,K] student head',
    'capi_loss, clustering_loss': 'scalars',
    'eval_global, eval_registers, eval_featmap': 'student in eval mode on the full image: [B,Dp], [B,R,D], [B,h,w,D]',
    'sd.{student,student_head,teacher,clustering}.*': (
        'weights in the key layout of the reference (teacher differs from student on purpose)'
    ),
    'gradnorm.*': 'gradient norms of capi_loss + clustering_loss',
    'traj.t.*': (
        'optimiser steps from these weights: inputs, losses BEFORE the step, lr, clustering_lr, momentum; EMA after '
        'the step; drop path 0'
    ),
    'traj.final_norm.*': 'parameter norms after the last step',
}


# ---------------------------------------------------------------------------------------------------- positions


def patch_coordinates(height, width, dtype):
    """Rows and columns of a grid of patches, 0 and 1 at its ends: ``[height * width, 2]``, row-major."""
    rows = torch.linspace(0, 1, height, dtype=dtype)
    columns = torch.linspace(0, 1, width, dtype=dtype)
    return torch.stack([torch.stack([row, column]) for row in rows for column in columns])


def border_coordinates(count, dtype):
    """``count`` points around the border of the unit square, a quarter of them on each side."""
    side, rest = divmod(count, 4)
    if rest:
        raise ValueError(f'{count} registers cannot be spread evenly over four sides.')
    steps = [i / side for i in range(side)]
    points = [(c, 0) for c in steps] + [(1, c) for c in steps] + [(1 - c, 1) for c in steps]
    points += [(0, 1 - c) for c in steps]
    return torch.tensor(points, dtype=dtype).reshape(count, 2)


def register_coordinates(count, seen):
    """The border points of the bounding box of the tokens seen, for each image: ``[B, N, 2]`` -> ``[B, R, 2]``."""
    low = seen.amin(1, keepdim=True)
    high = seen.amax(1, keepdim=True)
    return low + border_coordinates(count, seen.dtype) * (high - low)


def rope_table(head_dim):
    """Angle per unit of coordinate: rows turn the first half of the channels, columns the second."""
    count = head_dim // 4
    exponents = torch.linspace(0, -1, count, dtype=torch.float64)
    freqs = MAX_FREQ * (MAX_FREQ / MIN_FREQ) ** exponents * 2 * math.pi
    table = torch.zeros(2, head_dim, dtype=torch.float64)
    table[0, : head_dim // 2] = torch.cat([freqs, freqs])
    table[1, head_dim // 2 :] = torch.cat([freqs, freqs])
    return table


def rotate(x, angle):
    """Turn channel ``i`` with channel ``i + head_dim / 2`` by ``angle``."""
    first, second = x.chunk(2, -1)
    return x * angle.cos() + torch.cat([-second, first], -1) * angle.sin()


# ------------------------------------------------------------------------------------------------------ network


def rms_norm(x, weight=None):
    out = x / (x.square().mean(-1, keepdim=True) + NORM_EPS).sqrt()
    return out if weight is None else out * weight


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return rms_norm(x, self.weight)


class Rope(nn.Module):
    def __init__(self, head_dim):
        super().__init__()
        self.freqs = nn.Parameter(rope_table(head_dim))

    def forward(self, x, coordinates):
        angle = coordinates @ self.freqs
        return rotate(x, angle[:, None])


class Attention(nn.Module):
    def __init__(self, dim, context_dim, heads):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(context_dim, dim, bias=False)
        self.v_proj = nn.Linear(context_dim, dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)
        self.rope = Rope(dim // heads)

    def split(self, x):
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x, coordinates, context=None, context_coordinates=None):
        if context is None:
            context, context_coordinates = x, coordinates
        q = self.rope(self.split(self.q_proj(x)), coordinates)
        k = self.rope(self.split(self.k_proj(context)), context_coordinates)
        v = self.split(self.v_proj(context))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim, bias=False)
        self.fc2 = nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x):
        return self.fc2(gelu(self.fc1(x)))


class Residual(nn.Module):
    def __init__(self, dim, fn):
        super().__init__()
        self.norm = Norm(dim)
        self.fn = fn

    def forward(self, x, *args):
        return x + self.fn(self.norm(x), *args)


class Block(nn.Module):
    def __init__(self, dim, context_dim, heads):
        super().__init__()
        self.residual1 = Residual(dim, Attention(dim, context_dim, heads))
        self.residual2 = Residual(dim, Mlp(dim))

    def forward(self, x, *args):
        return self.residual2(self.residual1(x, *args))


class Blocks(nn.Module):
    def __init__(self, depth, dim, context_dim, heads):
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, context_dim, heads) for _ in range(depth))


class Student(nn.Module):
    """Encoder and predictor; the teacher is another one of these."""

    def __init__(self, settings):
        super().__init__()
        s = settings
        self.patch = s['patch']
        self.patch_embed = nn.Conv2d(3, s['dim'], self.patch, self.patch)
        self.registers = nn.Parameter(torch.zeros(1, s['registers'], s['dim']))
        self.mask_token = nn.Parameter(torch.zeros(1, s['predictor_dim']))
        self.encoder = Blocks(s['enc'], s['dim'], s['dim'], s['heads'])
        self.decoder = Blocks(s['dec'], s['predictor_dim'], s['dim'], s['heads'])

    def coordinates(self, images):
        height, width = images.shape[2] // self.patch, images.shape[3] // self.patch
        return patch_coordinates(height, width, images.dtype).expand(len(images), -1, -1)

    def encode(self, images, visible=None):
        """The normed tokens, registers first, and their coordinates.

        Args:
            images: ``[B, 3, H, W]``.
            visible: Flat indices of the patches to see, as many for every image; None for all.
        """
        tokens = F.conv2d(images, self.patch_embed.weight, self.patch_embed.bias, stride=self.patch)
        tokens = tokens.flatten(2).transpose(1, 2)
        where = self.coordinates(images)
        if visible is not None:
            tokens = tokens.flatten(0, 1)[visible].reshape(len(images), -1, tokens.shape[-1])
            where = where.flatten(0, 1)[visible].reshape(len(images), -1, 2)
        count = self.registers.shape[1]
        tokens = torch.cat([self.registers.expand(len(images), -1, -1), tokens], 1)
        where = torch.cat([register_coordinates(count, where), where], 1)
        for block in self.encoder.blocks:
            tokens = block(tokens, where)
        return rms_norm(tokens), where

    def predict(self, images, context, context_where, indices, depth=None):
        """The prediction at every flat index, each with a copy of its image's context and nothing beside it."""
        where = self.coordinates(images)
        image = indices // where.shape[1]
        where = where.flatten(0, 1)[indices][:, None]
        tokens = self.mask_token.expand(len(indices), 1, -1)
        for block in self.decoder.blocks[:depth]:
            tokens = block(tokens, where, context[image], context_where[image])
        return rms_norm(tokens)[:, 0]

    def evaluate(self, images):
        """Global feature (the first predictor block at every position, averaged), registers, feature map."""
        tokens, where = self.encode(images)
        count = self.registers.shape[1]
        total = len(images) * (tokens.shape[1] - count)
        pooled = self.predict(images, tokens, where, torch.arange(total), depth=1)
        pooled = pooled.reshape(len(images), -1, pooled.shape[-1]).mean(1)
        height, width = images.shape[2] // self.patch, images.shape[3] // self.patch
        feature_map = tokens[:, count:].reshape(len(images), height, width, -1)
        return pooled, tokens[:, :count], feature_map


def unit(x, eps):
    return x / x.norm(dim=-1, keepdim=True).clamp(min=eps)


class WeightNormLinear(nn.Module):
    def __init__(self, dim, out):
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out, 1))
        self.weight_v = nn.Parameter(torch.zeros(out, dim))

    def forward(self, x):
        weight = self.weight_g * self.weight_v / (self.weight_v.norm(dim=1, keepdim=True) + 1e-8)
        return x @ weight.T


class StudentHead(nn.Module):
    def __init__(self, settings):
        super().__init__()
        self.last_layer = WeightNormLinear(settings['predictor_dim'], settings['clusters'])

    def forward(self, x):
        return self.last_layer(unit(x, 1e-12))


class Clustering(nn.Module):
    def __init__(self, settings):
        super().__init__()
        self.layer = nn.Linear(settings['dim'], settings['clusters'])

    def forward(self, x):
        return self.layer(unit(x, 1e-7))


# --------------------------------------------------------------------------------------------------------- step


def sinkhorn_knopp(logits, iterations=3, eps=1e-8):
    """Balance one matrix ``[tokens, prototypes]``."""
    matrix = (logits - logits.amax(0, keepdim=True) + 50).exp()
    for _ in range(iterations):
        matrix = matrix / (matrix.sum(0, keepdim=True) + eps)
        matrix = matrix / (matrix.sum(1, keepdim=True) + eps)
    return matrix


def assign(logits, temperature):
    """Positional Sinkhorn-Knopp of ``[B, N, K]``: the matrix of every position is balanced on its own."""
    logits = logits.detach() / temperature
    return torch.stack([sinkhorn_knopp(logits[:, n]) for n in range(logits.shape[1])], 1)


def cross_entropy(targets, logits, temperature):
    return -(targets * (logits / temperature).log_softmax(-1)).sum(-1).mean()


def average(teacher, student, momentum):
    """Move the teacher: m * teacher + (1 - m) * student."""
    with torch.no_grad():
        for mine, other in zip(teacher.parameters(), student.parameters(), strict=True):
            mine.copy_(momentum * mine + (1 - momentum) * other)


def factors(name, student):
    """Factors of the learning rate and of the weight decay for a parameter of the student or of its head."""
    lr, decay = 1.0, 1.0
    if name.startswith('patch_embed.'):
        lr = student['patch_embed_lr_factor']
    if name.endswith('rope.freqs'):
        lr = student['rope_lr_factor']
    if name.endswith('norm.weight'):
        decay = student['norm_weight_wd_factor']
    if name.endswith('.bias'):
        decay = student['bias_wd_factor']
    return lr, decay


def norm(x):
    """Norm of a tensor, in float64: a float32 sum of a million squares is wrong in the fifth digit."""
    return x.double().square().sum().sqrt()


class Run:
    """Student, its head, teacher, clustering head and two optimisers, from recorded weights."""

    def __init__(self, arrays, settings, dtype=torch.float64):
        self.settings = settings
        self.dtype = dtype
        self.modules = {
            'student': Student(settings),
            'student_head': StudentHead(settings),
            'teacher': Student(settings),
            'clustering': Clustering(settings),
        }
        for name, module in self.modules.items():
            prefix = f'sd.{name}.'
            state = {key[len(prefix) :]: torch.tensor(a) for key, a in arrays.items() if key.startswith(prefix)}
            module.to(dtype).load_state_dict(state)
            module.train()
        self.student, self.head, self.teacher, self.clustering = self.modules.values()

        options = settings['optimiser']['student']
        groups = []
        for module in (self.student, self.head):
            for name, parameter in module.named_parameters():
                lr, decay = factors(name, options)
                group = {'params': [parameter], 'lr_factor': lr, 'weight_decay': options['weight_decay'] * decay}
                groups.append(group)
        self.optimiser = self.adamw(groups, options)
        options = settings['optimiser']['clustering']
        group = {'params': list(self.clustering.parameters()), 'weight_decay': options['weight_decay']}
        self.clustering_optimiser = self.adamw([group], options)

    @staticmethod
    def adamw(groups, options):
        betas = tuple(options['betas'])
        return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=options['eps'], foreach=False, fused=False)

    def forward(self, images, visible, predicted):
        """Every quantity of one step, by its name in a recording."""
        images = torch.as_tensor(images).to(self.dtype)
        visible, predicted = torch.as_tensor(visible), torch.as_tensor(predicted)
        temperatures = self.settings['temperatures']
        registers = self.settings['registers']
        with torch.no_grad():
            teacher_patches = self.teacher.encode(images)[0][:, registers:]
        clustering_logits = self.clustering(teacher_patches)
        assignments = assign(clustering_logits, temperatures['teacher'])
        targets = assignments.flatten(0, 1)[predicted]
        context, where = self.student.encode(images, visible)
        predictions = self.student.predict(images, context, where, predicted)
        logits = self.head(predictions)
        return {
            'teacher_patches': teacher_patches,
            'assignments': assignments,
            'targets': targets,
            'student_visible': context[:, registers:],
            'predictions': predictions,
            'logits': logits,
            'capi_loss': cross_entropy(targets, logits, temperatures['student']),
            'clustering_loss': cross_entropy(assignments, clustering_logits, temperatures['student']),
        }

    def backward(self, out):
        for module in self.modules.values():
            module.zero_grad()
        (out['capi_loss'] + out['clustering_loss']).backward()

    def gradient_norms(self):
        return {
            f'gradnorm.{name}.{key}': norm(parameter.grad)
            for name, module in self.modules.items()
            if name != 'teacher'
            for key, parameter in module.named_parameters()
        }

    def step(self, lr, clustering_lr, momentum):
        for group in self.optimiser.param_groups:
            group['lr'] = lr * group['lr_factor']
        for group in self.clustering_optimiser.param_groups:
            group['lr'] = clustering_lr
        self.optimiser.step()
        self.clustering_optimiser.step()
        average(self.teacher, self.student, momentum)

    def norms(self):
        return {
            f'traj.final_norm.{name}.{key}': norm(parameter)
            for name, module in self.modules.items()
            for key, parameter in module.named_parameters()
        }

    def groups(self):
        """How many weights have each pair of factors."""
        counts: dict = {}
        options = self.settings['optimiser']['student']
        for module in (self.student, self.head):
            for name, parameter in module.named_parameters():
                key = str(factors(name, options))
                counts[key] = counts.get(key, 0) + parameter.numel()
        return counts


def replay(arrays, settings, dtype=torch.float64):
    """Everything a recording holds beside its inputs, computed from its inputs."""
    run = Run(arrays, settings, dtype)
    out = run.forward(arrays['images'], arrays['visible_indices'], arrays['predict_indices'])
    run.backward(out)
    out.update(run.gradient_norms())
    with torch.no_grad():
        images = torch.as_tensor(arrays['images']).to(dtype)
        names = ('eval_global', 'eval_registers', 'eval_featmap')
        out.update(zip(names, run.student.evaluate(images), strict=True))
    step = 0
    while f'traj.{step}.images' in arrays:
        inputs = {
            name: arrays[f'traj.{step}.{name}']
            for name in ('images', 'visible_indices', 'predict_indices', 'lr', 'clustering_lr', 'momentum')
        }
        now = run.forward(inputs['images'], inputs['visible_indices'], inputs['predict_indices'])
        for name in ('capi_loss', 'clustering_loss'):
            out[f'traj.{step}.{name}'] = now[name]
        run.backward(now)
        run.step(float(inputs['lr']), float(inputs['clustering_lr']), float(inputs['momentum']))
        step += 1
    out.update(run.norms())
    return {name: value.detach().numpy().astype(np.float32) for name, value in out.items()}


# ---------------------------------------------------------------------------------------------------- recording


def random_weights(settings, generator):
    """Weights of a student, a head, a teacher that is somebody else, and a clustering head.

    By the published initialisation, but what starts at a constant (norm weights, gains, the clustering bias) is
    moved away from it: a factor of one cannot show that it was forgotten.
    """

    def normal(shape, std, mean=0.0):
        return mean + std * torch.randn(shape, generator=generator, dtype=torch.float64)

    def uniform(shape, bound):
        return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * bound

    modules = {
        'student': Student(settings),
        'student_head': StudentHead(settings),
        'teacher': Student(settings),
        'clustering': Clustering(settings),
    }
    state = {}
    for module_name, module in modules.items():
        for name, parameter in module.named_parameters():
            shape = parameter.shape
            if name.endswith('rope.freqs'):
                value = rope_table(shape[1])
            elif name.endswith('norm.weight'):
                value = normal(shape, 0.2, 1.0)
            elif name in ('registers', 'mask_token') or name.endswith('weight_v'):
                value = normal(shape, 0.02)
            elif name.endswith('weight_g'):
                value = normal(shape, 0.1, 1.0)
            elif module_name == 'clustering':
                value = normal(shape, 1.0 if name == 'layer.weight' else 0.1)
            elif name == 'patch_embed.bias':
                value = uniform(shape, 1 / math.sqrt(3 * settings['patch'] ** 2))
            else:  # every other weight is a matrix, xavier-uniform
                value = uniform(shape, math.sqrt(6 / (shape[0] + shape[1:].numel())))
            state[f'sd.{module_name}.{name}'] = value.numpy().astype(np.float32)
    return state


def random_mask(height, width, ratio, subsampling, generator):
    """Inverse block masking with roll: the visible patches (sorted) and some of the others (not sorted)."""

    def uniform():
        return torch.rand((), generator=generator).item()

    total = height * width
    masked = int(total * ratio)
    count = total - masked
    # an aspect between 1/2 and 2 with which the block still fits the grid
    low = max(math.log(0.5), math.log(count / width**2))
    high = min(math.log(2.0), math.log(height**2 / count))
    aspect = math.exp(low + (high - low) * uniform())
    rows = min(math.ceil(math.sqrt(count * aspect)), height)
    columns = min(math.ceil(math.sqrt(count / aspect)), width)
    if rows * columns < count:  # the rounding of a clipped side
        rows, columns = math.ceil(count / width), width
    top, left = int(uniform() * (height - rows + 1)), int(uniform() * (width - columns + 1))
    cells = [(top + r, left + c) for r in range(rows) for c in range(columns)][:count]
    down, right = int(uniform() * height), int(uniform() * width)
    visible = sorted((r + down) % height * width + (c + right) % width for r, c in cells)
    hidden = torch.tensor(sorted(set(range(total)) - set(visible)))
    order = torch.randperm(len(hidden), generator=generator)[: int(masked * subsampling)]
    return torch.tensor(visible), hidden[order]


def random_inputs(settings, height, width, generator, shuffle):
    """Images and indices of one step.

    Args:
        settings: The settings of the recording.
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        generator: For all random numbers.
        shuffle: Whether predictions of different images are mixed, instead of image after image.
    """
    batch, patch = settings['batch'], settings['patch']
    images = torch.randn(batch, 3, height, width, generator=generator)
    # a smooth part beside the noise, so that the patches of an image resemble each other as they do in photographs
    smooth = torch.randn(batch, 3, 3, 3, generator=generator)
    images = 0.5 * images + F.interpolate(smooth, (height, width), mode='bilinear')
    grid = (height // patch, width // patch)
    visible, predicted = [], []
    for i in range(batch):
        mine = random_mask(*grid, settings['mask_ratio'], settings['prediction_subsampling'], generator)
        visible.append(mine[0] + i * grid[0] * grid[1])
        predicted.append(mine[1] + i * grid[0] * grid[1])
    predicted = torch.cat(predicted)
    if shuffle:
        predicted = predicted[torch.randperm(len(predicted), generator=generator)]
    return {
        'images': images.numpy(),
        'visible_indices': torch.cat(visible).numpy(),
        'predict_indices': predicted.numpy(),
    }


def record(
    path,
    *,
    img,
    patch,
    dim,
    heads,
    enc,
    dec,
    predictor_dim,
    registers,
    clusters,
    batch,
    mask_ratio,
    prediction_subsampling,
    seed,
    optimiser=None,
    temperatures=None,
    schedule=None,
    shuffle=False,
    dtype=torch.float64,
):
    """Write ``path`` (.npz) and the .json beside it, in the layout of the recording in ``tests/data``.

    Args:
        path: Of the .npz.
        img: Side of the images, or (height, width).
        patch: Side of a patch.
        dim: Width of the encoder.
        heads: Of encoder and predictor.
        enc: Blocks of the encoder.
        dec: Blocks of the predictor.
        predictor_dim: Width of the predictor.
        registers: How many, a multiple of 4.
        clusters: How many prototypes.
        batch: Images.
        mask_ratio: Part of the patches that is hidden.
        prediction_subsampling: Part of the hidden patches that is predicted.
        seed: Of weights, images and masks.
        optimiser: ``{'student': {...}, 'clustering': {...}}`` to change in :data:`OPTIMISER`.
        temperatures: To change in :data:`TEMPERATURES`.
        schedule: (lr, clustering_lr, momentum) of every step of the trajectory.
        shuffle: Whether predictions of different images are mixed.
        dtype: What to compute in; the recording is float32.

    Returns:
        ``path``.
    """
    path = Path(path)
    height, width = (img, img) if isinstance(img, int) else img
    options = copy.deepcopy(OPTIMISER)
    for name, changes in (optimiser or {}).items():
        options[name].update(changes)
    settings = {
        'groups': {},
        'optimiser': options,
        'predictor_dim': predictor_dim,
        'seed': seed,
        'img': img if isinstance(img, int) else list(img),
        'patch': patch,
        'dim': dim,
        'heads': heads,
        'enc': enc,
        'dec': dec,
        'registers': registers,
        'clusters': clusters,
        'batch': batch,
        'mask_ratio': mask_ratio,
        'prediction_subsampling': prediction_subsampling,
        'arrays': ARRAYS,
        'drop_path': 0.0,
        'temperatures': {**TEMPERATURES, **(temperatures or {})},
    }
    generator = torch.Generator().manual_seed(seed)
    arrays = random_weights(settings, generator)
    arrays.update(random_inputs(settings, height, width, generator, shuffle))
    for step, (lr, clustering_lr, momentum) in enumerate(schedule or SCHEDULE):
        inputs = random_inputs(settings, height, width, generator, shuffle)
        inputs.update(lr=np.float32(lr), clustering_lr=np.float32(clustering_lr), momentum=np.float32(momentum))
        arrays.update({f'traj.{step}.{name}': value for name, value in inputs.items()})
    arrays.update(replay(arrays, settings, dtype))
    settings['groups'] = Run(arrays, settings, dtype).groups()
    np.savez(path, **arrays)
    path.with_suffix('.json').write_text(json.dumps(settings, indent=1))
    return path
