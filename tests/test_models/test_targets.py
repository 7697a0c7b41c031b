"""Target generators against naive versions of themselves."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmmim.models import EMACopy, HOGTarget, LatentTarget, PixelTarget, PrototypeHead, TeacherAssignments
from mmmim.models.functional import low_pass
from mmmim.models.layers import pick_patches
from mmmim.structures import Context
from mmmim.utils import InputError
from tests.registered import ENCODERS, TARGETS, build, method_config, normalized, scrambled
from tests.test_models.test_functional import naive_sinkhorn
from tests.toys import DIM, GRID, PATCH, jittered, random_mask

SIDES = (GRID[0] * PATCH, GRID[1] * PATCH)
OWN = ENCODERS['sincos, CLS']


class Teacher(nn.Module):
    """Knows the tokens of a batch."""

    def __init__(self, tokens, head=None):
        super().__init__()
        self.tokens = tokens
        self.head = head

    def part(self, name):
        return self.get_submodule(name)

    def encode(self, mask=None, depth=None):
        return Context(visible=self.tokens, extra=self.tokens[:, :0], grid=(4, 4), positions=None)


def student_and_teacher(config):
    student = nn.Module()
    student.backbone = scrambled(build(config))
    return student.backbone, EMACopy(student, ('backbone',))


def picked(tokens, mask):
    return torch.stack([tokens[image][mask.flat_predict()[g]] for g, image in enumerate(mask.image_index.tolist())])


# ------------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize(('normalize', 'channels'), [(False, 3), (True, 1)])
def test_pixel_targets_pixel_by_pixel(normalize, channels):
    target, images = PixelTarget(2, normalize, channels), torch.rand(2, channels, 6, 4)
    mask = random_mask(2, visible=2, predict=2, blocks=2, per_image=2, grid=(3, 2))
    patches = target(images, mask, None, None).patches
    for g in range(4):
        for m, patch in enumerate(mask.flat_predict()[g]):
            top, left = 2 * (int(patch) // 2), 2 * (int(patch) % 2)
            values = [
                float(images[g // 2, colour, top + row, left + column])
                for row in range(2)
                for column in range(2)
                for colour in range(channels)
            ]
            if normalize:
                mean = sum(values) / len(values)
                variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
                values = [(value - mean) / math.sqrt(variance + 1e-6) for value in values]
            torch.testing.assert_close(patches[g, m], torch.tensor(values), rtol=1e-4, atol=1e-5)
    assert target(torch.full_like(images, 0.3), mask, None, None).patches.any() == (not normalize)


def test_low_frequencies_alone():
    """Waves up to the cut-off stay as they are, others are gone; targets are cut out of what is left."""
    height, width = 12, 16
    row, column = torch.arange(height) / height, torch.arange(width) / width
    waves = {
        (down, right): torch.cos(2 * math.pi * (down * row.unsqueeze(1) + right * column) + 0.3)
        for down in range(-5, 6)
        for right in range(8)
    }
    for (down, right), wave in waves.items():
        kept = wave if down**2 + right**2 <= 16 else torch.zeros_like(wave)
        torch.testing.assert_close(low_pass(wave, 4.0), kept, rtol=0, atol=1e-5)
    images, mask = torch.rand(2, 3, height, width), random_mask(2, visible=4, predict=5, grid=(3, 4))
    for normalize in (False, True):
        filtered = PixelTarget(4, normalize)(low_pass(images, 3.5), mask, None, None).patches
        found = PixelTarget(4, normalize, low_pass=3.5)(images, mask, None, None).patches
        assert torch.equal(found, filtered)
        assert not torch.allclose(found, PixelTarget(4, normalize)(images, mask, None, None).patches, atol=0.1)


@pytest.mark.parametrize('name', ['pixels', 'pixels of low frequencies', 'gradients', 'tokens'])
def test_what_is_made_of_pixels_is_exact_under_autocast(name):
    target, mask, images = build(TARGETS[name]), random_mask(4), normalized()
    expected = target(images, mask, None, None).patches
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(target(images, mask, None, None).patches, expected)
    assert target(images.bfloat16(), mask, None, None).patches.dtype == expected.dtype


# ----------------------------------------------------------------------------------------------- histograms (MaskFeat)


def test_histograms_are_mmpretrains():
    from mmpretrain.models.selfsup.maskfeat import HOGGenerator

    torch.manual_seed(0)
    images = (torch.randint(256, (1, 3, 224, 224)) - 120.0) / 57.0  # where rounding decides about bins
    assert torch.equal(HOGTarget().patches(images), HOGGenerator()(images))


def test_histograms_of_other_grids():
    """A patch of a larger image has the histograms that it has in a smaller one around it."""
    torch.manual_seed(0)
    images, target = torch.randn(1, 3, 48, 64), HOGTarget()
    whole = target.patches(images)
    # The last patch's gradients at its upper and left side need the pixels beside it only.
    torch.testing.assert_close(target.patches(images[..., 16:48, 16:64])[0, 5], whole[0, 11])
    cells = HOGTarget(patch_size=8).patches(images).view(6, 8, 3, 9)
    torch.testing.assert_close(cells[2, 5], whole.view(3, 4, 3, 9, 2, 2)[1, 2, ..., 0, 1])


# ------------------------------------------------------------------------------------------------------------ latents


@pytest.mark.parametrize('normalize', ['layer', 'standard'])
def test_latents_of_the_teacher(normalize):
    torch.manual_seed(0)
    tokens, mask = torch.randn(3, 16, 5), random_mask(3, blocks=2, per_image=2)
    target = LatentTarget(5, normalize=normalize)(None, mask, Teacher(tokens), None).patches
    expected = picked(tokens, mask)
    centred = expected - expected.mean(dim=-1, keepdim=True)
    squares = centred.pow(2).sum(dim=-1, keepdim=True)
    expected = centred / (squares / 5 + 1e-5 if normalize == 'layer' else squares / 4 + 1e-6).sqrt()
    torch.testing.assert_close(target, expected)


@pytest.mark.parametrize(('gap', 'normalize'), [(False, None), (True, 'layer')])
def test_of_several_tokens_the_first_is_the_target(gap, normalize):
    """Proxies and registers after CLS change nothing of what CLS is; it is normalised like the patches."""
    backbone, teacher = student_and_teacher({**OWN, 'num_cls_tokens': 2, 'num_registers': 3})
    images, mask = normalized(), random_mask(4, per_image=2)
    if gap:
        mask = replace(mask, offsets=torch.zeros(4, 16, 2, dtype=torch.int64))
    target = LatentTarget(DIM, normalize=normalize)(images, mask, teacher.view(images), backbone)
    context = backbone(images)
    patches, cls = picked(context.visible, mask), context.extra[mask.image_index, 0]
    if normalize:
        patches, cls = (F.layer_norm(x, (DIM,)) for x in (patches, cls))
    torch.testing.assert_close(target.patches, patches, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(target.cls, cls, rtol=1e-4, atol=1e-5)
    assert not target.patches.requires_grad


@pytest.mark.parametrize(('own', 'student'), [((2, 1), (0, 1)), ((0, 1), (1, 0))])
def test_an_encoder_of_its_own_tells_of_its_own_tokens(own, student):
    """(CLS, registers) of the encoder that makes the targets, and of the student; a register is no CLS."""
    generator = LatentTarget(DIM, encoder={**OWN, 'num_cls_tokens': own[0], 'num_registers': own[1]})
    backbone = build({**OWN, 'num_cls_tokens': student[0], 'num_registers': student[1]})
    target = generator(normalized(), random_mask(4), None, backbone)
    assert (target.cls is None) == (own[0] == 0)
    if own[0]:
        torch.testing.assert_close(target.cls, generator.encoder(normalized()).extra[:, 0])


def states_of(backbone, images, mask, state):
    """Outputs of all blocks at the patches, or what their second branches add."""
    found, hooks = [], []
    for block in backbone.blocks:
        part = block if state == 'block' else block.scale2
        hooks.append(part.register_forward_hook(lambda module, args, output: found.append(output)))
    backbone(images, mask)
    for hook in hooks:
        hook.remove()
    return [each[:, backbone.num_extra_tokens :] for each in found]


def standardized(x, dim):
    return (x - x.mean(dim, keepdim=True)) / (x.var(dim, keepdim=True, correction=0) + 1e-5).sqrt()


@pytest.mark.parametrize('per_image', [1, 2])
@pytest.mark.parametrize(('sees', 'encoder'), [('all', 'relative, mask tokens'), ('predicted', 'sincos, CLS')])
@pytest.mark.parametrize(
    ('state', 'normalize_layers', 'normalize'),
    [('block', 'layer', 'layer'), ('mlp', 'instance', 'layer'), ('block', None, None), ('mlp', 'layer', 'standard')],
)
def test_a_mean_of_blocks(state, normalize_layers, normalize, sees, encoder, per_image):
    """data2vec: each state normalised, averaged, normalised again; made in micro-batches, once for all who ask."""
    backbone, teacher = student_and_teacher(ENCODERS[encoder])
    teacher.micro_batch_size = 3
    images, mask = normalized(), random_mask(4, blocks=2, per_image=per_image)
    options = {'state': state, 'normalize_layers': normalize_layers, 'normalize': normalize, 'sees': sees}
    generator, view = LatentTarget(DIM, layers=[1, -1], global_target='mean', **options), teacher.view(images)
    target = generator(images, mask, view, backbone)

    states = states_of(teacher.backbone, images, mask.of_predicted if sees == 'predicted' else None, state)[1:]
    if normalize_layers:
        states = [standardized(x, -1 if normalize_layers == 'layer' else 1) for x in states]
    patches = generator.normalized((states[0] + states[1]) / 2)
    cls = patches.mean(dim=1)
    if sees == 'all':
        patches, cls = picked(patches, mask), cls[mask.image_index]
    torch.testing.assert_close(target.patches, patches, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(target.cls, cls, rtol=1e-4, atol=1e-5)
    assert not target.patches.requires_grad
    assert LatentTarget(DIM, layers=[1, -1], **options)(images, mask, view, backbone).cls is None
    calls = []
    teacher.backbone.register_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(generator(images, mask, view, backbone).patches, target.patches)
    assert not calls
    LatentTarget(DIM, layers=[0], **options)(images, mask, view, backbone)
    assert len(calls) == 2


@pytest.mark.parametrize(('depth', 'source'), [(0, 'teacher'), (2, 'student'), (None, 'teacher')])
def test_targets_of_the_first_blocks(depth, source):
    backbone, teacher = student_and_teacher(ENCODERS['projector'])
    mask = random_mask(4)
    shallow = scrambled(build(ENCODERS['projector']))
    shallow.blocks = shallow.blocks[:depth]
    expected = shallow(normalized(), mask.of_predicted).visible
    generator = LatentTarget(DIM, encoder=source, sees='predicted', depth=depth)
    torch.testing.assert_close(generator(normalized(), mask, teacher.view(normalized()), backbone).patches, expected)


@pytest.mark.parametrize(('sees', 'gap'), [('predicted', 2), ('all', 0)])
def test_what_targets_know(sees, gap):
    """Told by gradients: the predicted patches, and the visible ones only if all are seen; nothing in between."""
    backbone = build(ENCODERS['projector'])
    images = torch.randn(3, 3, *(side * (PATCH + gap) for side in GRID), requires_grad=True)
    mask = random_mask(3, visible=10, predict=3, blocks=2)
    mask = jittered(mask, gap) if gap else mask
    generator = LatentTarget(DIM, encoder='student', stop_gradient=False, sees=sees)
    targets = generator(images, mask, None, backbone).patches
    targets[..., 0].sum().backward()
    seen, asked = (
        pick_patches(images.grad, PATCH, index, mask).any(-1) for index in (mask.visible, mask.flat_predict())
    )
    assert asked.all()
    assert seen.all() if sees == 'all' else not seen.any()
    inside = images.detach().zero_().requires_grad_()
    (patches,) = torch.autograd.grad(pick_patches(inside, PATCH, mask.of_all.visible, mask).sum(), inside)
    assert (patches == 0).any() == (gap > 0)
    assert not images.grad[patches == 0].any()


@pytest.mark.parametrize('source', ['teacher', 'student', 'own'])
def test_gradients_through_targets(source):
    """They flow where they were asked for, and nowhere else."""
    backbone, teacher = student_and_teacher(OWN)
    images, mask = normalized().requires_grad_(), random_mask(4)
    for stop in (True, False) if source != 'teacher' else (True,):
        generator = LatentTarget(DIM, encoder=OWN if source == 'own' else source, stop_gradient=stop)
        target = generator(images, mask, teacher.view(images), backbone)
        assert target.patches.requires_grad == target.cls.requires_grad == (not stop)
        if not stop:
            target.patches[..., 0].sum().backward()
            reached = generator.encoder if source == 'own' else backbone
            assert all(p.grad is not None for p in reached.parameters())
    if source == 'own':
        assert all(p.grad is None for p in backbone.parameters())


def test_targets_that_are_not_aligned_are_those_of_other_places():
    backbone, teacher = student_and_teacher(OWN)
    images, mask, generator = normalized(), random_mask(4, predict=10), LatentTarget(DIM, aligned=False)
    latents = backbone(images).visible.detach()
    order = random_mask(4, visible=0, predict=16, seed=5).predict[:, 0]
    generator.draw_order = lambda number, total, device: order
    target = generator(images, mask, teacher.view(images), backbone)
    for b in range(4):
        for m, patch in enumerate(mask.predict[b, 0].tolist()):
            torch.testing.assert_close(target.patches[b, m], latents[b, order[b, patch]])
    torch.testing.assert_close(target.cls, backbone(images).extra[:, 0])
    drawn = LatentTarget.draw_order(50, 9, torch.device('cpu'))
    assert torch.equal(drawn.sort(dim=1).values, torch.arange(9).expand(50, -1))
    assert len({tuple(row) for row in drawn.tolist()}) > 40


@pytest.mark.parametrize(('positional', 'chunk_positions'), [(True, 5), (False, None)])
def test_teacher_assignments(positional, chunk_positions):
    torch.manual_seed(0)
    tokens, mask = torch.randn(6, 16, 5), random_mask(6, per_image=2)
    head = PrototypeHead(5, 9, mlp_dims=(4,))
    generator = TeacherAssignments('head', 9, positional, chunk_positions=chunk_positions)
    target = generator(None, mask, Teacher(tokens, head), None).patches
    with torch.no_grad():
        scores = head(tokens).transpose(0, 1) / 0.06
        expected = naive_sinkhorn(scores if positional else scores.reshape(1, -1, 9)).reshape(16, 6, 9).transpose(0, 1)
    torch.testing.assert_close(target, picked(expected, mask), rtol=1e-4, atol=1e-6)
    assert not target.requires_grad


# ----------------------------------------------------------------------------------------------------------- refusals


def mean_of(layers, encoder=OWN):
    backbone, teacher = student_and_teacher(encoder)
    return LatentTarget(DIM, layers=layers)(None, random_mask(4), teacher.view(normalized()), backbone)


def model_of(layers):
    config = method_config('latents of several blocks')
    generator = {**config['branches']['b']['target_generator'], 'layers': layers}
    return build({**config, 'branches': {'b': {**config['branches']['b'], 'target_generator': generator}}})


def assignments(head, images):
    tokens = torch.randn(images, 16, 5)
    return TeacherAssignments(head, 9)(None, random_mask(images), Teacher(tokens), None)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: LatentTarget(DIM, stop_gradient=False), 'a teacher gets no gradients'),
        (lambda: LatentTarget(DIM, normalize='batch'), 'LatentTarget.normalize must be one of'),
        (lambda: LatentTarget(DIM, state='mlp'), r'LatentTarget\.state is of a mean of blocks: set layers'),
        (
            lambda: LatentTarget(DIM, layers=[0], depth=1),
            r'LatentTarget\.layers must have a block at least, and depth=None',
        ),
        (lambda: LatentTarget(DIM, layers=[0], state='fc'), "state must be one of 'block', 'mlp'"),
        (lambda: LatentTarget(DIM, layers=[0], normalize_layers='batch'), "one of 'layer', 'instance', None"),
        (lambda: LatentTarget(DIM, layers=[0], global_target='cls'), r"global_target must be one of 'mean', None"),
        (lambda: mean_of([3]), 'There is no block 3 in an encoder of 3'),
        (lambda: LatentTarget(DIM, encoder=OWN, layers=[-4]), 'There is no block -4 in an encoder of 3'),
        (lambda: model_of([0, 3]), 'There is no block 3 in an encoder of 3'),
        (lambda: mean_of([0], ENCODERS['timm']), 'TimmEncoder has no mean of the states of blocks'),
        (lambda: LatentTarget(8, encoder=OWN), r'in_dim is 8 and its encoder\.embed_dim is 16'),
        (lambda: LatentTarget(DIM, sees='predicted', aligned=False), "aligned=False draws .*: set sees='all'"),
        (lambda: LatentTarget(DIM)(None, random_mask(2), None, None), 'LatentTarget needs a teacher'),
        (lambda: assignments('branches.ibot.head', 2), r"no part 'branches\.ibot\.head'"),
        (lambda: assignments('head', 1), 'at least 2 images'),
        (lambda: HOGTarget(patch_size=14), r'HOGTarget\.cell=8 does not divide patches of 14'),
        (lambda: HOGTarget(patch_size=8).patches(torch.zeros(1, 3, 32, 24)), r'window=16 does not divide .* 32 x 24'),
        (lambda: build(TARGETS['gradients'])(normalized(), jittered(random_mask(4), 0), None, None), 'gap=0'),
        (lambda: build(TARGETS['tokens'])(normalized(), jittered(random_mask(4), 0), None, None), 'gap=0'),
    ],
)
def test_targets_that_cannot_be(make, message):
    with pytest.raises(InputError, match=message):
        make()
