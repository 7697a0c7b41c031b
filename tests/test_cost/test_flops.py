from contextlib import nullcontext

import pytest
import torch
from mmengine import Config
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import flop_registry

from mmmim.apis import list_models
from mmmim.cost import flops
from mmmim.cost.flop_counter import make_flop_counter
from mmmim.cost.flops import ModuleCounter, count_config
from mmmim.cost.step import step_flops
from mmmim.models import PrototypeHead, ViT
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.shrink import without_files
from tests.toys import capi_config, optim_wrapper

#: Multiply-accumulates of a block of ViT-B on 196 patches and CLS.
VIT_B_BLOCK = 1_453_954_560


def block_macs(tokens, width):
    return 12 * tokens * width**2 + 2 * tokens**2 * width


def test_blocks_are_the_closed_form():
    with torch.device('meta'):
        backbone = ViT(depth=2)
        counter = ModuleCounter({'backbone': backbone})
        counter.count(lambda: backbone(torch.zeros(3, 3, 224, 224)))
    rows = {row.name: row for row in counter.rows(2)}
    blocks, patches = rows['backbone.blocks.*'], rows['backbone.patch_embed']
    assert (blocks.calls, blocks.macs) == (2, 2 * 3 * VIT_B_BLOCK)
    assert patches.macs == 3 * 196 * 768**2
    assert counter.total == rows['backbone'].macs == blocks.macs + patches.macs
    assert rows['backbone'].parameters == sum(p.numel() for p in backbone.parameters())
    assert rows['backbone.blocks.*.attn'].macs + rows['backbone.blocks.*.mlp'].macs == blocks.macs
    assert rows['backbone.blocks.*.attn'].depth == 2


@pytest.mark.parametrize(('known', 'fake'), [(False, False), (False, True), (True, True)])
def test_attention_on_a_cpu_counts_once_whatever_torch_knows(known, fake, monkeypatch):
    """Torch's table of formulas has the kernels of a CPU in some releases."""
    for suffix in ('', '_backward'):
        packet = getattr(torch.ops.aten, f'_scaled_dot_product_flash_attention_for_cpu{suffix}')
        if known:
            formula = flop_registry[getattr(torch.ops.aten, f'_scaled_dot_product_flash_attention{suffix}')]
            monkeypatch.setitem(flop_registry, packet, formula)
        else:
            monkeypatch.delitem(flop_registry, packet, raising=False)
    with FakeTensorMode() if fake else nullcontext():
        q, k, v = (torch.randn(2, 3, tokens, 8, requires_grad=True) for tokens in (5, 7, 7))
        with make_flop_counter() as forward:
            out = F.scaled_dot_product_attention(q, k, v)
        with make_flop_counter() as backward:
            out.sum().backward()
    product = 2 * 2 * 3 * 5 * 7 * 8
    assert (forward.get_total_flops(), backward.get_total_flops()) == (2 * product, 5 * product)


def toy_config():
    masking = {'type': 'mmmim.UniformMasking', 'mask_ratio': 0.5}
    collate = {'type': 'mmmim.MaskCollate', 'masking': masking, 'patch_size': 4}
    return Config({'model': capi_config(), 'train_dataloader': {'collate_fn': collate}})


@pytest.fixture
def builds(monkeypatch):
    """Devices of the models that are built."""
    devices, build = [], flops._build

    def noted(cfg):
        model = build(cfg)
        devices.append(next(model.parameters()).device.type)
        return model

    monkeypatch.setattr(flops, '_build', noted)
    return devices


def test_every_part_of_a_step_by_the_formula(builds):
    images = 5
    costs = count_config(toy_config(), images)
    assert builds == ['meta']
    rows = {(row.name, row.caller): row for row in costs.training if not row.depth}
    tokens, visible, predicted = 16, 8, 8
    teacher = 2 * block_macs(tokens + 4, 16) + tokens * 48 * 16
    student = 2 * block_macs(visible + 4, 16) + visible * 48 * 16
    generator = 'branches.capi.target_generator'
    # CAPI's predictor: queries, keys and values of the encoder's width, output and MLP, attention.
    neck = 2 * (predicted * 10 * 8 * 8 + 2 * 12 * 16 * 8 + 2 * predicted * 12 * 8)
    expected = {
        ('teacher.backbone', generator): teacher,
        (generator, ''): tokens * 24 * (16 + 1 + 6),  # logits, their product with assignments, Sinkhorn-Knopp
        ('backbone', ''): student,
        ('branches.capi.neck', ''): neck,
        # Logits, both gradients, which are made with them, and the product with the targets.
        ('branches.capi.head', ''): predicted * 24 * (3 * 8 + 1),
    }
    assert {key: row.macs / images for key, row in rows.items()} == expected
    assert costs.training_macs == images * sum(expected.values())
    assert costs.inference_macs == images * teacher
    assert costs.inference_size == costs.size == (16, 16)


@pytest.mark.parametrize('name', ['capi/', 'semantic_mim/maskfeat_'])
def test_a_step_is_the_one_that_trains(name):
    cfg = Config.fromfile(ROOT / f'configs/{name}small.py')
    cfg.model = without_files(cfg.model)
    batch = flops.make_batch(cfg, 2)
    model = MODELS.build({**cfg.model, 'micro_batch_size': None}).eval()  # without stochastic depth
    trained = step_flops(model, batch, optim_wrapper(model))
    assert count_config(cfg).step_macs == trained / 2


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in list_models() if 'ablations' not in name])
def test_every_config(name):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    cfg.model = without_files(cfg.model)
    costs = count_config(cfg)
    assert costs.inference_macs > 0
    # A product has two in the backward pass; attention has five for its two, since it computes its weights again.
    assert costs.training_macs < costs.step_macs < 3.5 * costs.training_macs


def test_what_is_kept_after_training():
    cfg = toy_config()
    cfg.model.backbone.projector_dims = (8,)
    costs = count_config(cfg)
    with pytest.raises(InputError, match=r'model.type must be mmmim.MaskedImageModeling, not mmmim.ViT'):
        count_config(Config({**cfg, 'model': cfg.model.backbone}))
    model = MODELS.build(cfg.model)
    encoder, projector = (sum(p.numel() for p in m.parameters()) for m in (model.backbone, model.backbone.projector))
    assert costs.kept == encoder - projector < encoder
    assert costs.trained == encoder + sum(p.numel() for p in model.branches.parameters())
    assert costs.teacher == sum(p.numel() for p in model.teacher.parameters())
    assert 'backbone.projector' in {row.name for row in costs.training}
    assert 'backbone.projector' not in {row.name for row in costs.inference}


def test_what_depends_on_values_is_counted_on_real_tensors(monkeypatch, builds):
    expected = count_config(toy_config())
    loss, values = PrototypeHead.loss, []

    def reads_a_value(self, prediction, target, context):
        values.append(prediction.patches.sum().item())
        return loss(self, prediction, target, context)

    monkeypatch.setattr(PrototypeHead, 'loss', reads_a_value)
    costs = count_config(toy_config())
    assert builds == ['meta', 'meta', 'cpu']
    assert len(values) == 1
    assert costs.training == expected.training
    assert costs.inference == expected.inference


def test_tool(tool):
    config = str(ROOT / 'configs/capi/small.py')
    output = tool('analysis_tools/get_flops', config, '--batch', '3', '--cfg-options', 'model.backbone.depth=3')
    assert f'{config} model.backbone.depth=3' in output
    assert 'teacher.backbone, for branches.capi.target_generator' in output
    assert '|   blocks.*' in output
    assert 'Inference: encoder, whole image of 32 x 32 pixels' in output
    assert 'discarded after pre-training' in output


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ('mae/small --batch 0', '--batch must be at least 1, got 0'),
        ('mae/small --depth -1', 'argument --depth: it must be a whole number of at least 0, not -1.'),
        ('empty.py', 'The config has no model'),
        ('no_masks.py', 'The config draws no masks'),
    ],
)
def test_errors(tool, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty.py').write_text('train_dataloader = dict()')
    (tmp_path / 'no_masks.py').write_text("model = dict(type='mmmim.ViT')\ntrain_dataloader = dict()")
    assert message in tool('analysis_tools/get_flops', *args.split(), code=2)


def _costs_of_blocks(config: str, depth: int) -> tuple[float, float]:
    """Multiply-adds per image of all blocks of SemanticMIM's encoder and neck, in training and in inference."""
    cfg = Config.fromfile(ROOT / f'configs/{config}.py')
    cfg.model.backbone.depth = cfg.model.branches.semantic.neck.depth = depth
    costs = count_config(cfg)
    training, inference = (
        sum(row.macs for row in rows if row.name.endswith('.blocks.*')) / costs.images
        for rows in (costs.training, costs.inference)
    )
    return training, inference


def test_costs_of_semantic_mim():
    """8 proxies, 78 visible and 118 masked patches, against CLS and 196 patches (SemanticMIM, appendix C)."""
    two, three = (_costs_of_blocks('semantic_mim/maskfeat_vitb16', depth) for depth in (2, 3))
    # Of a block and the one beside it; the last ones, of which only proxies and predictions are read, cost less.
    training, inference = (more - less for more, less in zip(three, two, strict=True))
    assert training == 1_487_523_840
    assert training / VIT_B_BLOCK == pytest.approx(1.0231, abs=5e-5)
    assert inference / VIT_B_BLOCK == block_macs(204, 768) / block_macs(197, 768) == pytest.approx(1.0370, abs=5e-5)
