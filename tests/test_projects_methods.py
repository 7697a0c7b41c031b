"""Methods of projects: their parts, and trainings of copies that lie outside the repository."""

import copy
import re
import sys
from dataclasses import replace

import pytest
import torch
from mmengine import Config

import mmmim
from mmmim.cli.new_method import write_project
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.visualization.reconstruction import reconstruct
from projects.bootmae.decoder import FeatureInjectionDecoder
from tests.paths import ROOT, run_tool
from tests.shrink import shrink, write_images
from tests.toys import random_mask, save_model

# --------------------------------------------------------------------------------------------------------- bootmae


@pytest.fixture(scope='module')
def bootmae():
    """The model of small.py, smaller."""
    cfg = Config.fromfile(ROOT / 'projects/bootmae/configs/small.py')
    cfg.model.backbone.update(depth=3)
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


def images_and_mask(blocks=1):
    return torch.randn(4, 3, 32, 32), random_mask(4, visible=16, predict=12, blocks=blocks, grid=(8, 8))


def test_each_decoder_reads_the_state_of_its_block(bootmae):
    images, mask = images_and_mask()
    assert bootmae.layers == [0, 2]
    context = bootmae.backbone(images, mask, layers=(0, 1, 2))
    targets = bootmae.targets(images, mask)
    losses = bootmae.loss(images, mask, targets)
    for name, right in (('pixels', 0), ('features', 2)):
        branch = bootmae.branches[name]
        for i, state in enumerate(context.hidden):
            seen = replace(context, hidden=(state,))
            (loss,) = branch.head.loss(branch.neck(seen, mask), targets[name], seen).values()
            assert torch.isclose(loss, losses[f'loss_{name}'], rtol=1e-6) == (i == right), (name, i)


def test_target_blocks_are_predicted_apart(bootmae):
    images, mask = images_and_mask(blocks=2)
    neck = bootmae.branches['features'].neck
    context = bootmae.backbone(images, mask, layers=(-1,))
    both = neck(context, mask).patches
    assert both.shape == (4, 24, 96)
    for block in range(2):
        one = neck(context, replace(mask, predict=mask.predict[:, block : block + 1])).patches
        torch.testing.assert_close(both[:, 12 * block : 12 * block + 12], one)
    joined = neck(context, replace(mask, predict=mask.predict.flatten(1).unsqueeze(1))).patches
    assert not torch.allclose(both, joined, atol=1e-4)


def test_pictures_of_a_decoder_that_reads_the_encoder(bootmae, monkeypatch):
    images, mask = torch.randint(0, 256, (4, 3, 32, 32)), images_and_mask()[1]
    branch, preprocessor = bootmae.branches['pixels'], bootmae.data_preprocessor
    monkeypatch.setattr(branch.target_generator, 'normalize', False)
    with torch.no_grad():
        pictures = reconstruct(bootmae.backbone, branch, preprocessor, images, mask)
        context = bootmae.backbone(preprocessor.normalize(images), mask, layers=(0,))
        predicted = branch.neck(context, mask).patches.unflatten(-1, (-1, 3))
    expected = ((predicted * preprocessor.std.flatten() + preprocessor.mean.flatten()) / 255).clamp(0, 1).flatten(-2)
    drawn = branch.target_generator.patches(pictures['predicted'].permute(0, 3, 1, 2))
    drawn = torch.stack([patches[index] for patches, index in zip(drawn, mask.flat_predict(), strict=True)])
    torch.testing.assert_close(drawn, expected)


def test_sizes_are_checked():
    cfg = Config.fromfile(ROOT / 'projects/bootmae/configs/small.py').model
    for options, message in (
        ({'context_dim': 48}, 'neck.context_dim is 48 and model.backbone.embed_dim is 96'),
        ({'out_dim': 95}, 'target_generator.out_dim is 96 and model.branches.features.neck.out_dim is 95'),
        ({'grid': (4, 8)}, r'neck.grid is \(4, 8\) and model.backbone.grid is \(8, 8\)'),
        ({'layer': 4}, 'no block 4 in an encoder of 4'),
    ):
        wrong = copy.deepcopy(cfg)
        wrong.branches.features.neck.update(options)
        with pytest.raises(InputError, match=message):
            MODELS.build(wrong)


def test_recipe_of_bootmae():
    cfg = Config.fromfile(ROOT / 'projects/bootmae/configs/vitb16.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    decayed = re.compile(cfg.optim_wrapper.paramwise_cfg.rules.no_decay.match)
    norms = [name for name, _ in model.named_parameters() if 'norm' in name]
    assert any('norm2_context' in name for name in norms)
    assert all(decayed.search(name) for name in norms)
    necks = [branch.neck for branch in model.branches.values()]
    assert all(isinstance(neck, FeatureInjectionDecoder) for neck in necks)
    assert [(neck.layers, len(neck.blocks)) for neck in necks] == [((0,), 2), ((-1,), 2)]


# ------------------------------------------------------------------------------------- copies outside the repository


def test_a_copy_outside_the_repository_trains(tmp_path, monkeypatch):
    mine, _ = write_project('mine', str(tmp_path / 'study'))
    write_images(tmp_path / 'images', number=16, size=32)
    config = mine / 'configs/short.py'
    config.write_text(
        f"""_base_ = './small.py'
global_batch_size = 8
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type='mmmim.ImageFolder',
            data_root={str(tmp_path / 'images')!r},
            pipeline=[dict(type='mmmim.LoadImage'), dict(type='mmpretrain.PackInputs')],
        )
    ),
)
probe_data = None
custom_hooks = [dict(type='mmmim.StepSeedHook')]
train_cfg = dict(max_iters=2)
default_hooks = dict(logger=dict(interval=1), health=None)
"""
    )
    monkeypatch.delenv('MMMIM_CONFIGS', raising=False)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    done = run_tool('train.py', config, '--work-dir', tmp_path / 'work', '--no-validate', cwd=mine.parent)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r'loss_pixels: \d+\.\d+', done.stdout + done.stderr)) == 2

    # Features need the encoder only.
    checkpoint = tmp_path / 'work/iter_2.pth'
    state = torch.load(checkpoint, weights_only=True)
    assert 'MineHead' in str(state['mmmim']['model'])
    assert MODELS.get('mmmim.MineHead') is None
    extractor = mmmim.get_model(checkpoint)
    features = extractor(extractor.preprocess(torch.randint(0, 256, (2, 3, 32, 32))))
    assert features.patches[0].shape == (2, 64, 96)
    for key, value in extractor.backbone.state_dict().items():
        assert torch.equal(value, state['state_dict'][f'backbone.{key}']), key


def test_a_tool_imports_the_parts_of_a_checkpoint_where_its_user_says_so(tmp_path, monkeypatch, tool):
    """A module of the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    text = (ROOT / 'projects/bootmae/decoder.py').read_text()
    (tmp_path / 'my_decoder.py').write_text(text.replace('FeatureInjectionDecoder', 'MyInjectionDecoder'))
    model = shrink(Config.fromfile(ROOT / 'projects/bootmae/configs/small.py'), tmp_path, tmp_path).model.to_dict()
    save_model(tmp_path / 'boot.pth', model)
    state = torch.load('boot.pth', weights_only=True)
    for branch in state['mmmim']['model']['branches'].values():
        branch['neck']['type'] = 'mmmim.MyInjectionDecoder'
    torch.save(state, 'boot.pth')
    write_images(tmp_path / 'images', number=2)
    name, arguments = 'visualization/vis_reconstruction', ('images', 'boot.pth', '--out', 'out.png')
    assert 'mmmim.MyInjectionDecoder' in tool(name, *arguments, code=2)
    refused = tool(name, '--import', 'my_nothing', *arguments, code=2)
    assert '--import my_nothing: No module named' in refused
    tool(name, '--import', 'my_decoder', *arguments)
    assert (tmp_path / 'out.png').stat().st_size > 1000
