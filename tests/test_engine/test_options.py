"""Wrong options: one sentence each, that names the key, before data are listed, models built or folders made."""

import copy
import re
import sys
from itertools import product

import pytest
from mmengine import Config

from mmmim.cli import test as testing
from mmmim.cli import train as training
from mmmim.cli.run import build_config
from mmmim.config.read import load_config
from mmmim.engine import Runner
from mmmim.engine.config_check import check_config
from mmmim.utils import InputError
from tests.paths import ROOT, load_tool

#: Longest sentence that still is one.
LONGEST = 420

CONFIGS: dict[str, Config] = {}


def config(name):
    """A fresh copy of a config, read once."""
    if name not in CONFIGS:
        CONFIGS[name] = load_config(str(ROOT / 'configs' / f'{name}.py'))
    return copy.deepcopy(CONFIGS[name])


#: Options of configs that are refused: keys, values of which each is a case, and words of the sentence after a #, where
#: it does not only have to name the key, for which the dots stand.
CASES = r"""
[mae/small]
train_cfg.max_iters = 0 -1 None 1.5 True  # ... must be a whole number of at least 1
train_cfg.max_iters = abc  # ... .*not 'abc'
global_batch_size = 0 1.5  # ... must be a whole number of at least 1
global_batch_size = 100000000  # ... .*not 100000000
global_batch_size = None  # train_dataloader has no batch size: set train_dataloader.batch_size
+model.micro_batch_size = 0 True  # ... must be a whole number of at least 1 or 'auto' or None
randomness.seed = abc -1 1180591620717411303424 0.5  # ... .*up to 4294967295
log_level env_cfg.mp_cfg.mp_start_method +compile.mode = FOO  # ... must be one of
resume = maybe  # ... must be True, False or 'auto'
strategy.type = DDP  # ... must be one of 'mmmim.FSDP2Strategy'
strategy.type=mmmim.FSDP2Strategy +strategy.param_dtpye = x  # did you mean param_dtype\?
strategy.type=mmmim.FSDP2Strategy +strategy.param_dtype = int8  # strategy.param_dtype
+train_cfg.max_itres = 3  # ... .did you mean max_iters
+randomness.sed +compile.fulgraph +train_dataloader.sampler.shufle +optim_wrapper.clip_nrom = 1  # ... \(did you mean
+default_hooks.logger.intervall +model.backbone.depht +val_cfg.fp61 = 1  # ... \(did you mean
+probe_data.train.spilt +train_dataloader.dataset.dataset.pipeline.1.scal = 1  # ... \(did you mean
+model.branches.pixels.haed = 1  # pixels.haed \(did you mean head\?\)
+param_scheduler.schedule.warmup +optim_wrapper.paramwise_cfg.rulse +optim_wrapper.optimizer.beta = 1  # \(did you mean
train_dataloader.sampler train_dataloader.dataset default_hooks.logger = 5  # ... must be a dict with a type
train_dataloader.dataset.dataset.pipeline.0 train_dataloader.collate_fn = 5  # ... must be a dict with a type
train_cfg train_dataloader.collate_fn.masking model.branches.pixels = 5  # ... must be a dict
train_dataloader.sampler = None  # ... is None
train_dataloader.dataset = None  # train_dataloader has no data set
optim_wrapper.optimizer = None  # ... must be a dict with a type
model.branches.pixels = None  # model.branches has no branch
train_dataloader.sampler.shuffle randomness.deterministic trust_checkpoint = yes  # ... must be True or False
+model.backbone.final_norm default_hooks.checkpoint.by_epoch = 5  # ... must be True or False
model.branches.pixels.target_generator.normalize = 3  # ... must be True or False
mask_collate.masking.mask_ratio = 0.5  # variable of the config.* set train_dataloader.collate_fn.masking.mask_ratio
+max_iters = 5  # nothing reads a key max_iters .*did you mean train_cfg.max_iters
+seed = 5  # did you mean randomness.seed
+default_hook.logger.interval = 5  # nothing reads a key default_hook\b
train_dataloader.collate_fn.masking.mask_ratio = 1.5  # train_dataloader.collate_fn.masking: mask_ratio
train_dataloader.dataset.dataset.pipeline.1.crop_ratio_range = (1.0,0.6) (0,1)  # crop_ratio_range .*smaller
train_dataloader.dataset.dataset.pipeline.1.interpolation = cubic  # pipeline.1: its options
train_dataloader.dataset.dataset.type = mmmim.ImageFolder  # split: .*~\S+.subset ~\S+.split, or with _delete_=True
train_dataloader.dataset.type = mmmim.SyntheticImages  # ~train_dataloader.dataset.dataset
val_dataloader.dataset.dataset.type = mmpretrain.CustomDataset  # _delete_=True
optim_wrapper.optimizer.lr = 0 -1 nan inf abc  # ... must be a finite number
optim_wrapper.optimizer.lr = None  # optim_wrapper.optimizer.*lr
optim_wrapper.optimizer.type = torch.optim.Foo  # torch.optim.Foo is not in the
optim_wrapper.optimizer.type = mmengine.Adamw  # did you mean mmengine.AdamW\?
+optim_wrapper.clip_norm = -1 0 nan abc  # ... must be a finite number
+optim_wrapper.accumulative_counts = 4  # set global_batch_size .* model.micro_batch_size
optim_wrapper.dtype = bf16  # ... must be None .*, 'bfloat16' or 'float16'
+optim_wrapper.paramwise_cfg.norm_decay_mult = 0.0  # paramwise_cfg has norm_decay_mult.*rules=
+optim_wrapper.paramwise_cfg.layer_decay = 0  # paramwise_cfg.layer_decay must be .*above 0
+param_scheduler.schedule.base = -1  # param_scheduler.schedule is -.* must not be negative
+param_scheduler.schedule.base = 0  # param_scheduler.schedule is 0 at every step
param_scheduler.schedule.type = mmmim.cosin  # did you mean mmmim.cosine\?
param_scheduler.by_epoch = True  # set by_epoch=False in param_scheduler
+default_hooks.health.images = 1  # ... must be a whole number of at least 2
default_hooks.probe.linear = pooled  # ... must be a list
+default_hooks.extra.interval = 5  # default_hooks.extra has no type
+default_hooks.extra.typ = mmengine.EMAHook  # did you mean default_hooks.extra.type\?
model.backbone.depth = 0 2.5 True  # ... must be a whole number of at least 1
model.backbone.embed_dim = big
model.backbone.embed_dim = 48  # model.branches.pixels.neck.context_dim is 96 and model.backbone
model.backbone.type = mmmim.VIT  # model.backbone.type: .*did you mean mmmim.ViT\?
+model.branches.pixels.head.loss = mae  # The loss of a RegressionHead
model.backbone.img_size = 33  # The patch size 4 does not divide
train_cfg.type=mmengine.EpochBasedTrainLoop +train_cfg.max_epochs = 2  # train_cfg.max_iters
+compile.backend = foo  # ... must be a back end of torch.* not 'foo'
default_scope = 5  # ... must be a text
train_cfg.val_interval = 0 -1
env_cfg.mp_cfg.opencv_num_threads +train_dataloader.collate_fn.gap default_hooks.probe.interval = -1
+model.backbone.num_registers +model.branches.pixels.weight train_dataloader.num_workers = -1
+env_cfg.dist_cfg.timeout +auto_scale_lr.base_batch_size val_dataloader.batch_size +train_dataloader.prefetch_factor = 0
train_dataloader.collate_fn.patch_size +optim_wrapper.optimizer.eps +optim_wrapper.loss_scale = 0
+optim_wrapper.growth_interval default_hooks.health.interval +default_hooks.probe.k +custom_hooks.2.interval = 0
log_processor.window_size model.backbone.patch_size model.backbone.num_heads +model.backbone.mlp_ratio = 0
model.branches.pixels.neck.depth default_hooks.logger.interval default_hooks.checkpoint.interval = 0
train_dataloader.drop_last default_hooks.checkpoint.max_keep_ckpts +auto_scale_lr.enable +compile.dynamic = abc
optim_wrapper.optimizer.weight_decay = -0.1 nan
optim_wrapper.optimizer.betas = (0.9,1.0) 0.9
optim_wrapper.constructor = mmmim.RuleOptimWrapper
param_scheduler.schedule.warmup_ratio = 1.5 abc
param_scheduler +compile = 5
+model.backbone.drop_path_rate = 1.5
+model.backbone.norm = batch  # model: norm must be 'rms'
+model.backbone.qkv_bias = 0.5
[latent_mim/small]
whole.1.scale = 80  # is a variable of the config.*val_dataloader.dataset.dataset.pipeline.1.scale
model.branches.latent.head.heads.discrimination.temperature model.branches.latent.neck.num_heads = 0
[capi/small]
+optim_wrapper.paramwise_cfg.rules.norms.lr_mlt = 1  # optim_wrapper.paramwise_cfg.rules.norms is .*: its keys are
default_hooks.target_ema.momentum.base = 1.5  # default_hooks.target_ema.momentum is .* from 0 to 1
default_hooks.target_ema.momentum = 1.5 abc  # ... must be
model.branches.capi.head.num_prototypes = 32  # num_prototypes is 64 and .*num_prototypes is 32
model.teacher = [backbone,branches.capi.nek]  # teacher: the model has no part 'branches.capi.nek'
model.teacher = backbone  # ... must be a list
+optim_wrapper.paramwise_cfg.rules.norms.lr_mult model.branches.capi.target_generator.target_temperature = -1
optim_wrapper.paramwise_cfg.rules.norms.match = [(]
model.branches.capi.target_generator.iterations +model.branches.capi.target_generator.eps = 0
model.branches.capi.target_generator.chunk_positions model.branches.capi.target_generator.temperature = 0
model.branches.capi.head.temperature model.branches.capi.head.num_prototypes = 0
model.branches.capi.neck.drop_path_rate = 1.0
[eval/seg_knn_fashion]
test_cfg.probe.k = [] [0] [1.5] 3  # ... must be a list.* at least 1 of them
+test_cfg.cache.foldr +test_cfg.heldout +test_evaluator.1.ignore_idx +model.backbone.strid = 1  # ... \(did you mean
model.features = 5  # ... must be a text
test_cfg.probe.standardize +test_cfg.probe.dtype test_cfg.cache.dtype test_cfg.choose_by test_cfg.probe.distance = int8
test_cfg.held_out = 1.5 0
test_cfg.seed fit_dataloader.num_workers = -1
fit_dataloader.batch_size +model.backbone.stride = 0
fit_dataloader = None
[eval/seg_logreg_fashion]
+test_cfg.probe.c = [0.0] [-1.0]
+test_cfg.probe.max_iter = 0
[eval/seg_linear_fashion]
num_classes = 3  # ... is a variable of the config.*model.decode_head.num_classes
+model.decode_head.num_clases = 3  # num_clases \(did you mean num_classes\?\)
model.decode_head.type = mmseg.FCNHeda  # did you mean mmseg.FCNHead\?
param_scheduler.decay.begin = 600  # needs a shorter warm-up
custom_hooks.3.images = -1  # custom_hooks.3.images|has no custom_hooks.3.images
val_evaluator.iou_metrics=mIoU +val_evaluator.foo = 1  # val_evaluator.foo
model.decode_head.num_classes = abc
+train_dataloader.dataset.dataset.pipeline.3.metakeys = x
"""


def cases():
    for line in CASES.strip().splitlines():
        if line.startswith('['):
            name = line.strip('[]')
            continue
        options, _, words = line.partition('  # ')
        keys, values = re.fullmatch('(.*) = (.*)', options).groups()
        before, keys = re.fullmatch(r'((?:\S+=\S+ )*)(.*)', keys).groups()
        for key, value in product(keys.split(), values.split()):
            key_only = re.escape(key.removeprefix('+'))
            yield name, f'{before}{key}={value}', words.replace('...', key_only) if words else key_only


@pytest.mark.parametrize(('name', 'options', 'message'), cases())
def test_wrong_options(monkeypatch, tmp_path, name, options, message):
    """What a tool says against options on its real way from the command line to the runner."""
    command = testing if re.search('_(knn|logreg)_', name) else training
    encoder = ['--pretrained', 'mae/small'] if name.startswith('eval/') else []  # of random weights
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('mmmim.config.read.load_config', lambda path: config(path))
    # Whatever lists images, builds parts with weights or makes folders comes after the check.
    for late in ('mmengine.runner.Runner.__init__', 'mmengine.dataset.BaseDataset.full_init'):
        monkeypatch.setattr(late, lambda *args, **kwargs: pytest.fail('too late'))
    args = command.build_parser().parse_args([name, *encoder, '--cfg-options', *options.split()])
    with pytest.raises(InputError) as caught:
        Runner.from_cfg(build_config(args, command.COMMAND))
    said = str(caught.value)
    assert '\n' not in said
    assert len(said) < LONGEST, said
    assert not list(tmp_path.iterdir())
    assert re.search(message, said), said


#: Arguments of tools, and options of which each is refused.
TOOLS = """
analysis_tools/rankme a b: --size 0, --batch-size -1, --workers abc, --max-images 0
analysis_tools/attention_distance a b: --size -3
analysis_tools/benchmark_train a: --steps 0, --threads 0
analysis_tools/benchmark_data a: --workers 1.5, --crop-ratio 0 1
visualization/vis_pca a b: --sizes 0
visualization/vis_tsne a b: --perplexity nan, --seed -1
visualization/vis_reconstruction a b: --mask-ratio 1.5
misc/fit_patch_codebook a b: --codes 0, --seed 1180591620717411303424
misc/compare a: --jobs 0
model_converters/mae_to_mmmim a b: --num-heads 0
"""


def wrong_arguments():
    for line in TOOLS.strip().splitlines():
        command, options = line.split(': ')
        for option in options.split(', '):
            yield f'{command} {option}'


@pytest.mark.parametrize('command', wrong_arguments())
def test_wrong_arguments_of_a_tool(monkeypatch, capsys, command):
    tool, *arguments = command.split()
    option = next(argument for argument in arguments if argument.startswith('--'))
    module = load_tool(tool)
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    with pytest.raises(SystemExit) as caught:
        getattr(module, 'parse_args', getattr(module, 'main', None))()
    assert caught.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(rf'error: argument {option}: it must be (a|an) .*, not ', last), last


def test_no_shipped_config_is_refused():
    """What the check says of a sound config would be as bad as silence about a wrong one."""
    for name in ('capi/vitl14', 'latent_mim/vitb16', 'pilamim/vitb16', 'ijepa/vitb16', 'semantic_mim/maskfeat_small'):
        check_config(config(name))
