"""Frozen teachers: encoders of every library, what their targets are, and that a model holds nothing of them."""

import copy
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.testing import assert_close

import mmmim
from mmmim.checkpoints import load_state_dict
from mmmim.checkpoints.stored_config import check_stored_model
from mmmim.features import FrozenTarget
from mmmim.models.data_preprocessors.mim_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from mmmim.registry import MODELS
from mmmim.structures import PatchMask
from mmmim.utils import InputError
from tests.registered import ENCODERS, NOT_INSTALLED
from tests.toys import (
    DIM,
    GRID,
    PATCH,
    batch,
    capi_config,
    jittered,
    mae_config,
    optim_wrapper,
    random_mask,
    save_model,
)

ARCH = {'embed_dims': DIM, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 32}
MMPRETRAIN = {'type': 'mmmim.MMPretrainEncoder', 'name': 'VisionTransformer', 'arch': ARCH, 'img_size': 32}
MMPRETRAIN |= {'patch_size': 8, 'mean': [100.0, 90.0, 80.0], 'std': [50.0, 60.0, 70.0]}
LIBRARIES = ['mmmim', 'timm', 'mmpretrain', *([] if NOT_INSTALLED else ['huggingface'])]


def teacher_of(library, folder):
    """Options of a target for a small encoder of a library in a file, and an extractor of the same."""
    torch.manual_seed(3)
    if library == 'mmmim':
        word = save_model(folder / 'capi.pth', capi_config())
        return {'checkpoint': word, 'in_dim': DIM}, mmmim.get_model(word)
    if library == 'timm':
        save_file(timm.create_model('test_vit', num_classes=0).state_dict(), folder / 'vit.safetensors')
        word = f'timm:test_vit={folder / "vit.safetensors"}'
        return {'checkpoint': word, 'in_dim': 64}, mmmim.get_model(word)
    if library == 'mmpretrain':
        torch.save({'state_dict': MODELS.build(MMPRETRAIN).encoder.state_dict()}, folder / 'vit.pth')
        file = str(folder / 'vit.pth')
        extractor = mmmim.apis.FeatureExtractor({'backbone': {**MMPRETRAIN, 'weights': file}})
        return {'checkpoint': file, 'encoder': MMPRETRAIN, 'in_dim': DIM}, extractor
    import transformers

    sizes = dict(hidden_size=DIM, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16)
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained(folder / 'dinov2')
    word = f'huggingface:{folder / "dinov2"}'
    return {'checkpoint': word, 'in_dim': DIM}, mmmim.get_model(word)


@pytest.mark.parametrize('library', LIBRARIES)
def test_encoders_of_every_library(library, tmp_path):
    """Targets are their features of pictures that are normalised as they want and have the student's patches."""
    options, extractor = teacher_of(library, tmp_path)
    generator = FrozenTarget(**options, layers=(0, -1), final_norm=False)
    pixels = torch.randint(0, 256, (3, 3, GRID[0] * PATCH, GRID[1] * PATCH)).float()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    mask = random_mask(3, blocks=2, per_image=2)
    target = generator((pixels - mean) / std, mask, None, None)

    size = [side * extractor.patch_size for side in GRID]
    resized = F.interpolate(pixels, size, mode='bicubic', align_corners=False, antialias=True)
    pictures = (resized - extractor.preprocessor.mean) / extractor.preprocessor.std
    context = extractor.backbone(pictures, layers=(0, -1))
    states = sum(context.hidden) / 2
    expected = states[:, context.extra.shape[1] :][mask.image_index[:, None], mask.flat_predict()]
    assert_close(target.patches, expected, rtol=1e-4, atol=1e-4)
    assert (target.cls is None) == (extractor.backbone.num_cls_tokens == 0)
    if target.cls is not None:
        assert_close(target.cls, states[mask.image_index, 0], rtol=1e-4, atol=1e-4)
    # Of the encoder's output, and of pictures as the student sees them.
    last = FrozenTarget(**options)((pixels - mean) / std, mask, None, None).patches
    assert_close(last, context.visible[mask.image_index[:, None], mask.flat_predict()], rtol=1e-4, atol=1e-4)
    same = FrozenTarget(**options, statistics='student').pictures(pictures, GRID)
    assert torch.equal(same, pictures)


def frozen(**options):
    """A target of a teacher with random weights."""
    return FrozenTarget(**{'checkpoint': 'random', 'encoder': ENCODERS['sincos, CLS'], 'in_dim': DIM, **options})


@pytest.mark.parametrize('final_norm', [True, False])
def test_targets_are_normed_layer_by_layer_and_averaged(final_norm):
    data = batch(4)
    mask = data['mask']
    context = frozen().teacher(data['inputs'], layers=(0, 2))
    teacher = frozen().teacher
    states = [teacher.normed(state) if final_norm else state for state in context.hidden]
    for normalize, normed in (
        ('layer', lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()),
        ('instance', lambda x: (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()),
        (None, lambda x: x),
    ):
        made = frozen(layers=(0, 2), normalize=normalize, final_norm=final_norm)(data['inputs'], mask, None, None)
        expected = sum(normed(state[:, 1:]) for state in states) / 2
        assert_close(made.patches, expected.gather(1, mask.flat_predict()[..., None].expand(-1, -1, DIM)))
        assert (made.cls is None) == (normalize == 'instance')


def model_config(**options):
    """A MAE whose targets are a frozen encoder's."""
    config = mae_config()
    config['branches']['pixels']['target_generator'] = {
        'type': 'mmmim.FrozenTarget', 'checkpoint': 'random', 'encoder': ENCODERS['sincos, CLS'], 'in_dim': DIM,
        **options,
    }  # fmt: skip
    config['branches']['pixels']['neck']['out_dim'] = DIM
    return config


def model_of(**options):
    """The model of :func:`model_config`."""
    torch.manual_seed(0)
    return MODELS.build(model_config(**options)).train()


def test_a_model_holds_nothing_of_its_teacher():
    """No parameters, no weights in checkpoints, always in eval mode, not trained; the device and type of the model."""
    model = model_of()
    generator = model.branches.pixels.target_generator
    key = 'branches.pixels.target_generator.fingerprint'
    assert not [*generator.parameters()]
    assert [name for name in model.state_dict() if 'target_generator' in name] == [key]
    before = copy.deepcopy(generator.teacher.state_dict())
    model.train_step(batch(4), optim_wrapper(model))
    assert not generator.teacher.training
    assert not any(p.requires_grad or p.grad is not None for p in generator.teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in generator.teacher.state_dict().items())
    assert next(model.half().branches.pixels.target_generator.teacher.parameters()).dtype == torch.float16
    assert model.branches.pixels.target_generator.fingerprint.dtype == torch.int64


def test_a_training_is_not_resumed_with_another_teacher(tmp_path):
    files = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = {f'backbone.{k}': v for k, v in MODELS.build(mae_config()['backbone']).state_dict().items()}
        files.append(str(tmp_path / f'{seed}.pth'))
        torch.save({'state_dict': state, 'mmmim': {'version': 1, 'model': mae_config()}}, files[-1])
    moved = Path(files[0]).rename(tmp_path / 'moved.pth')
    first, same, other = (model_of(checkpoint=str(file), encoder=None) for file in (moved, moved, files[1]))
    load_state_dict(same, first.state_dict(), 'a')
    with pytest.raises(InputError, match=r'target_generator\.checkpoint=.*1\.pth. is another teacher than that of the'):
        load_state_dict(other, first.state_dict(), 'a')


def test_random_teachers_are_always_the_same_and_draw_nothing_from_the_students_numbers():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    one = frozen()
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one.fingerprint, frozen().fingerprint)
    other = frozen(encoder={**ENCODERS['sincos, CLS'], 'depth': 2})
    assert not torch.equal(one.fingerprint, other.fingerprint)


def test_masks_of_a_step():
    """By importance in training; always the same in validation; the loader's without."""
    model = model_of(masks='importance')
    generator = model.branches.pixels.target_generator
    data = batch(8, visible=6, predict=10)
    drawn = [model.masks(data['inputs'], data['mask']) for _ in range(2)]
    assert not torch.equal(drawn[0].visible, drawn[1].visible)
    assert (torch.cat([drawn[0].visible, drawn[0].predict[:, 0]], dim=1).sort(dim=1).values == torch.arange(16)).all()
    again = [model.eval().masks(data['inputs'], data['mask']) for _ in range(2)]
    assert torch.equal(again[0].visible, again[1].visible)
    every = PatchMask(data['mask'].visible, torch.arange(16).expand(8, 1, -1), data['mask'].image_index, GRID)
    assert model.masks(data['inputs'], every).predict.shape == (8, 1, 16)
    # The pass that draws masks is the one that makes targets, and results do not depend on micro-batches.
    mask = model.masks(data['inputs'], every)
    calls = []
    handle = generator.teacher.register_forward_hook(lambda *_: calls.append(1))
    target = model.targets(data['inputs'], mask)['pixels'].patches
    assert not calls
    assert_close(target, model.targets(data['inputs'].clone(), mask)['pixels'].patches)
    handle.remove()
    model.set_micro_batch_size(3)
    assert generator.micro_batch_size == 3
    assert torch.equal(model.masks(data['inputs'], every).visible, mask.visible)
    assert_close(model.targets(data['inputs'], mask)['pixels'].patches, target)
    plain = model_of()
    assert plain.masks(data['inputs'], every) is every


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'checkpoint': None}, r'FrozenTarget\.checkpoint is not set: name the teacher'),
        ({'checkpoint': 'a/b.pth', 'encoder': None}, r'a/b\.pth does not exist.*Train the teacher first'),
        ({'checkpoint': 'timm:test_vit', 'encoder': None}, r'names no weights, and nothing is downloaded'),
        ({'in_dim': 32}, r'has tokens of width 16 and FrozenTarget\.in_dim is 32'),
        ({'projected': True}, r'has no projection: set projected=False, or name it by its config'),
        ({'layers': (3,)}, r'There is no block 3 in an encoder of 3'),
        ({'layers': ()}, r'FrozenTarget\.layers names no block'),
        ({'normalize': 'batch'}, r"FrozenTarget\.normalize must be one of .*, got 'batch'"),
        ({'statistics': 'mine'}, r"FrozenTarget\.statistics must be one of .*, got 'mine'"),
        ({'masks': 'blocks'}, r"FrozenTarget\.masks must be one of .*, got 'blocks'"),
        (
            {'masks': 'importance', 'encoder': ENCODERS['learned, nothing but patches']},
            r"has no CLS token, whose attention masks='importance' needs",
        ),
    ],
)
def test_options_that_mean_nothing(options, message):
    with pytest.raises(InputError, match=message):
        frozen(**options)


def test_masks_that_do_not_fit():
    data = batch(4)
    with pytest.raises(InputError, match=r"masks='importance' needs masks .* one block of all that is hidden"):
        frozen(masks='importance').mask(data['inputs'], data['mask'])
    with pytest.raises(InputError, match='patches that touch each other: set gap=0'):
        frozen()(data['inputs'], jittered(data['mask'], 2), None, None)
    beit = {'type': 'mmmim.MMPretrainEncoder', 'name': 'BEiTViT', 'arch': ARCH, 'img_size': 24, 'patch_size': 8}
    with pytest.raises(InputError, match=r'takes 3 x 3 patches only, got 4 x 4: its positions are relative'):
        frozen(encoder=beit)(data['inputs'], data['mask'], None, None)


def test_statistics_of_the_student_are_those_of_its_data_preprocessor():
    with pytest.raises(InputError, match=r'target_generator\.mean is \[1\.0, .* and model\.data_preprocessor\.mean'):
        model_of(mean=[1.0, 2.0, 3.0])
    assert model_of(mean=[1.0, 2.0, 3.0], statistics='student')


def test_a_file_never_says_which_teacher_is_read():
    """A checkpoint names the teacher of its training; nothing that builds targets from a file opens it."""
    config = model_config(checkpoint='capi_vitl14_lvd', encoder=None)
    assert check_stored_model(config, 'a.pth') == config
    with pytest.raises(InputError, match=r"target_generator\.checkpoint='capi_vitl14_lvd' names a file or a download"):
        check_stored_model(config, 'a.pth', builds_targets=True)
