"""Every config of trained segmentation builds at full size and trains at a small one, on data in the usual folders."""

import inspect

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from PIL import Image

from mmmim.apis.downstream import apply_pretrained
from mmmim.engine import Runner
from mmmim.registry import DATASETS, MODELS
from tests.paths import ROOT
from tests.segmentation import LABELS, SIDE, shrink_segmentation, write_data
from tests.test_configs import bare_types, dicts

EVAL = sorted(path.stem for path in (ROOT / 'configs/eval').glob('seg_*.py'))
TRAINED = [name for name in EVAL if name.startswith(('seg_upernet', 'seg_linear'))]


@pytest.fixture(scope='module')
def root(tmp_path_factory, fashion_scenes):
    folder = tmp_path_factory.mktemp('segmentation')
    write_data(folder / 'data', fashion_scenes)
    return folder


@pytest.fixture(autouse=True)
def at_root(root, monkeypatch):
    """The data lie where the configs look for them."""
    monkeypatch.chdir(root)


def load(name):
    return Config.fromfile(ROOT / f'configs/eval/{name}.py')


# The recipe at 512 px runs what that at 640 px runs.
@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=pytest.mark.slow) if name.endswith('_512') else name for name in TRAINED]
)
def test_trains_and_validates(name, tmp_path):
    cfg = shrink_segmentation(name, tmp_path)
    runner = Runner.from_cfg(cfg)
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    trained = {key for key, value in runner.model.named_parameters() if value.requires_grad}
    after = runner.train().state_dict()
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert moved >= trained  # every parameter that is to be trained has a gradient
    encoder = {key for key in before if key.startswith('backbone.')}
    assert bool(trained & encoder) == ('upernet' in name)
    assert 'upernet' in name or not moved & encoder
    log = {key: buffer.data[0][-1] for key, buffer in runner.message_hub.log_scalars.items()}
    assert 0 < log['train/loss'] < 100
    assert 0 <= log['val/mIoU'] <= 100
    assert list(tmp_path.glob('best_mIoU_iter_2.pth'))
    picture = np.asarray(Image.open(next(tmp_path.glob('*/segmentations_2.png'))))
    assert picture[..., :3].std() > 20


BASE, LARGE = ('mae/vitb16', 768, (3, 5, 7, 11)), ('capi/vitl14', 1024, (7, 11, 15, 23))


@pytest.mark.parametrize(
    ('name', 'encoder'),
    [*((name, BASE) for name in TRAINED), ('seg_upernet_ade20k', LARGE), ('seg_linear_voc2012', LARGE)],
)
def test_builds_at_full_size_for_encoders_of_any_method(name, encoder):
    model, width, taps = encoder
    cfg = load(name)
    apply_pretrained(cfg, model)
    assert 'pretrained:' not in cfg.dump()
    with torch.device('meta'):
        built = MODELS.build(cfg.model)
    assert built.backbone.embed_dim == width
    assert built.backbone.out_indices == (taps if 'upernet' in name else (5,) if 'voc' in name else taps[-1:])


@pytest.mark.parametrize('patch_size', [8, 14, 16])
def test_pyramid_of_upernet(patch_size, tmp_path):
    cfg = shrink_segmentation('seg_upernet_ade20k', tmp_path, patch_size=patch_size, img_size=7 * 16)
    model = MODELS.build(cfg.model).eval()
    maps = model.extract_feat(torch.randn(1, 3, 64, 96))
    assert [tuple(each.shape[2:]) for each in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize('name', EVAL)
def test_labels_to_ignore_are_those_of_the_data_set(name):
    """Data sets, what crops and pads them, heads and metrics name them, and name the same; so with the classes."""
    cfg = load(name)
    assert bare_types(cfg) == []
    init_default_scope('mmmim')
    sets, others = set(), {}
    for node in dicts(cfg.to_dict()):
        kind = DATASETS.get(node['type']) if isinstance(node.get('type'), str) else None
        if inspect.isclass(kind) and issubclass(kind, BaseSegDataset):
            sets.add(node['ignore_index'])
        elif str(node.get('type')).startswith(('mmseg.RandomCrop', 'mmseg.IoUMetric')) or 'num_classes' in node:
            others[node.get('type')] = node.get('ignore_index')
        elif node.get('type') == 'mmseg.SegDataPreProcessor' and name in TRAINED:
            others[node['type']] = node['seg_pad_val']
    assert len(sets) == 1
    others = {kind: value for kind, value in others.items() if kind}
    assert 'mmseg.IoUMetric' in others
    assert {kind: value for kind, value in others.items() if value not in sets} == {}
    if name in TRAINED:
        assert cfg.ignore_index in sets
        heads = [head for head in (cfg.model.decode_head, cfg.model.get('auxiliary_head')) if head]
        assert {head.num_classes for head in heads} == {cfg.num_classes}
        info = DATASETS.get(cfg.val_dataloader.dataset.type).METAINFO
        assert len(info['classes']) == len(info['palette']) == cfg.num_classes


@pytest.mark.parametrize('model', ['mae/vitb16', 'beit/vitb16'])
def test_what_does_not_decay_and_which_rates_do(model):
    from mmengine.optim import build_optim_wrapper

    cfg = load('seg_upernet_ade20k')
    apply_pretrained(cfg, model)
    cfg.model.backbone.encoder.update(embed_dim=48)  # the rates depend on names and depth alone
    text = cfg.model.to_dict()
    text['neck']['embed_dim'] = text['auxiliary_head']['in_channels'] = text['decode_head']['channels'] = 48
    text['decode_head']['in_channels'] = [48] * 4
    model = MODELS.build(text)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {names[id(p)]: group for group in wrapper.optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not any(part in name for part in ('token', 'positions'))
            assert (groups[name]['weight_decay'] == 0.05) == decays, name
    rates = {name: group['lr'] for name, group in groups.items()}
    assert rates['decode_head.conv_seg.weight'] == pytest.approx(3e-5)
    assert rates['backbone.backbone.blocks.11.mlp.fc1.weight'] == pytest.approx(3e-5 * 0.9)
    assert rates['backbone.backbone.blocks.0.mlp.fc1.weight'] == pytest.approx(3e-5 * 0.9**12)
    assert rates['backbone.backbone.patch_embed.weight'] == pytest.approx(3e-5 * 0.9**13)


def test_protocol_of_voc(tmp_path):
    epoch = load('seg_linear_voc2012').train_cfg.max_iters / 25
    assert load('seg_linear_voc2012').param_scheduler.milestones == [round(10 * epoch), round(20 * epoch)]
    small = shrink_segmentation('seg_linear_voc2012', tmp_path)
    train = DATASETS.build(small.train_dataloader.dataset)
    assert len(train) == 4
    sample = train[0]
    assert sample['inputs'].shape == (3, SIDE, SIDE)
    assert sample['data_samples'].gt_sem_seg.shape == (LABELS, LABELS)
    model = MODELS.build(small.model)
    model.init_weights()
    heads = {key: value for key, value in model.named_parameters() if value.requires_grad}
    assert set(heads) == {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}
    assert heads['decode_head.conv_seg.weight'].std().item() == pytest.approx(0.01, rel=0.2)
    assert not heads['decode_head.conv_seg.bias'].any()
    # What is compared has the size of the input, not of the image file.
    val = DATASETS.build(small.val_dataloader.dataset)[0]
    assert val['data_samples'].gt_sem_seg.shape == (SIDE, SIDE)
    data = {'inputs': [val['inputs']], 'data_samples': [val['data_samples']]}
    assert model.eval().test_step(data)[0].pred_sem_seg.shape == (SIDE, SIDE)
    # Without final norm and with another block, the classifier sees that block's output.
    small.model.backbone.out_indices = [2]
    other = MODELS.build(small.model).eval()
    seen = []
    other.backbone.backbone.blocks[2].register_forward_hook(lambda *args: seen.append(args[-1]))
    maps = other.backbone(torch.randn(1, 3, SIDE, SIDE))[0]
    torch.testing.assert_close(maps.flatten(2).transpose(1, 2), seen[0][:, -16:])


def test_batch_normalisation_of_features():
    neck = MODELS.build({'type': 'mmmim.FeatureBatchNorm', 'num_features': 5, 'num_levels': 2}).train()
    maps = [torch.randn(4, 5, 3, 2) * 7 + 3, torch.randn(4, 5, 6, 6)]
    for before, after in zip(maps, neck(maps), strict=True):
        torch.testing.assert_close(after.mean((0, 2, 3)), torch.zeros(5), atol=1e-4, rtol=0)
        torch.testing.assert_close(after.var((0, 2, 3), unbiased=False), torch.ones(5), atol=1e-3, rtol=0)
        assert after.shape == before.shape
    with pytest.raises(ValueError, match='zip'):
        neck(maps[:1])
