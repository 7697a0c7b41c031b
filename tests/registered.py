"""A small instance of everything that mmmim registers as a model, and how it is run: one line for each.

A class that is added to the package is added to one of the tables, and with it to the tests of every capability.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch
from mmengine import Config
from torch import Tensor, nn

from mmmim.datasets.collate import mask_collate
from mmmim.models import EMACopy
from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Prediction, Target
from tests.paths import ROOT
from tests.shrink import PATCHES_PER_SIDE, cap, shrink_model
from tests.toys import CAPI_STYLE, DIM, GRID, PATCH, capi_config, random_mask

IMAGES, PROTOTYPES, CHANNELS = 4, 24, 3
Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A part or a model: its config, and what it makes of a batch."""

    config: dict
    run: Callable[[nn.Module], Outputs]

    def build(self, seed: int = 0) -> nn.Module:
        """With random weights, none of which is zero, in training mode."""
        torch.manual_seed(seed)
        module = MODELS.build(self.config)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        return module.train()


def build(config: dict, seed: int = 0) -> nn.Module:
    """A module of a config, always with the same weights; the global generator stays as it is."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODELS.build(config)


def scrambled(module: nn.Module, std: float = 0.3) -> nn.Module:
    """The module in eval mode with random weights everywhere, so that nothing is a constant."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in module.parameters():
            parameter.add_(std * torch.randn_like(parameter))
    return module.eval()


def floats(module: nn.Module) -> torch.dtype:
    """The floating type of the weights of a module; fp32 where there are none."""
    return next((p.dtype for p in module.parameters()), torch.float32)


def pixels(number: int = IMAGES, side: int = GRID[0] * PATCH, seed: int = 0) -> Tensor:
    """Images ``[B, 3, H, W]``, uint8."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, CHANNELS, side, side), dtype=torch.uint8, generator=rng)


def normalized(*args: int, **options: int) -> Tensor:
    """Images ``[B, 3, H, W]`` as encoders see them."""
    return (pixels(*args, **options).float() - 127.5) / 60


# ------------------------------------------------------------------------------------------------------------ encoders

_SIZES = {'img_size': GRID[0] * PATCH, 'patch_size': PATCH, 'embed_dim': DIM, 'depth': 3, 'num_heads': 2}
_FOREIGN = {'img_size': 32, 'patch_size': 8}
_ARCH = {'embed_dims': DIM, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 32}
_TIMM = dict(type='mmmim.TimmEncoder', name='vit_tiny_patch16_224', embed_dim=DIM, depth=3, num_heads=2)


def _vit(**options: object) -> dict:
    return {'type': 'mmmim.ViT', **_SIZES, **options}


ENCODERS = {
    'sincos, CLS': _vit(),
    'rotary, registers': _vit(**CAPI_STYLE, num_cls_tokens=0, num_registers=4),
    'rotary, proxies': _vit(positions='rope', num_cls_tokens=4, final_affine=False),
    'learned, nothing but patches': _vit(positions='learnable', num_cls_tokens=0),
    'learned, proxies': _vit(
        positions='learnable', extra_positions=True, num_cls_tokens=3, num_registers=1, final_norm=False
    ),
    'mask tokens': _vit(fused=True, layer_scale=0.1, qkv_bias='qv'),
    'relative, mask tokens': _vit(positions='relative_shared', fused=True, layer_scale=0.1, qkv_bias='qv'),
    'norms after sums': _vit(post_norm=True, embedding_norm=True, final_norm=False, init='data2vec2'),
    'relative, registers': _vit(positions='relative_shared', num_registers=2),
    'projector': _vit(positions='sincos_stretched', projector_dims=[24, 20]),
    'timm': {**_TIMM, **_FOREIGN},
    'timm, mask tokens': {**_TIMM, **_FOREIGN, 'fused': True},
    'mmpretrain': {'type': 'mmmim.MMPretrainEncoder', 'name': 'VisionTransformer', 'arch': _ARCH, **_FOREIGN},
    'Swin, mask tokens': {
        'type': 'mmmim.HierarchicalEncoder',
        'name': 'mmpretrain:SwinTransformer',
        'img_size': 32,
        'window_size': 2,
        'arch': {'embed_dims': DIM // 2, 'depths': [1, 3], 'num_heads': [1, 2]},
        'fused': True,
    },
}
#: Classes whose library is an extra that is missing.
NOT_INSTALLED = set() if find_spec('transformers') else {'mmmim.HuggingFaceEncoder'}
if not NOT_INSTALLED:
    ENCODERS['transformers'] = {
        'type': 'mmmim.HuggingFaceEncoder', 'name': 'dinov2_with_registers', 'hidden_size': DIM, 'num_hidden_layers': 3,
        'num_attention_heads': 2, 'num_register_tokens': 2, 'image_size': 32, 'patch_size': 8,
    }  # fmt: skip
#: Encoders of other libraries.
FOREIGN = ('timm', 'timm, mask tokens', 'mmpretrain', 'Swin, mask tokens', 'transformers')


def encoder_input(name: str, number: int = IMAGES, per_image: int = 1) -> tuple:
    """Images and masks of an encoder of the table."""
    return normalized(number, *([32] if name in FOREIGN else [])), random_mask(number, predict=4, per_image=per_image)


def outputs_of(context: Context) -> Outputs:
    """The tensors of a context."""
    return {'visible': context.visible, 'extra': context.extra, **{f'{i}': x for i, x in enumerate(context.hidden)}}


def _encode(name: str) -> Callable[[nn.Module], Outputs]:
    def run(module: nn.Module) -> Outputs:
        images, mask = encoder_input(name, per_image=2)
        return outputs_of(module(images, mask))

    return run


# --------------------------------------------------------------------------------------------------------------- necks

_NECK = {'context_dim': DIM, 'embed_dim': 8, 'depth': 2, 'num_heads': 2}
_LEARNED = {'positions': 'learnable', 'grid': GRID}
_PROXIES = dict(type='mmmim.ProxyReconstruction', context_dim=DIM, depth=3, num_heads=2)


def _neck(kind: str, **options: object) -> dict:
    return {'type': f'mmmim.{kind}', **_NECK, **options}


_OF_CLS = dict(num_extra_positions=1, predict_cls=True, final_norm=False, qkv_bias=False)
#: Configs, and the encoder before them.
NECKS = {
    'cross-attention, rotary': (_neck('CrossAttentionPredictor'), 'rotary, registers'),
    'cross-attention, learned': (_neck('CrossAttentionPredictor', **_LEARNED), 'sincos, CLS'),
    'self-attention, added': (_neck('SelfAttentionPredictor', grid=GRID, out_dim=5), 'sincos, CLS'),
    'self-attention, rotary': (_neck('SelfAttentionPredictor', positions='rope'), 'rotary, registers'),
    'self-attention, CLS': (_neck('SelfAttentionPredictor', **_LEARNED, **_OF_CLS), 'sincos, CLS'),
    'decoder': (_neck('CrossAttentionDecoder', grid=GRID, out_dim=5), 'projector'),
    'prompting': (_neck('PromptingDecoder', grid=GRID, out_dim=5), 'sincos, CLS'),
    'prompting, CLS': (_neck('PromptingDecoder', grid=GRID, out_dim=5, predict_cls=True), 'sincos, CLS'),
    'decoder, no cues': (_neck('CrossAttentionDecoder', grid=GRID, visual_cues=False), 'projector'),
    'mixtures of states': (_neck('InterBlockDecoder', grid=GRID, out_dim=5, layers=[0, 2]), 'sincos, CLS'),
    'mixtures without the input': (
        _neck('InterBlockDecoder', **_LEARNED, layers=[-1], embedded=False),
        'learned, nothing but patches',
    ),
    'fused states': (
        {
            'type': 'mmmim.MultiLevelFusion',
            'context_dim': DIM,
            'layers': [0, 1, 2],
            'neck': _neck('SelfAttentionPredictor', grid=GRID, out_dim=5),
        },
        'sincos, CLS',
    ),
    'convolutions': (
        {
            'type': 'mmmim.ConvolutionalDecoder',
            'context_dim': DIM,
            'embed_dim': 12,
            'depth': 2,
            'groups': 4,
            'out_dim': DIM,
        },
        'norms after sums',
    ),
    'two blocks': (
        {'type': 'mmmim.PatchAggregation', 'context_dim': DIM, 'out_dim': 5, 'early_layer': 1, 'num_heads': 2},
        'mask tokens',
    ),
    'projected': (
        {'type': 'mmmim.BatchNormProjector', 'context_dim': DIM, 'hidden_dim': 12, 'out_dim': 5},
        'mask tokens',
    ),
    'picked': ({'type': 'mmmim.PickPredicted', 'context_dim': DIM, 'out_dim': 5}, 'mask tokens'),
    'proxies, added': ({**_PROXIES, 'layer_scale': 0.1}, 'learned, proxies'),
    'proxies, rotary': ({**_PROXIES, 'positions': 'rope', 'out_dim': 5}, 'rotary, proxies'),
}
#: Necks whose predictions of an image see each other.
NECKS_OF_ONE_BLOCK = ('self-attention, CLS',)


def neck_input(name: str, dtype: torch.dtype = torch.float32, **mask: int) -> tuple:
    """What an encoder of the table gives to a neck, without gradients, and the masks."""
    neck, encoder = NECKS[name]
    masks = random_mask(IMAGES, **mask)
    module = build(ENCODERS[encoder]).eval().to(dtype)
    with torch.no_grad(), torch.autocast('cpu', enabled=False):
        layers = range(3) if 'Proxy' in neck['type'] else neck.get('layers', ())
        layers = (neck['early_layer'], -1) if 'early_layer' in neck else layers
        context = module(normalized(), masks, layers=layers)
    return context, masks


def _predict(name: str) -> Callable[[nn.Module], Outputs]:
    def run(module: nn.Module) -> Outputs:
        blocks = {} if name in NECKS_OF_ONE_BLOCK else {'blocks': 2}
        prediction = module(*neck_input(name, floats(module), per_image=2, **blocks))
        others = {'cls': prediction.cls, 'early': prediction.early}
        return {'patches': prediction.patches, **{key: each for key, each in others.items() if each is not None}}

    return run


def _maps(module: nn.Module) -> Outputs:
    rng = torch.Generator().manual_seed(0)
    maps = [torch.randn(IMAGES, DIM, 4, 4, generator=rng).to(floats(module)) for _ in range(2)]
    return {f'{i}': each for i, each in enumerate(module(maps))}


# --------------------------------------------------------------------------------------------------------------- heads

_REGRESSION = {'type': 'mmmim.RegressionHead'}
HEADS = {
    'mse': _REGRESSION,
    'l1': {'type': 'mmmim.RegressionHead', 'loss': 'l1', 'nominal_ratio': 0.5},
    'huber': {'type': 'mmmim.RegressionHead', 'loss': 'huber'},
    'smooth L1': {'type': 'mmmim.RegressionHead', 'loss': 'smooth_l1', 'beta': 2.0},
    'cosine': {'type': 'mmmim.RegressionHead', 'loss': 'cosine'},
    'prototypes': {'type': 'mmmim.PrototypeHead', 'in_dim': 8, 'num_prototypes': 8},
    'prototypes, MLP': {'type': 'mmmim.PrototypeHead', 'in_dim': 8, 'num_prototypes': 8, 'mlp_dims': (12, 6)},
    'tokens': {'type': 'mmmim.CrossEntropyHead'},
    'tokens, early': {'type': 'mmmim.CrossEntropyHead', 'of': 'early'},
    'discrimination': {'type': 'mmmim.PatchDiscriminationHead'},
    'discrimination, all': {'type': 'mmmim.PatchDiscriminationHead', 'candidates': 'all'},
    'similarity': {'type': 'mmmim.SimilarityConstraint'},
    'several': {'type': 'mmmim.CombinedHead', 'heads': {'patches': _REGRESSION, 'cls': {**_REGRESSION, 'of': 'cls'}}},
}


def head_input(name: str) -> tuple[Prediction, Target, Context]:
    """A random prediction that takes gradients, a target of the kind that a head of the table compares, a context."""
    rng = torch.Generator().manual_seed(0)
    patches, cls, wanted, visible = (
        torch.randn(shape, generator=rng) for shape in ((IMAGES, 6, 8), (IMAGES, 8), (IMAGES, 6, 8), (IMAGES, 5, 8))
    )
    target = {'prototypes': wanted.softmax(-1), 'tokens': wanted.argmax(-1)}.get(name.split(',')[0], wanted)
    context = Context(visible.requires_grad_(), visible[:, :1], GRID, positions=lambda index: index)
    prediction = Prediction(patches.requires_grad_(), cls.requires_grad_(), patches)
    others = torch.randn(IMAGES, GRID[0] * GRID[1] - 6, 8, generator=rng)
    return prediction, Target(target, cls.flip(0).detach(), others=others), context


# --------------------------------------------------------------------------------------------------- target generators

_VQKD = {'num_tokens': 30, 'arch': {**_ARCH, 'num_layers': 1}, 'grid': GRID, 'untrained': True}
TOKENIZERS = {
    'k-means': {'type': 'mmmim.KMeansTokenizer', 'num_tokens': 20, 'patch_size': PATCH, 'untrained': True},
    'DALL-E': {'type': 'mmmim.DalleTokenizer', 'num_tokens': 24, 'hidden_dim': 8, 'untrained': True},
    'VQ-KD': {'type': 'mmmim.VQKDTokenizer', **_VQKD},
}
_LATENT = {'type': 'mmmim.LatentTarget', 'in_dim': DIM}
_FROZEN = {'type': 'mmmim.FrozenTarget', 'checkpoint': 'random', 'in_dim': DIM}
TARGETS = {
    'clusters': {'type': 'mmmim.OnlineClustering', 'in_dim': DIM, 'num_prototypes': PROTOTYPES, 'chunk_positions': 5},
    'assignments': {'type': 'mmmim.TeacherAssignments', 'head': 'head', 'num_prototypes': PROTOTYPES},
    'latents': {**_LATENT, 'normalize': 'layer'},
    'latents of what is predicted': {**_LATENT, 'sees': 'predicted', 'normalize': 'standard', 'depth': 1},
    'latents of several blocks': {
        **_LATENT,
        'layers': [0, -2],
        'state': 'mlp',
        'normalize_layers': 'instance',
        'normalize': 'layer',
        'global_target': 'mean',
    },
    'latents of the student': {**_LATENT, 'encoder': 'student', 'stop_gradient': False},
    'latents of an encoder of its own': {**_LATENT, 'encoder': ENCODERS['sincos, CLS'], 'stop_gradient': False},
    'latents of a frozen encoder': {**_FROZEN, 'encoder': ENCODERS['timm'], 'normalize': 'layer'},
    'latents of blocks of a frozen encoder': {
        **_FROZEN,
        'encoder': ENCODERS['rotary, registers'],
        'layers': (0, -1),
        'normalize': 'instance',
    },
    'projections': {'type': 'mmmim.ProjectedLatents', 'projector': 'neck', 'out_dim': 5},
    'pixels': {'type': 'mmmim.PixelTarget', 'patch_size': PATCH},
    'pixels of low frequencies': {'type': 'mmmim.PixelTarget', 'patch_size': PATCH, 'low_pass': 2},
    'gradients': {'type': 'mmmim.HOGTarget', 'patch_size': PATCH, 'cell': PATCH, 'window': 8},
    'tokens': {'type': 'mmmim.TokenizerTarget', 'tokenizer': TOKENIZERS['k-means'], 'patch_size': PATCH},
}


@cache
def student_and_teacher() -> tuple[nn.Module, nn.Module]:
    """An encoder with a head of prototypes and a projector, and their copy."""
    student = nn.Module()
    student.backbone = build(ENCODERS['sincos, CLS'])
    student.head = build({'type': 'mmmim.PrototypeHead', 'in_dim': DIM, 'num_prototypes': PROTOTYPES})
    student.neck = build(NECKS['projected'][0])
    return student, EMACopy(student, ('backbone', 'head', 'neck'))


def target_of(module: nn.Module, mask: PatchMask | None = None) -> Target:
    """What a target generator makes of a batch, with two masks per image and two blocks per mask by default."""
    student, teacher = student_and_teacher()
    images, mask = normalized(), mask or random_mask(IMAGES, blocks=2, per_image=2)
    return module(images, mask, teacher.view(images), student.backbone)


def _target(module: nn.Module) -> Outputs:
    target = target_of(module)
    others = {'cls': target.cls, 'others': target.others}
    found = {key: each for key, each in others.items() if each is not None}
    return {'patches': target.patches, **found, **target.losses}


# -------------------------------------------------------------------------------------------------------- what is left

PRETRAINED = dict(checkpoint='random', encoder=ENCODERS['projector'], out_indices=(0, 1))
PRETRAINED['type'] = 'mmmim.PretrainedBackbone'
_PREDICTED = {**PRETRAINED, 'encoder': ENCODERS['rotary, registers'], 'predictor': _neck('CrossAttentionPredictor')}
_STATISTICS = {'mean': [120.0, 110.0, 100.0], 'std': [60.0, 59.0, 58.0]}
_LIST_PREPROCESSOR = {'type': 'mmmim.ImageListPreprocessor', **_STATISTICS}


def _outputs(module: nn.Module) -> Outputs:
    return {f'{i}': each for i, each in enumerate(module(normalized()))}


def _extract(module: nn.Module) -> Outputs:
    features, _ = module.extract(list(pixels()))
    return {f'{i}': each for i, each in enumerate(features)}


_SWEEP = {'type': 'mmmim.ProbeSweep', 'num_classes': 3, 'rates': [0.1, 1.0], 'decays': [0.0, 0.1], 'head_dim': DIM // 2}


def _vectors() -> Tensor:
    return torch.randn(IMAGES, DIM, generator=torch.Generator().manual_seed(0))


def _probed() -> Outputs:
    return {'a': _vectors(), 'b': torch.stack([_vectors(), 2 * _vectors() + 1], dim=1)}


PARTS: dict[str, Case] = {
    **{f'encoder: {name}': Case(config, _encode(name)) for name, config in ENCODERS.items()},
    **{f'neck: {name}': Case(config, _predict(name)) for name, (config, _) in NECKS.items()},
    'neck of maps': Case({'type': 'mmmim.FeatureBatchNorm', 'num_features': DIM, 'num_levels': 2}, _maps),
    'neck of features': Case({'type': 'mmmim.FeatureLayerNorm', 'dim': DIM}, lambda m: {'0': m((_vectors(),))[0]}),
    'linear probes': Case(
        {'type': 'mmmim.LinearProbes', 'shapes': {'a': (DIM,), 'b': (DIM,)}, 'num_classes': 3},
        lambda m: {'logits': m({'a': _vectors(), 'b': _vectors()})},
    ),
    'probes': Case(_SWEEP | {'shapes': {'a': (DIM,), 'b': (2, DIM)}}, lambda m: {'logits': m(_probed())}),
    'probe classifier': Case(
        {
            'type': 'mmmim.ProbeClassifier',
            'backbone': PRETRAINED | {'frozen': True, 'out_indices': (1,)},
            'features': {'mean': 'pooled', 'patch': 'patches'},
            'head': _SWEEP,
            'data_preprocessor': _LIST_PREPROCESSOR,
        },
        lambda m: {'logits': m(normalized())},
    ),
    **{f'head: {name}': Case(config, lambda m, n=name: m.loss(*head_input(n))) for name, config in HEADS.items()},
    **{f'target: {name}': Case(config, _target) for name, config in TARGETS.items()},
    **{
        f'tokenizer: {name}': Case(config, lambda m: {'tokens': m(pixels() / 255, GRID)})
        for name, config in TOKENIZERS.items()
    },
    'preprocessor': Case(
        {'type': 'mmmim.MIMDataPreprocessor', **_STATISTICS}, lambda m: {'inputs': m({'inputs': pixels()})['inputs']}
    ),
    'preprocessor of lists': Case(_LIST_PREPROCESSOR, lambda m: {'inputs': m({'inputs': list(pixels())})['inputs']}),
    'pretrained': Case(PRETRAINED, _outputs),
    'pretrained, mean through a norm': Case({**PRETRAINED, 'out_type': 'avg_featmap', 'final_norm': False}, _outputs),
    'pretrained, predicted': Case({**_PREDICTED, 'out_type': 'predicted+pooled+registers@0'}, _outputs),
    'frozen features, predicted': Case(
        {
            'type': 'mmmim.FrozenFeatures',
            'backbone': {**_PREDICTED, 'out_indices': (0,)},
            'features': 'predicted',
            'data_preprocessor': _LIST_PREPROCESSOR,
        },
        _extract,
    ),
    'frozen patches': Case(
        {
            'type': 'mmmim.FrozenPatches',
            'backbone': {**PRETRAINED, 'out_indices': (0,)},
            'data_preprocessor': _LIST_PREPROCESSOR,
        },
        lambda m: _outputs(m.backbone),
    ),
    'frozen features': Case(
        {'type': 'mmmim.FrozenFeatures', 'backbone': PRETRAINED, 'data_preprocessor': _LIST_PREPROCESSOR}, _extract
    ),
}

# -------------------------------------------------------------------------------------------------------- whole models

#: Every config of a method for FashionScenes, made smaller still.
SHIPPED = {
    f'{path.parent.name}/{path.stem}': path
    for path in sorted(ROOT.glob('configs/*/*small.py'))
    if path.parent.name != 'eval'
}


def _variant(backbone: str, generator: dict, neck: dict, head: dict, **options: object) -> dict:
    """A CAPI of the toys with other parts."""
    branch = {'target_generator': generator, 'neck': neck, 'head': head}
    return capi_config(
        **{'backbone': ENCODERS[backbone], 'branches': {'b': branch}, 'teacher': ['backbone'], **options}
    )


_PROTOTYPES = {'type': 'mmmim.PrototypeHead', 'in_dim': DIM, 'num_prototypes': PROTOTYPES, 'mlp_dims': (12, 6)}
_CLUSTERS, _OWN = TARGETS['clusters'], TARGETS['latents of an encoder of its own']
#: Combinations of parts that no config for FashionScenes has.
VARIANTS = {
    'iBOT: assignments of the teacher': _variant(
        'rotary, registers',
        {**TARGETS['assignments'], 'head': 'branches.b.head'},
        _neck('CrossAttentionPredictor', embed_dim=DIM),
        _PROTOTYPES,
        teacher=['backbone', 'branches.b.head'],
    ),
    'clusters of an encoder that sees mask tokens': _variant(
        'mask tokens', _CLUSTERS, {'type': 'mmmim.PickPredicted', 'context_dim': DIM}, _PROTOTYPES
    ),
    'clusters behind proxies': _variant('rotary, proxies', _CLUSTERS, {**_PROXIES, 'positions': 'rope'}, _PROTOTYPES),
    'pixels behind proxies': _variant(
        'learned, proxies', TARGETS['pixels'], {**_PROXIES, 'out_dim': CHANNELS * PATCH**2}, _REGRESSION, teacher=None
    ),
    'latents of several blocks': _variant(
        'relative, mask tokens',
        {**_LATENT, 'layers': [1, 2], 'normalize_layers': 'layer', 'normalize': 'layer'},
        {'type': 'mmmim.PickPredicted', 'context_dim': DIM, 'out_dim': DIM},
        HEADS['smooth L1'],
        teacher=['backbone'],
    ),
    'latents of the student': _variant(
        'projector',
        TARGETS['latents of the student'],
        _neck('CrossAttentionDecoder', grid=GRID),
        {'type': 'mmmim.PatchDiscriminationHead'},
        teacher=None,
    ),
    'latents of an encoder of its own': _variant(
        'sincos, CLS', _OWN, _neck('SelfAttentionPredictor', grid=GRID, out_dim=DIM), _REGRESSION
    ),
    'latents out of order, CLS': _variant(
        'sincos, CLS',
        {**_LATENT, 'aligned': False},
        {**NECKS['self-attention, CLS'][0], 'out_dim': DIM},
        HEADS['several'],
        teacher_init='own',
    ),
}
METHODS = (*SHIPPED, *VARIANTS)


@cache
def _shipped(name: str) -> tuple[dict, dict]:
    """The model of a config, small, and the options of its collate function."""
    config = Config.fromfile(SHIPPED[name])
    shrink_model(config.model)
    collate = config.train_dataloader.collate_fn
    cap(collate)
    return config.model.to_dict(), {key: value for key, value in collate.to_dict().items() if key != 'type'}


def method_config(name: str, **options: object) -> dict:
    """The config of a whole model, with losses that do not depend on micro-batches."""
    model = {**(_shipped(name)[0] if name in SHIPPED else VARIANTS[name]), **options}
    for branch in model['branches'].values():
        for head in branch['head'].get('heads', {}).values():
            if head['type'] == 'mmmim.SimilarityConstraint':
                head['per_image'] = True
    return model


def method_batch(name: str, number: int = IMAGES, seed: int = 0) -> dict:
    """A batch as the loader of the method gives it."""
    if name in VARIANTS:
        blocks = {} if 'CLS' in name else {'blocks': 2}
        return {'inputs': pixels(number, seed=seed), 'mask': random_mask(number, seed=seed, per_image=2, **blocks)}
    collate = _shipped(name)[1]
    side = PATCHES_PER_SIDE * (collate['patch_size'] + collate.get('gap', 0))
    samples = [{'inputs': image, 'data_samples': None, 'mask_seed': seed} for image in pixels(number, side, seed)]
    return mask_collate(samples, **collate)


def losses_of(model: nn.Module, data: dict, seed: int = 0) -> Outputs:
    """The losses of a whole model, as in a step."""
    torch.manual_seed(seed)
    data = model.data_preprocessor(data, training=True)
    images, mask = data['inputs'], data['mask']
    targets = model.targets(images, mask)
    return model.loss(images, mask, targets) | model.own_losses(targets)


WHOLE: dict[str, Case] = {
    f'method: {name}': Case(method_config(name), lambda m, n=name: losses_of(m, method_batch(n))) for name in METHODS
}
CASES = {**PARTS, **WHOLE}
