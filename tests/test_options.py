"""Wrong options: one sentence each, that names the key, before data are listed, models built or folders made."""

import copy
import re
import sys

import pytest
from mmengine import Config

from mmmim.config.read import load_config
from mmmim.engine import Runner
from mmmim.engine.config_check import check_config
from mmmim.utils import InputError
from tests.paths import ROOT, load_tool, run_tool

#: Longest sentence that still is one.
LONGEST = 420


TRAIN, TEST = load_tool('train'), load_tool('test')
CONFIGS: dict[str, Config] = {}


def config(name):
    """A fresh copy of a config, read once."""
    if name not in CONFIGS:
        CONFIGS[name] = load_config(str(ROOT / 'configs' / f'{name}.py'))
    return copy.deepcopy(CONFIGS[name])


def refusal(monkeypatch, tmp_path, tool, name, *options, arguments=()):
    """What a tool says against options on its real way from the command line to the runner."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('mmmim.config.read.load_config', lambda path: config(path))
    # Whatever lists images, builds parts with weights or makes folders comes after the check.
    for late in ('mmengine.runner.Runner.__init__', 'mmengine.dataset.BaseDataset.full_init'):
        monkeypatch.setattr(late, lambda *args, **kwargs: pytest.fail('too late'))
    monkeypatch.setattr(sys, 'argv', [tool.__name__, name, *arguments, '--cfg-options', *options])
    with pytest.raises(InputError) as caught:
        Runner.from_cfg(tool.build_config(tool.parse_args()))
    message = str(caught.value)
    assert '\n' not in message
    assert len(message) < LONGEST, message
    assert not list(tmp_path.iterdir())
    return message


COPY = 'is a variable of the config file'
CASES = [
    # numbers of a training
    ('mae/digits', 'train_cfg.max_iters=0', 'train_cfg.max_iters must be a whole number of at least 1, not 0'),
    ('mae/digits', 'train_cfg.max_iters=-1', 'train_cfg.max_iters'),
    ('mae/digits', 'train_cfg.max_iters=None', 'train_cfg.max_iters'),
    ('mae/digits', 'train_cfg.max_iters=abc', "train_cfg.max_iters .*not 'abc'"),
    ('mae/digits', 'train_cfg.max_iters=1.5', 'train_cfg.max_iters'),
    ('mae/digits', 'train_cfg.max_iters=True', 'train_cfg.max_iters'),
    ('mae/digits', 'train_cfg.val_interval=0', 'train_cfg.val_interval'),
    ('mae/digits', 'train_cfg.val_interval=-1', 'train_cfg.val_interval'),
    ('mae/digits', '+train_cfg.max_itres=3', 'train_cfg.max_itres .did you mean max_iters'),
    ('mae/digits', 'train_cfg.type=mmengine.IterBasedTrainLop', r'did you mean mmengine.IterBasedTrainLoop\?'),
    ('mae/digits', 'global_batch_size=0', 'global_batch_size must be a whole number of at least 1'),
    ('mae/digits', 'global_batch_size=-1', 'global_batch_size'),
    ('mae/digits', 'global_batch_size=100000000', 'global_batch_size .*not 100000000'),
    ('mae/digits', 'global_batch_size=abc', 'global_batch_size'),
    ('mae/digits', 'global_batch_size=1.5', 'global_batch_size'),
    ('mae/digits', '+model.micro_batch_size=0', 'model.micro_batch_size must be a whole number of at least 1 or None'),
    ('mae/digits', '+model.micro_batch_size=-1', 'model.micro_batch_size'),
    ('mae/digits', '+model.micro_batch_size=abc', 'model.micro_batch_size'),
    ('mae/digits', '+model.micro_batch_size=True', 'model.micro_batch_size'),
    # seeds and environment
    ('mae/digits', 'randomness.seed=abc', 'randomness.seed'),
    ('mae/digits', 'randomness.seed=-1', 'randomness.seed'),
    ('mae/digits', f'randomness.seed={2**70}', 'randomness.seed .*up to 4294967295'),
    ('mae/digits', 'randomness.seed=0.5', 'randomness.seed'),
    ('mae/digits', '+randomness.sed=1', r'randomness.sed \(did you mean seed\?\)'),
    ('mae/digits', 'randomness.deterministic=yes', 'randomness.deterministic must be True or False'),
    ('mae/digits', 'log_level=FOO', "log_level must be one of 'DEBUG'"),
    ('mae/digits', 'env_cfg.mp_cfg.mp_start_method=foo', 'env_cfg.mp_cfg.mp_start_method must be one of'),
    ('mae/digits', 'env_cfg.mp_cfg.opencv_num_threads=-1', 'env_cfg.mp_cfg.opencv_num_threads'),
    ('mae/digits', '+env_cfg.dist_cfg.timeout=0', 'env_cfg.dist_cfg.timeout'),
    ('mae/digits', 'resume=maybe', "resume must be True, False or 'auto'"),
    ('mae/digits', 'trust_checkpoint=yes', 'trust_checkpoint must be True or False'),
    ('mae/digits', '+compile=fast', 'compile must be'),
    ('mae/digits', '+compile.mode=fast', "compile.mode must be one of 'default'"),
    ('mae/digits', '+compile.fulgraph=True', r'compile.fulgraph \(did you mean fullgraph\?\)'),
    ('mae/digits', 'strategy.type=DDP', "strategy.type must be one of 'mmmim.FSDP2Strategy'"),
    ('mae/digits', 'strategy.type=mmmim.FSDP2Strategy +strategy.param_dtpye=x', r'did you mean param_dtype\?'),
    ('mae/digits', 'strategy.type=mmmim.FSDP2Strategy +strategy.param_dtype=int8', 'strategy.param_dtype'),
    ('mae/digits', '+auto_scale_lr.base_batch_size=0', 'auto_scale_lr.base_batch_size'),
    # loaders
    ('mae/digits', 'train_dataloader.num_workers=-1', 'train_dataloader.num_workers'),
    ('mae/digits', 'train_dataloader.num_workers=abc', 'train_dataloader.num_workers'),
    ('mae/digits', 'train_dataloader.num_workers=1.5', 'train_dataloader.num_workers'),
    ('mae/digits', 'val_dataloader.num_workers=-2', 'val_dataloader.num_workers'),
    ('mae/digits', 'val_dataloader.batch_size=0', 'val_dataloader.batch_size'),
    ('mae/digits', '+train_dataloader.batchsize=4', r'train_dataloader.batchsize \(did you mean batch_size\?\)'),
    ('mae/digits', '+train_dataloader.prefetch_factor=0', 'train_dataloader.prefetch_factor'),
    ('mae/digits', 'train_dataloader.drop_last=abc', 'train_dataloader.drop_last'),
    ('mae/digits', 'train_dataloader.sampler=None', 'train_dataloader.sampler is None'),
    ('mae/digits', 'train_dataloader.dataset=None', 'train_dataloader has no data set'),
    ('mae/digits', 'train_dataloader.sampler.type=mmmim.PositionSmapler', r'did you mean mmmim.PositionSampler\?'),
    ('mae/digits', '+train_dataloader.sampler.shufle=True', r'shufle \(did you mean shuffle\?\)'),
    ('mae/digits', 'train_dataloader.sampler.shuffle=5', 'train_dataloader.sampler.shuffle must be True or False'),
    # what has no effect, because something else is read
    (
        'mae/digits',
        'mask_collate.masking.mask_ratio=0.5',
        f'{COPY}.* set train_dataloader.collate_fn.masking.mask_ratio',
    ),
    ('mae/digits', 'mask_collate.patch_size=8', f'{COPY}.*train_dataloader.collate_fn.patch_size'),
    ('latent_mim/digits', 'pipeline.1.scale=80', f'{COPY}.*train_dataloader.dataset.dataset.pipeline.1.scale'),
    ('latent_mim/digits', 'whole.1.scale=80', f'{COPY}.*val_dataloader.dataset.dataset.pipeline.1.scale'),
    ('mae/digits', '+max_iters=5', r'nothing reads a key max_iters .*did you mean train_cfg.max_iters'),
    ('mae/digits', '+seed=5', 'did you mean randomness.seed'),
    ('mae/digits', '+lr=5', 'did you mean optim_wrapper.optimizer.lr'),
    ('mae/digits', '+default_hook.logger.interval=5', 'nothing reads a key default_hook '),
    # masks
    (
        'mae/digits',
        'train_dataloader.collate_fn.masking.mask_ratio=1.5',
        'train_dataloader.collate_fn.masking: mask_ratio',
    ),
    ('mae/digits', 'train_dataloader.collate_fn.masking.mask_ratio=0', 'mask_ratio=0'),
    (
        'mae/digits',
        'train_dataloader.collate_fn.masking.mask_ratio=a',
        'train_dataloader.collate_fn.masking.mask_ratio',
    ),
    ('capi/digits', 'train_dataloader.collate_fn.masking.predict_ratio=0', 'predict_ratio=0'),
    ('mae/digits', '+train_dataloader.collate_fn.masking.mask_rate=1', r'mask_rate \(did you mean mask_ratio\?\)'),
    ('mae/digits', 'train_dataloader.collate_fn.patch_size=0', 'train_dataloader.collate_fn.patch_size'),
    ('mae/digits', '+train_dataloader.collate_fn.gap=-1', 'train_dataloader.collate_fn.gap'),
    ('ijepa/digits', '+train_dataloader.collate_fn.masking.num_targets=0', 'num_targets=0'),
    # transforms and data sets
    (
        'mae/digits',
        'train_dataloader.dataset.dataset.pipeline.1.crop_ratio_range=(1.0,0.6)',
        'crop_ratio_range .*smaller',
    ),
    ('mae/digits', 'train_dataloader.dataset.dataset.pipeline.1.crop_ratio_range=(0,1)', 'crop_ratio_range'),
    ('mae/digits', '+train_dataloader.dataset.dataset.pipeline.1.scal=3', r'pipeline.1.scal \(did you mean scale\?\)'),
    ('mae/digits', 'train_dataloader.dataset.dataset.pipeline.1.interpolation=cubic', 'pipeline.1: its options'),
    (
        'mae/digits',
        'train_dataloader.dataset.dataset.pipeline.0.type=mmmim.LoadImages',
        r'did you mean mmmim.LoadImage\?',
    ),
    ('mae/digits', '+train_dataloader.dataset.dataset.pipeline.0.decoder=x', 'mmmim.LoadImage has no decoder'),
    ('latent_mim/digits', 'train_dataloader.dataset.dataset.pipeline.1.interpolation=x', 'has no interpolation'),
    ('mae/digits', '+train_dataloader.dataset.dataset.spilt=val', r'dataset.spilt \(did you mean split\?\)'),
    ('mae/digits', 'train_dataloader.dataset.dataset.type=mmmim.DigitScene', r'did you mean mmmim.DigitScenes\?'),
    (
        'mae/digits',
        'train_dataloader.dataset.dataset.type=mmmim.ImageFolder',
        'no option train_dataloader.dataset.dataset.subset and .*split: .*~train_dataloader.dataset.dataset.subset '
        '~train_dataloader.dataset.dataset.split, or with _delete_=True',
    ),
    ('mae/digits', 'train_dataloader.dataset.type=mmmim.SyntheticImages', '~train_dataloader.dataset.dataset'),
    ('mae/digits', 'val_dataloader.dataset.dataset.type=mmpretrain.CustomDataset', '_delete_=True'),
    # optimiser
    ('mae/digits', 'optim_wrapper.optimizer.lr=0', 'optim_wrapper.optimizer.lr must be a finite number above 0'),
    ('mae/digits', 'optim_wrapper.optimizer.lr=-1', 'optim_wrapper.optimizer.lr'),
    ('mae/digits', 'optim_wrapper.optimizer.lr=nan', 'optim_wrapper.optimizer.lr'),
    ('mae/digits', 'optim_wrapper.optimizer.lr=inf', 'optim_wrapper.optimizer.lr'),
    ('mae/digits', 'optim_wrapper.optimizer.lr=abc', 'optim_wrapper.optimizer.lr'),
    ('mae/digits', 'optim_wrapper.optimizer.lr=None', 'optim_wrapper.optimizer.*lr'),
    ('mae/digits', 'optim_wrapper.optimizer.weight_decay=-0.1', 'optim_wrapper.optimizer.weight_decay'),
    ('mae/digits', 'optim_wrapper.optimizer.weight_decay=nan', 'optim_wrapper.optimizer.weight_decay'),
    ('mae/digits', 'optim_wrapper.optimizer.betas=(0.9,1.0)', 'optim_wrapper.optimizer.betas'),
    ('mae/digits', 'optim_wrapper.optimizer.betas=0.9', 'optim_wrapper.optimizer.betas'),
    ('mae/digits', '+optim_wrapper.optimizer.beta=0.9', r'optimizer.beta \(did you mean betas\?\)'),
    ('mae/digits', '+optim_wrapper.optimizer.eps=0', 'optim_wrapper.optimizer.eps'),
    ('mae/digits', 'optim_wrapper.optimizer.type=torch.optim.Foo', 'torch.optim.Foo is not in the'),
    ('mae/digits', 'optim_wrapper.optimizer.type=mmengine.Adamw', r'did you mean mmengine.AdamW\?'),
    ('mae/digits', 'optim_wrapper.optimizer.fused=False', 'optim_wrapper.optimizer.fused=True'),
    ('mae/digits', 'optim_wrapper.optimizer=None', 'optim_wrapper.optimizer must be a dict with a type'),
    ('mae/digits', '+optim_wrapper.clip_norm=-1', 'optim_wrapper.clip_norm must be a finite number above 0'),
    ('mae/digits', '+optim_wrapper.clip_norm=0', 'optim_wrapper.clip_norm'),
    ('mae/digits', '+optim_wrapper.clip_norm=nan', 'optim_wrapper.clip_norm'),
    ('mae/digits', '+optim_wrapper.clip_norm=abc', 'optim_wrapper.clip_norm'),
    ('mae/digits', '+optim_wrapper.accumulative_counts=4', 'set global_batch_size .* model.micro_batch_size'),
    ('mae/digits', '+optim_wrapper.clip_grad.max_norm=1.0', 'set clip_norm=1.0 instead of optim_wrapper.clip_grad'),
    ('mae/digits', '+optim_wrapper.clip_nrom=1', r'optim_wrapper.clip_nrom \(did you mean clip_norm\?\)'),
    ('mae/digits', 'optim_wrapper.dtype=bf16', "optim_wrapper.dtype must be None .*, 'bfloat16' or 'float16'"),
    ('mae/digits', '+optim_wrapper.loss_scale=0', 'optim_wrapper.loss_scale'),
    ('mae/digits', '+optim_wrapper.growth_interval=0', 'optim_wrapper.growth_interval'),
    ('mae/digits', '+optim_wrapper.paramwise_cfg.norm_decay_mult=0.0', 'paramwise_cfg has norm_decay_mult.*rules='),
    ('mae/digits', '+optim_wrapper.paramwise_cfg.layer_decay=0', 'paramwise_cfg.layer_decay must be .*above 0'),
    ('mae/digits', '+optim_wrapper.paramwise_cfg.rulse=1', r'paramwise_cfg.rulse \(did you mean rules\?\)'),
    (
        'capi/digits',
        '+optim_wrapper.paramwise_cfg.rules.norms.lr_mlt=1',
        'optim_wrapper.paramwise_cfg.rules.norms is .*: its keys are',
    ),
    ('capi/digits', '+optim_wrapper.paramwise_cfg.rules.norms.lr_mult=-1', 'rules.norms.lr_mult'),
    ('capi/digits', 'optim_wrapper.paramwise_cfg.rules.norms.match=[(]', 'rules.norms.match'),
    ('mae/digits', 'optim_wrapper.constructor=mmmim.RuleOptimWrapper', 'optim_wrapper.constructor'),
    # schedules
    ('mae/digits', 'param_scheduler.schedule.warmup_ratio=1.5', 'param_scheduler.schedule.warmup_ratio'),
    ('mae/digits', 'param_scheduler.schedule.warmup_ratio=abc', 'param_scheduler.schedule.warmup_ratio'),
    ('mae/digits', '+param_scheduler.schedule.warmup=0.1', r'schedule.warmup \(did you mean warmup_ratio\?\)'),
    ('mae/digits', '+param_scheduler.schedule.base=-1', 'param_scheduler.schedule is -.* must not be negative'),
    ('mae/digits', '+param_scheduler.schedule.base=0', 'param_scheduler.schedule is 0 at every step'),
    ('mae/digits', 'param_scheduler.schedule.type=mmmim.cosin', r'did you mean mmmim.cosine\?'),
    ('mae/digits', 'param_scheduler.by_epoch=True', 'set by_epoch=False in param_scheduler'),
    ('mae/digits', 'param_scheduler=5', 'param_scheduler'),
    (
        'capi/digits',
        'default_hooks.target_ema.momentum.base=1.5',
        'default_hooks.target_ema.momentum is .* from 0 to 1',
    ),
    ('capi/digits', 'default_hooks.target_ema.momentum=1.5', 'default_hooks.target_ema.momentum must be'),
    ('capi/digits', 'default_hooks.target_ema.momentum=abc', 'default_hooks.target_ema.momentum'),
    ('latent_mim/digits', '+default_hooks.similarity.schedule.strat=1', r'schedule.strat \(did you mean start\?\)'),
    # hooks
    ('mae/digits', 'default_hooks.logger.interval=0', 'default_hooks.logger.interval'),
    ('mae/digits', 'default_hooks.logger.interval=-1', 'default_hooks.logger.interval'),
    ('mae/digits', 'default_hooks.logger.interval=abc', 'default_hooks.logger.interval'),
    ('mae/digits', 'default_hooks.checkpoint.interval=0', 'default_hooks.checkpoint.interval'),
    ('mae/digits', 'default_hooks.checkpoint.interval=abc', 'default_hooks.checkpoint.interval'),
    ('mae/digits', 'default_hooks.checkpoint.max_keep_ckpts=abc', 'default_hooks.checkpoint.max_keep_ckpts'),
    ('mae/digits', 'default_hooks.health.interval=0', 'default_hooks.health.interval'),
    (
        'mae/digits',
        '+default_hooks.health.images=1',
        'default_hooks.health.images must be a whole number of at least 2',
    ),
    ('mae/digits', 'default_hooks.probe.interval=-1', 'default_hooks.probe.interval'),
    ('mae/digits', '+default_hooks.probe.k=0', 'default_hooks.probe.k'),
    ('mae/digits', 'default_hooks.probe.linear=pooled', 'default_hooks.probe.linear must be a list'),
    ('mae/digits', '+default_hooks.logger.intervall=5', r'default_hooks.logger.intervall \(did you mean interval\?\)'),
    ('mae/digits', 'default_hooks.logger=5', 'default_hooks.logger must be a dict with a type, or None'),
    ('mae/digits', '+default_hooks.extra.interval=5', 'default_hooks.extra has no type'),
    ('mae/digits', '+default_hooks.extra.typ=mmengine.EMAHook', r'did you mean default_hooks.extra.type\?'),
    ('mae/digits', '+custom_hooks.2.interval=0', 'custom_hooks.2.interval'),
    ('mae/digits', 'log_processor.window_size=0', 'log_processor.window_size'),
    # the model: one part
    ('mae/digits', 'model.backbone.depth=0', 'model.backbone.depth must be a whole number of at least 1, not 0'),
    ('mae/digits', 'model.backbone.depth=-1', 'model.backbone.depth'),
    ('mae/digits', 'model.backbone.depth=2.5', 'model.backbone.depth'),
    ('mae/digits', 'model.backbone.depth=True', 'model.backbone.depth'),
    ('mae/digits', '+model.backbone.depht=3', r'ViT has no option model.backbone.depht \(did you mean depth\?\)'),
    ('mae/digits', 'model.backbone.patch_size=0', 'model.backbone.patch_size'),
    ('mae/digits', 'model.backbone.embed_dim=big', 'model.backbone.embed_dim'),
    ('mae/digits', 'model.backbone.num_heads=0', 'model.backbone.num_heads'),
    ('mae/digits', '+model.backbone.num_registers=-1', 'model.backbone.num_registers'),
    ('mae/digits', '+model.backbone.drop_path_rate=1.5', 'model.backbone.drop_path_rate'),
    ('mae/digits', '+model.backbone.mlp_ratio=0', 'model.backbone.mlp_ratio'),
    ('mae/digits', '+model.backbone.norm=batch', 'norm'),
    ('mae/digits', '+model.backbone.positions=foo', "positions must be 'rope'"),
    ('mae/digits', '+model.backbone.final_norm=5', 'model.backbone.final_norm must be True or False'),
    ('mae/digits', 'model.backbone.type=mmmim.VIT', r'model.backbone.type: .*did you mean mmmim.ViT\?'),
    ('mae/digits', '+model.backbone.qkv_bias=0.5', 'model.backbone.qkv_bias'),
    ('mae/digits', '+model.data_preprocessor.std=(1,0,1)', 'model.data_preprocessor.std'),
    ('mae/digits', '+model.data_preprocessor.mean=(1,2)', 'mean'),
    ('mae/digits', '+model.activation_checkpointing=half', 'activation_checkpointing'),
    ('mae/digits', 'model.branches.pixels.neck.depth=0', 'model.branches.pixels.neck.depth'),
    ('mae/digits', '+model.branches.pixels.neck.dpeth=1', r'pixels.neck.dpeth \(did you mean depth\?\)'),
    ('mae/digits', 'model.branches.pixels.neck.grid=(8,0)', 'model.branches.pixels.neck.grid'),
    ('mae/digits', '+model.branches.pixels.haed.type=x', r'pixels.haed \(did you mean head\?\)'),
    ('mae/digits', '+model.branches.pixels.weight=-1', 'model.branches.pixels.weight'),
    (
        'mae/digits',
        'model.branches.pixels.target_generator.normalize=3',
        'target_generator.normalize must be True or False',
    ),
    ('mae/digits', 'model.branches.pixels=5', 'model.branches.pixels must be a dict'),
    ('mae/digits', 'model.branches.pixels=None', 'model.branches has no branch'),
    ('mae/digits', '+model.branches.pixels.head.loss=mae', 'The loss of a RegressionHead'),
    ('capi/digits', 'model.branches.capi.target_generator.iterations=0', 'target_generator.iterations'),
    ('capi/digits', '+model.branches.capi.target_generator.eps=0', 'target_generator.eps'),
    ('capi/digits', 'model.branches.capi.target_generator.chunk_positions=0', 'target_generator.chunk_positions'),
    ('capi/digits', 'model.branches.capi.target_generator.temperature=0', 'target_generator.temperature'),
    (
        'capi/digits',
        'model.branches.capi.target_generator.target_temperature=-1',
        'target_generator.target_temperature',
    ),
    ('capi/digits', 'model.branches.capi.head.num_prototypes=0', 'capi.head.num_prototypes'),
    ('capi/digits', 'model.branches.capi.head.temperature=0', 'capi.head.temperature'),
    ('capi/digits', 'model.branches.capi.neck.drop_path_rate=1.0', 'capi.neck.drop_path_rate'),
    ('capi/digits', 'model.teacher=[backbone,branches.capi.nek]', "teacher: the model has no part 'branches.capi.nek'"),
    ('capi/digits', 'model.teacher=backbone', 'model.teacher must be a list'),
    ('latent_mim/digits', 'model.branches.latent.head.heads.discrimination.temperature=0', 'temperature'),
    ('latent_mim/digits', 'model.branches.latent.neck.num_heads=0', 'latent.neck.num_heads'),
    ('beit/digits', 'model.branches.tokens.target_generator.tokenizer.num_tokens=0', 'tokenizer.num_tokens'),
    ('semantic_mim/beit_digits', 'model.backbone.depth=0', 'model.backbone.depth'),
    # the model: parts that contradict each other
    ('mae/digits', 'model.backbone.embed_dim=97', 'model.*num_heads=3 does not divide the width 97|embed_dim=97'),
    ('mae/digits', 'model.backbone.img_size=33', 'The patch size 4 does not divide'),
    ('mae/digits', 'model.backbone.embed_dim=48', 'model.branches.pixels.neck.context_dim is 96 and model.backbone'),
    ('capi/digits', 'model.branches.capi.head.num_prototypes=64', 'num_prototypes is 512 and .*num_prototypes is 64'),
    # host habits
    ('mae/digits', 'train_cfg.type=mmengine.EpochBasedTrainLoop +train_cfg.max_epochs=2', 'train_cfg.max_iters'),
    ('capi/digits', 'optim_wrapper.optimizer.lr=[1,2]', 'optim_wrapper.optimizer.lr'),
    # something else than a part
    ('mae/digits', 'train_cfg=5', 'train_cfg must be a dict or None, not 5'),
    ('mae/digits', 'default_scope=5', 'default_scope must be a text'),
    ('mae/digits', 'train_dataloader.dataset=5', 'train_dataloader.dataset must be a dict with a type'),
    ('mae/digits', 'train_dataloader.collate_fn=5', 'train_dataloader.collate_fn must be a dict with a type'),
    ('mae/digits', 'train_dataloader.collate_fn.masking=5', 'train_dataloader.collate_fn.masking must be a dict'),
    ('mae/digits', 'train_dataloader.sampler=5', 'train_dataloader.sampler must be a dict with a type'),
    ('mae/digits', 'train_dataloader.dataset.dataset.pipeline.0=5', 'pipeline.0 must be a dict with a type'),
    ('mae/digits', 'global_batch_size=None', 'train_dataloader has no batch size: set train_dataloader.batch_size'),
    ('mae/digits', 'default_hooks.checkpoint.by_epoch=abc', 'default_hooks.checkpoint.by_epoch must be True or False'),
    ('mae/digits', '+auto_scale_lr.enable=abc', 'auto_scale_lr.enable'),
    ('mae/digits', '+compile.dynamic=abc', 'compile.dynamic'),
    ('mae/digits', '+compile.backend=foo', "compile.backend must be a back end of torch.* not 'foo'"),
    # evaluation while training
    ('mae/digits', 'val_evaluator.type=mmmim.MeanLoss', r'did you mean mmmim.MeanLosses\?'),
    ('mae/digits', '+val_cfg.fp61=True', r'val_cfg.fp61 \(did you mean fp16\?\)'),
    ('mae/digits', '+probe_data.train.spilt=val', r'probe_data.train.spilt \(did you mean split\?\)'),
]


@pytest.mark.parametrize(('name', 'options', 'message'), CASES, ids=[f'{case[0]} {case[1]}' for case in CASES])
def test_wrong_options_of_a_training(monkeypatch, tmp_path, name, options, message):
    said = refusal(monkeypatch, tmp_path, TRAIN, name, *options.split())
    assert re.search(message, said), said


# Probes that are fitted, segmentation, and the test of both ----------------------------------------------------------

FITTED = [
    ('eval/seg_knn_digits', 'test_cfg.probe.k=[]', 'test_cfg.probe.k must be a list.* at least 1 of them'),
    ('eval/seg_knn_digits', 'test_cfg.probe.k=[0]', 'test_cfg.probe.k'),
    ('eval/seg_knn_digits', 'test_cfg.probe.k=3', 'test_cfg.probe.k must be a list'),
    ('eval/seg_knn_digits', 'test_cfg.probe.distance=[l3]', 'test_cfg.probe.distance'),
    ('eval/seg_knn_digits', 'test_cfg.probe.standardize=yes', 'test_cfg.probe.standardize'),
    ('eval/seg_knn_digits', '+test_cfg.probe.dtype=int8', 'test_cfg.probe.dtype'),
    ('eval/seg_knn_digits', '+test_cfg.probe.kk=3', 'KNNProbe has no option test_cfg.probe.kk'),
    ('eval/seg_knn_digits', 'test_cfg.probe.type=mmmim.KNN', r'did you mean mmmim.KNNProbe\?'),
    ('eval/seg_logreg_digits', '+test_cfg.probe.c=[0.0]', 'test_cfg.probe.c'),
    ('eval/seg_logreg_digits', '+test_cfg.probe.c=[-1.0]', 'test_cfg.probe.c'),
    ('eval/seg_logreg_digits', '+test_cfg.probe.max_iter=0', 'test_cfg.probe.max_iter'),
    ('eval/seg_knn_digits', 'test_cfg.held_out=1.5', 'test_cfg.held_out'),
    ('eval/seg_knn_digits', 'test_cfg.held_out=0', 'test_cfg.held_out'),
    ('eval/seg_knn_digits', 'test_cfg.seed=-1', 'test_cfg.seed'),
    ('eval/seg_knn_digits', 'test_cfg.choose_by=iou', 'test_cfg.choose_by'),
    ('eval/seg_knn_digits', 'test_cfg.cache.dtype=int8', 'test_cfg.cache.dtype'),
    ('eval/seg_knn_digits', '+test_cfg.cache.foldr=x', r'test_cfg.cache.foldr \(did you mean folder\?\)'),
    ('eval/seg_knn_digits', '+test_cfg.heldout=0.1', r'test_cfg.heldout \(did you mean held_out\?\)'),
    ('eval/seg_knn_digits', 'fit_dataloader.num_workers=-1', 'fit_dataloader.num_workers'),
    ('eval/seg_knn_digits', 'fit_dataloader.batch_size=0', 'fit_dataloader.batch_size'),
    ('eval/seg_knn_digits', 'fit_dataloader=None', 'fit_dataloader'),
    ('eval/seg_knn_digits', 'test_dataloader.batch_size=abc', 'test_dataloader.batch_size'),
    ('eval/seg_knn_digits', 'test_dataloader.dataset.spilt=x', 'test_dataloader.dataset.split'),
    ('eval/seg_knn_digits', 'test_evaluator.0.type=mmmim.MacroJacard', r'did you mean mmmim.MacroJaccard\?'),
    (
        'eval/seg_knn_digits',
        '+test_evaluator.1.ignore_idx=0',
        r'test_evaluator.1.ignore_idx \(did you mean ignore_index\?\)',
    ),
    ('eval/seg_knn_digits', 'randomness.seed=abc', 'randomness.seed'),
    ('eval/seg_knn_digits', 'log_level=FOO', 'log_level'),
    ('eval/seg_knn_digits', 'model.features=5', 'model.features must be a text'),
    ('eval/seg_knn_digits', '+model.backbone.strid=4', r'model.backbone.strid \(did you mean stride\?\)'),
    ('eval/seg_knn_digits', '+model.backbone.stride=0', 'model.backbone.stride'),
    ('eval/cls_knn_digits', 'test_cfg.probe.k=[1.5]', 'test_cfg.probe.k'),
]


@pytest.mark.parametrize(('name', 'options', 'message'), FITTED, ids=[f'{case[0]} {case[1]}' for case in FITTED])
def test_wrong_options_of_a_fitted_probe(monkeypatch, tmp_path, name, options, message):
    encoder = ('--pretrained', 'mae/digits')  # random weights
    said = refusal(monkeypatch, tmp_path, TEST, name, *options.split(), arguments=encoder)
    assert re.search(message, said), said


SEGMENTATION = [
    ('train_cfg.max_iters=0', 'train_cfg.max_iters'),
    ('optim_wrapper.optimizer.lr=0', 'optim_wrapper.optimizer.lr'),
    ('num_classes=3', f'num_classes {COPY}.*model.decode_head.num_classes'),
    ('ignore_index=3', f'ignore_index {COPY}.*ignore_index'),
    ('+model.decode_head.num_clases=3', r'num_clases \(did you mean num_classes\?\)'),
    ('model.decode_head.num_classes=abc', 'model.decode_head.num_classes'),
    ('model.decode_head.type=mmseg.FCNHeda', r'did you mean mmseg.FCNHead\?'),
    ('param_scheduler.decay.begin=600', 'needs a shorter warm-up'),
    ('+param_scheduler.decay.powr=1', r'param_scheduler.decay.powr \(did you mean power\?\)'),
    ('default_hooks.checkpoint.interval=abc', 'default_hooks.checkpoint.interval'),
    ('default_hooks.logger.interval=0', 'default_hooks.logger.interval'),
    ('custom_hooks.3.images=-1', 'custom_hooks.3.images|has no custom_hooks.3.images'),
    ('val_dataloader.num_workers=1.5', 'val_dataloader.num_workers'),
    ('val_evaluator.iou_metrics=mIoU +val_evaluator.foo=1', 'val_evaluator.foo'),
    ('train_dataloader.dataset.dataset.pipeline.2.crop_ratio_range=(1.0,0.6)', 'crop_ratio_range'),
    ('+train_dataloader.dataset.dataset.pipeline.3.metakeys=x', 'pipeline.3.metakeys'),
]


@pytest.mark.parametrize(('options', 'message'), SEGMENTATION, ids=[case[0] for case in SEGMENTATION])
def test_wrong_options_of_a_segmentor(monkeypatch, tmp_path, options, message):
    encoder = ('--pretrained', 'mae/digits')
    said = refusal(monkeypatch, tmp_path, TRAIN, 'eval/seg_linear_digits', *options.split(), arguments=encoder)
    assert re.search(message, said), said


# Arguments of the tools ----------------------------------------------------------------------------------------------

TOOLS = [
    ('analysis_tools/rankme', ['a', 'b', '--size', '0']),
    ('analysis_tools/rankme', ['a', 'b', '--batch-size', '-1']),
    ('analysis_tools/rankme', ['a', 'b', '--workers', 'abc']),
    ('analysis_tools/rankme', ['a', 'b', '--workers', '1.5']),
    ('analysis_tools/rankme', ['a', 'b', '--max-images', '0']),
    ('analysis_tools/attention_distance', ['a', 'b', '--size', '-3']),
    ('analysis_tools/benchmark_train', ['a', '--steps', '0']),
    ('analysis_tools/benchmark_train', ['a', '--threads', '0']),
    ('analysis_tools/benchmark_data', ['a', '--workers', '-1']),
    ('analysis_tools/benchmark_data', ['a', '--crop-ratio', '0', '1']),
    ('analysis_tools/benchmark_probes', ['--dim', '0']),
    ('visualization/vis_pca', ['a', 'b', '--sizes', '0']),
    ('visualization/vis_attention', ['a', 'b', '--size', 'x']),
    ('visualization/vis_tsne', ['a', 'b', '--perplexity', 'nan']),
    ('visualization/vis_tsne', ['a', 'b', '--seed', '-1']),
    ('visualization/vis_reconstruction', ['a', 'b', '--mask-ratio', '1.5']),
    ('misc/fit_patch_codebook', ['a', 'b', '--codes', '0']),
    ('misc/fit_patch_codebook', ['a', 'b', '--seed', str(2**70)]),
    ('misc/compare', ['a', '--jobs', '0']),
    ('dataset_converters/make_shards', ['a', 'b', '--seed', 'abc']),
    ('model_converters/mae_to_mmmim', ['a', 'b', '--num-heads', '0']),
]


@pytest.mark.parametrize(('tool', 'arguments'), TOOLS, ids=[f'{case[0]} {" ".join(case[1][-2:])}' for case in TOOLS])
def test_wrong_arguments_of_a_tool(monkeypatch, capsys, tool, arguments):
    option = next(argument for argument in reversed(arguments) if argument.startswith('--'))
    module = load_tool(tool)
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    with pytest.raises(SystemExit) as caught:
        getattr(module, 'parse_args', None)() if hasattr(module, 'parse_args') else module.main()
    assert caught.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(rf'error: argument {option}: it must be (a|an) .*, not ', last), last


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('train.py', ['--cfg-options', '+model.backbone.depht=3'], 'did you mean depth'),
        ('train.py', ['--cfg-options', '+optim_wrapper.clip_norm=-1'], 'optim_wrapper.clip_norm must be'),
    ],
)
def test_the_command_line_says_it_in_one_line_and_leaves_nothing(tmp_path, tool, arguments, message):
    done = run_tool(tool, 'mae/digits', *arguments, cwd=tmp_path)
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert done.returncode == 2
    assert len(errors) == 1
    assert message in errors[0]
    assert 'Traceback' not in done.stderr
    assert not list(tmp_path.iterdir())


def test_no_shipped_config_is_refused():
    """What the check says of a sound config would be as bad as silence about a wrong one."""
    for name in ('capi/vitl14', 'latent_mim/vitb16', 'pilamim/vitb16', 'ijepa/vitb16', 'semantic_mim/maskfeat_digits'):
        check_config(config(name))
