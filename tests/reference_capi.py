"""CAPI's training step once more, independent of mmmim's: see :mod:`tests.reference_common`.

Rope is computed by every attention, every predicted token on its own, Sinkhorn-Knopp one position at a time.
"""

import copy
import math

import numpy as np
import torch

from tests import reference_common as common

MAX_FREQ, MIN_FREQ = 7.0, 7e-4
NORM_EPS = 1e-5
_ADAMW = dict(type='AdamW', betas=[0.9, 0.95], eps=1e-8)
OPTIMISER = {
    # Far more decay than anybody trains with, so that a wrong parameter group shows in the final norms.
    'student': dict(_ADAMW, weight_decay=2.0, norm_weight_wd_factor=0.1, bias_wd_factor=0.0)
    | dict(patch_embed_lr_factor=0.2, rope_lr_factor=0.0),
    'clustering': dict(_ADAMW, weight_decay=0.5),
}
TEMPERATURES = {'student': 0.12, 'teacher': 0.06}
# (lr, clustering_lr, momentum): no constant ratio between the three, and an average that moves visibly
SCHEDULE = [(0.002, 0.0015, 0.9), (0.004, 0.001, 0.8), (0.003, 0.002, 0.95)]
TOY = dict(img=64, patch=8, dim=48, heads=4, enc=3, dec=2, predictor_dim=32, registers=8, clusters=64, batch=4)
TOY |= dict(mask_ratio=0.65, prediction_subsampling=0.25)
SMALL = {**TOY, **dict(img=40, dim=16, heads=2, enc=2, predictor_dim=24, clusters=24, batch=3)}
STEP_INPUTS = ('images', 'visible_indices', 'predict_indices', 'lr', 'clustering_lr', 'momentum')
INPUTS = STEP_INPUTS[:3]


# ---------------------------------------------------------------------------------------------------- positions


def patch_coordinates(height, width, dtype):
    """Rows and columns of a grid of patches, 0 and 1 at its ends: ``[height * width, 2]``, row-major."""
    rows = torch.linspace(0, 1, height, dtype=dtype)
    columns = torch.linspace(0, 1, width, dtype=dtype)
    return torch.stack([torch.stack([row, column]) for row in rows for column in columns])


def border_coordinates(count, dtype):
    """``count`` points around the border of the unit square, a quarter of them on each side."""
    steps = [i / (count // 4) for i in range(count // 4)]
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
    exponents = torch.linspace(0, -1, head_dim // 4, dtype=torch.float64)
    freqs = MAX_FREQ * (MAX_FREQ / MIN_FREQ) ** exponents * 2 * math.pi
    result = torch.zeros(2, head_dim, dtype=torch.float64)
    result[0, : head_dim // 2] = torch.cat([freqs, freqs])
    result[1, head_dim // 2 :] = torch.cat([freqs, freqs])
    return result


def rotate(x, angle):
    """Turn channel ``i`` with channel ``i + head_dim / 2`` by ``angle``."""
    first, second = x.chunk(2, -1)
    return x * angle.cos() + torch.cat([-second, first], -1) * angle.sin()


# ------------------------------------------------------------------------------------------------------ network


def rms_norm(x):
    return x / (x.square().mean(-1, keepdim=True) + NORM_EPS).sqrt()


def attention(w, name, heads, x, where, context, context_where):
    def turned(part, tokens, coordinates):
        angle = coordinates @ w[f'{name}.rope.freqs']
        return rotate(common.heads_of(common.linear(w, f'{name}.{part}', tokens), heads), angle[:, None])

    weights = common.attention_weights(turned('q_proj', x, where), turned('k_proj', context, context_where))
    out = weights @ common.heads_of(common.linear(w, f'{name}.v_proj', context), heads)
    return common.linear(w, f'{name}.proj', out.transpose(1, 2).flatten(2))


def block(w, name, heads, x, where, context=None, context_where=None):
    """Without a context it is self-attention."""
    normed = rms_norm(x) * w[f'{name}.residual1.norm.weight']
    source = (normed, where) if context is None else (context, context_where)
    x = x + attention(w, f'{name}.residual1.fn', heads, normed, where, *source)
    normed = rms_norm(x) * w[f'{name}.residual2.norm.weight']
    return x + common.mlp(w, f'{name}.residual2.fn', normed)


def coordinates(c, images):
    height, width = (side // c['patch'] for side in images.shape[2:])
    return patch_coordinates(height, width, images.dtype).expand(len(images), -1, -1)


def encode(w, side, c, images, visible=None):
    """The normed tokens, registers first, and their coordinates; ``visible`` are flat indices of patches."""
    tokens = common.embed(w, f'{side}.patch_embed', common.cut(images, c['patch']))
    where = coordinates(c, images)
    if visible is not None:
        tokens = tokens.flatten(0, 1)[visible].reshape(len(images), -1, tokens.shape[-1])
        where = where.flatten(0, 1)[visible].reshape(len(images), -1, 2)
    registers = w[f'{side}.registers']
    tokens = torch.cat([registers.expand(len(images), -1, -1), tokens], 1)
    where = torch.cat([register_coordinates(registers.shape[1], where), where], 1)
    for i in range(c['enc']):
        tokens = block(w, f'{side}.encoder.blocks.{i}', c['heads'], tokens, where)
    return rms_norm(tokens), where


def predict(w, c, images, context, context_where, indices):
    """The prediction at every flat index, each with a copy of its image's context and nothing beside it."""
    where = coordinates(c, images)
    image = indices // where.shape[1]
    where = where.flatten(0, 1)[indices][:, None]
    tokens = w['student.mask_token'].expand(len(indices), 1, -1)
    for i in range(c['dec']):
        name = f'student.decoder.blocks.{i}'
        tokens = block(w, name, c['heads'], tokens, where, context[image], context_where[image])
    return rms_norm(tokens)[:, 0]


def score(w, predictions):
    """Logits of the student's head, a linear layer with weight norm on features of length 1."""
    direction = w['student_head.last_layer.weight_v']
    weight = w['student_head.last_layer.weight_g'] * direction / (direction.norm(dim=1, keepdim=True) + 1e-8)
    return common.unit(predictions) @ weight.T


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


def forward(w, c, images, visible, predicted):
    """Every quantity of one step, by its name in a recording."""
    registers, temperatures = c['registers'], c['temperatures']
    with torch.no_grad():
        teacher_patches = encode(w, 'teacher', c, images)[0][:, registers:]
    clustering_logits = common.linear(w, 'clustering.layer', common.unit(teacher_patches, 1e-7))
    assignments = assign(clustering_logits, temperatures['teacher'])
    targets = assignments.flatten(0, 1)[predicted]
    context, where = encode(w, 'student', c, images, visible)
    predictions = predict(w, c, images, context, where, predicted)
    logits = score(w, predictions)
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


def factors(name, student):
    """Factors of the learning rate and of the weight decay for a parameter of the student or of its head."""
    lr, decay = 1.0, 1.0
    if '.patch_embed.' in name:
        lr = student['patch_embed_lr_factor']
    if name.endswith('rope.freqs'):
        lr = student['rope_lr_factor']
    if name.endswith('norm.weight'):
        decay = student['norm_weight_wd_factor']
    if name.endswith('.bias'):
        decay = student['bias_wd_factor']
    return lr, decay


def update(w, gradients, state, step, options, rates):
    """The two optimisers, then the teacher; ``rates`` as in :data:`SCHEDULE`."""
    lr, clustering_lr, momentum = rates
    student, clustering = options['student'], options['clustering']

    def of_student(name, value):
        rate, decay = factors(name, student)
        return lr * rate, student['weight_decay'] * decay

    def of_clustering(name, value):
        return clustering_lr, clustering['weight_decay']

    for mine, own, choose in ((True, clustering, of_clustering), (False, student, of_student)):
        chosen = {name: g for name, g in gradients.items() if name.startswith('clustering.') == mine}
        common.adamw(w, chosen, state, step, choose, own['betas'], own['eps'])
    common.average(w, momentum, 'student.', 'teacher.')


def is_trained(name):
    return not name.startswith('teacher.')


def replay(arrays, settings):
    """Everything a recording holds beside its inputs, computed from its inputs."""
    w, c, out = common.table(arrays, 'sd.'), settings, {}

    def inputs(prefix):
        images, *indices = (torch.tensor(arrays[f'{prefix}{name}']) for name in INPUTS)
        return images.double(), *indices

    def loss_of(prefix):
        def loss(w):
            made = forward(w, c, *inputs(prefix))
            out.update(made if not prefix else {f'{prefix}{n}': made[n] for n in ('capi_loss', 'clustering_loss')})
            return made['capi_loss'] + made['clustering_loss']

        return loss

    _, gradients = common.gradients_of(w, is_trained, loss_of(''))
    out |= {f'gradnorm.{name}': np.float32(common.norm(gradient)) for name, gradient in gradients.items()}
    step, state = 0, {}
    while f'traj.{step}.images' in arrays:
        _, gradients = common.gradients_of(w, is_trained, loss_of(f'traj.{step}.'))
        rates = [float(arrays[f'traj.{step}.{name}']) for name in STEP_INPUTS[3:]]
        update(w, gradients, state, step + 1, c['optimiser'], rates)
        step += 1
    out |= {f'traj.final_norm.{name}': np.float32(common.norm(value)) for name, value in w.items()}
    return {name: common.as_recorded(value) for name, value in out.items()}


# ---------------------------------------------------------------------------------------------------- recording


def new_weights(c, generator):
    """Weights of a student, a head, a teacher that is somebody else, and a clustering head.

    By the published initialisation, but what starts at a constant (norm weights, gains, the clustering bias) is
    moved away from it: a factor of one cannot show that it was forgotten.
    """

    def normal(*shape, std, mean=0.0):
        return mean + std * torch.randn(shape, generator=generator, dtype=torch.float64)

    def matrix(rows, *rest):
        return common.uniform(generator, rows, *rest) * math.sqrt(6 / (rows + math.prod(rest)))

    def blocks(name, depth, dim, context_dim):
        w = {}
        for half in (f'{name}.blocks.{i}.residual' for i in range(depth)):
            w[f'{half}1.norm.weight'] = normal(dim, std=0.2, mean=1.0)
            for part, inputs in (('q', dim), ('k', context_dim), ('v', context_dim)):
                w[f'{half}1.fn.{part}_proj.weight'] = matrix(dim, inputs)
            w |= {f'{half}1.fn.proj.weight': matrix(dim, dim), f'{half}1.fn.rope.freqs': rope_table(dim // c['heads'])}
            w[f'{half}2.norm.weight'] = normal(dim, std=0.2, mean=1.0)
            w |= {f'{half}2.fn.fc1.weight': matrix(4 * dim, dim), f'{half}2.fn.fc2.weight': matrix(dim, 4 * dim)}
        return w

    def network(side):
        dim, width, patch = c['dim'], c['predictor_dim'], c['patch']
        w = {f'{side}.registers': normal(1, c['registers'], dim, std=0.02)}
        w |= {f'{side}.mask_token': normal(1, width, std=0.02)}
        w |= {f'{side}.patch_embed.weight': matrix(dim, 3, patch, patch)}
        w |= {f'{side}.patch_embed.bias': common.uniform(generator, dim) / math.sqrt(3 * patch**2)}
        return w | blocks(f'{side}.encoder', c['enc'], dim, dim) | blocks(f'{side}.decoder', c['dec'], width, dim)

    w = network('student')
    w['student_head.last_layer.weight_g'] = normal(c['clusters'], 1, std=0.1, mean=1.0)
    w['student_head.last_layer.weight_v'] = normal(c['clusters'], c['predictor_dim'], std=0.02)
    w |= network('teacher')
    w['clustering.layer.weight'] = normal(c['clusters'], c['dim'], std=1.0)
    return w | {'clustering.layer.bias': normal(c['clusters'], std=0.1)}


def random_mask(total, ratio, subsampling, generator):
    """The visible patches, one after the other from anywhere (sorted), and some of the others (not sorted)."""
    masked = int(total * ratio)
    places = (torch.arange(total) + int(torch.randint(total, (), generator=generator))) % total
    order = torch.randperm(masked, generator=generator)[: int(masked * subsampling)]
    return places[masked:].sort().values, places[:masked][order]


def random_inputs(c, height, width, generator):
    """Images and indices of one step."""
    images = common.random_images(c['batch'], height, width, generator)
    total, visible, predicted = (height // c['patch']) * (width // c['patch']), [], []
    for i in range(c['batch']):
        mine = random_mask(total, c['mask_ratio'], c['prediction_subsampling'], generator)
        visible.append(mine[0] + i * total)
        predicted.append(mine[1] + i * total)
    return dict(zip(INPUTS, (images, torch.cat(visible).numpy(), torch.cat(predicted).numpy()), strict=True))


def record(path, *, seed=1, optimiser=None, temperatures=None, schedule=SCHEDULE, **changes):
    """Make a recording in the layout of the given one, but for changes to the constants above, at ``path`` (.npz).

    ``img`` is the side of the images, or (height, width).
    """
    c = {**TOY, **changes}
    height, width = (c['img'], c['img']) if isinstance(c['img'], int) else c['img']
    options = copy.deepcopy(OPTIMISER)
    for name, changed in (optimiser or {}).items():
        options[name].update(changed)
    settings = {**c, 'seed': seed, 'optimiser': options, 'drop_path': 0.0}
    settings['temperatures'] = {**TEMPERATURES, **(temperatures or {})}
    generator = torch.Generator().manual_seed(seed)
    weights = new_weights(settings, generator)
    arrays = {f'sd.{name}': value.numpy().astype(np.float32) for name, value in weights.items()}
    arrays |= random_inputs(settings, height, width, generator)
    for step, rates in enumerate(schedule):
        inputs = random_inputs(settings, height, width, generator)
        inputs |= dict(zip(STEP_INPUTS[3:], map(np.float32, rates), strict=True))
        arrays |= {f'traj.{step}.{name}': value for name, value in inputs.items()}
    return common.write(path, arrays | replay(arrays, settings), settings)
