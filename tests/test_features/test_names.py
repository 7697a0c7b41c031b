"""The vocabulary of features: every name, of every encoder and by every road, is what plain torch makes of it."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement, PixelData
from torch.testing import assert_close

from mmmim.features import PretrainedBackbone
from mmmim.features.cache import Data, FeatureCache
from mmmim.features.extraction import extract_features
from mmmim.features.names import FeatureName, check_pooling, layers_of
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.registered import ENCODERS, FOREIGN, NECKS, build, pixels, scrambled

STATISTICS = {'mean': [120.0, 110.0, 100.0], 'std': [60.0, 59.0, 58.0]}
NAMES = (
    'cls',
    'registers',
    'pooled',
    'predicted',
    'pooled_raw',
    'pooled_probe',
    'cls_probe',
    'max',
    'top3',
    'all',
    'patches',
    'tokens',
    'featmap',
    'cls+pooled',
    'pooled+max+pooled_raw',
    'pooled@0+pooled@-1',
    'registers@-2+pooled+predicted',
    'patches@0+patches',
    'featmap@1+featmap@-1',
)
PREDICTOR = NECKS['cross-attention, learned'][0]


def normalised(images):
    mean, std = (torch.tensor(STATISTICS[key]).view(3, 1, 1) for key in ('mean', 'std'))
    return (torch.stack(images).float() - mean) / std


def parts(encoder, predictor, images, block):
    """All features without '+' and '@', by plain torch; those that there are."""
    context = encoder(images, layers=range(encoder.depth))
    extra, cls = encoder.num_extra_tokens, encoder.num_cls_tokens
    raw, tokens = context.hidden[block], encoder.normed(context.hidden[block])
    patches = tokens[:, extra:]
    found = {
        'pooled': patches.mean(1),
        'pooled_raw': raw[:, extra:].mean(1),
        'pooled_probe': F.layer_norm(raw[:, extra:].mean(1), (raw.shape[2],), eps=1e-6),
        'max': patches.amax(1),
        'top3': patches.sort(1, descending=True).values[:, :3].mean(1),
        'all': patches.reshape(len(images), -1),
        'patches': patches,
        'tokens': tokens,
        'featmap': patches.mT.reshape(len(images), -1, *context.grid),
    }
    if cls:
        found['cls'] = tokens[:, :cls].mean(1)
        found['cls_probe'] = F.layer_norm(raw[:, :cls].mean(1), (raw.shape[2],), eps=1e-6)
    if extra > cls:
        found['registers'] = tokens[:, cls:extra].mean(1)
    if predictor is not None:
        found['predicted'] = predictor.global_feature(context)
    return found


def expected(encoder, predictor, images, name, block):
    """A feature of a block, put together by its name; None where there is none."""
    values = []
    for part in name.split('+'):
        bare, _, number = part.partition('@')
        values.append(parts(encoder, predictor, images, int(number) if number else block).get(bare))
    if any(value is None for value in values):
        return None
    return torch.cat(values, dim=1 if 'featmap' in name else -1)


def stub(images):
    """A data set for the cache, in batches of three."""
    maps = PixelData(data=torch.zeros(1, *images[0].shape[1:], dtype=torch.long))
    truth = BaseDataElement(gt_label=torch.zeros(1, dtype=torch.long), gt_sem_seg=maps)

    class Images(list):
        metainfo = {'classes': ['one']}  # noqa: RUF012

        def get_data_info(self, index):
            return {'gt_label': 0}

    data = Images({'inputs': image, 'data_samples': truth} for image in images)

    def loader(indices):
        batches = [list(indices)[i : i + 3] for i in range(0, len(indices), 3)]
        return [{'inputs': [images[i] for i in b], 'data_samples': [truth] * len(b)} for b in batches]

    return Data('stub', data, {}, loader)


def lacking(encoder, predictor):
    """Names of which an encoder does not have all parts."""
    absent = {
        'cls': not encoder.num_cls_tokens,
        'cls_probe': not encoder.num_cls_tokens,
        'registers': encoder.num_extra_tokens == encoder.num_cls_tokens,
        'predicted': predictor is None,
    }
    return {name for name in NAMES if any(absent.get(part.partition('@')[0]) for part in name.split('+'))}


@pytest.mark.parametrize('name', ENCODERS)
def test_every_name_by_every_road(name, tmp_path):
    """``Features.pool``, ``PretrainedBackbone``, ``FrozenFeatures`` and the cache of features."""
    config, own = ENCODERS[name], name not in FOREIGN
    encoder = scrambled(build(config)).requires_grad_(False)
    predictor = scrambled(build(PREDICTOR)).requires_grad_(False) if own else None
    images = list(pixels(side=16 if own else 32))
    inputs = normalised(images)
    features = extract_features(encoder, inputs, predictor, layers=(0, 1, 2))
    more = {'predictor': PREDICTOR} if own else {}

    def filled(backbone):
        backbone.backbone.load_state_dict(encoder.state_dict())
        if backbone.predictor is not None:
            backbone.predictor.load_state_dict(predictor.state_dict())
        return backbone.eval()

    absent = lacking(encoder, predictor)
    for feature in absent:
        assert features.pool(feature) is None
        with pytest.raises(InputError, match=r'has no feature|have none: choose another feature'):
            PretrainedBackbone('random', encoder=config, out_type=feature, **more)
    for feature in set(NAMES) - absent:
        read = FeatureName.of(feature)
        blocks = (1, 2) if read.of_a_block else (2,)
        wanted = [expected(encoder, predictor, inputs, feature, block) for block in blocks]
        options = {'checkpoint': 'random', 'encoder': config, 'out_indices': blocks, 'frozen': True, **more}
        backbone = filled(PretrainedBackbone(**options, out_type=feature))
        assert backbone.feature_dims[0] in (None, wanted[0].shape[1 if read.kind == 'featmap' else -1])
        for block, output, value in zip(blocks, backbone(inputs), wanted, strict=True):
            assert_close(features.pool(feature, block), value, msg=lambda m, feature=feature: f'{feature}: {m}')
            assert_close(output, value)
        if read.kind == 'featmap':
            continue
        frozen = {
            'type': 'mmmim.FrozenFeatures',
            'backbone': {'type': 'mmmim.PretrainedBackbone', **options},
            'features': feature,
            'data_preprocessor': {'type': 'mmmim.ImageListPreprocessor', **STATISTICS, 'bgr_to_rgb': False},
        }
        model = MODELS.build(frozen)
        filled(model.backbone)
        cached = FeatureCache(str(tmp_path), 'float32').read(model, frozen, stub(images), labels=False)
        for found, samples, value in zip(model.extract(images)[0], cached, wanted, strict=True):
            samples_of_image = value if value.ndim == 3 else value.unsqueeze(1)
            assert_close(found, samples_of_image)
            assert_close(torch.from_numpy(samples.features.copy()), samples_of_image)


def test_blocks_that_a_name_asks_for():
    encoder, images = build(ENCODERS['sincos, CLS']).eval(), normalised(list(pixels(side=16)))
    assert layers_of(['pooled']) == (-1,)
    assert layers_of(['cls@-2+cls@-1', 'pooled@0+cls@-2']) == (-2, 0, -1)
    features = extract_features(encoder, images, layers=(2, 0))
    assert_close(features.pool('cls@2'), features.pool('cls@-1'))
    assert_close(features.pool('cls@-3'), features.pool('cls'))  # of the last layer that was asked for
    assert_close(features[0].pool('cls'), features.pool('cls@2'))
    with pytest.raises(
        InputError, match=r"'cls@1\+cls' is of block 1, and there are features of 2, 0: .*layers=\(1, -1\)"
    ):
        features.pool('cls@1+cls')


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('mean', "no feature 'mean': use one of cls, registers"),
        ('topK', "no feature 'topK'"),
        ('top0', "no feature 'top0'"),
        ('cls_token', "no feature 'cls_token'"),
        ('cls+', r"no feature 'cls\+'"),
        ('cls@x', "no feature 'cls@x'"),
        ('', "no feature ''"),
        ('cls+patches', 'joins patches and vector'),
        ('patches+tokens', 'joins patches and tokens'),
        ('predicted@3', 'of no block'),
    ],
)
def test_what_is_no_name(name, message):
    with pytest.raises(InputError, match=message):
        FeatureName.of(name)


def test_a_pooling_is_of_the_whole_image():
    check_pooling('cls@-2+top10+all')
    with pytest.raises(InputError, match="'patches' is one vector for each token"):
        check_pooling('patches')


BACKBONE = {'type': 'mmmim.PretrainedBackbone', 'checkpoint': 'random', 'encoder': ENCODERS['sincos, CLS']}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'out_type': 'cls', 'stride': 8}, "stride is of maps, out_type='featmap', not of 'cls'"),
        (
            {'out_type': 'cls@0', 'out_indices': (0, 1)},
            r"'cls@0' is the same for every block, .* are \[0, 1\]: give one",
        ),
        ({'out_type': 'cls@3'}, 'There is no block 3 in an encoder of 3'),
        ({'out_type': 'registers'}, 'no feature registers, with 1 CLS tokens or proxies and 0 registers'),
        ({'out_type': 'predicted'}, "needs a predictor .* checkpoint='random' needs its config too, as predictor"),
        (
            {'out_type': 'predicted', 'predictor': {**PREDICTOR, 'context_dim': 8}},
            r'PretrainedBackbone\.predictor\.context_dim is 8 and PretrainedBackbone\.encoder\.embed_dim is 16',
        ),
        (
            {'out_type': 'predicted', 'predictor': NECKS['picked'][0]},
            r'PretrainedBackbone\.predictor is a PickPredicted, which is no PoolingNeck',
        ),
    ],
)
def test_what_a_backbone_does_not_give(options, message):
    with pytest.raises(InputError, match=message):
        MODELS.build({**BACKBONE, **options})


def test_what_probes_do_not_read(tmp_path):
    for options, message in (
        ({'features': 'featmap'}, "which are 'patches'"),
        ({'backbone': {**BACKBONE, 'out_type': 'cls'}}, r'is set by model\.features'),
    ):
        with pytest.raises(InputError, match=message):
            MODELS.build({'type': 'mmmim.FrozenFeatures', 'backbone': BACKBONE, **options})
    config = {'type': 'mmmim.FrozenFeatures', 'backbone': BACKBONE, 'features': 'tokens'}
    data = stub(list(pixels(side=16)))
    with pytest.raises(InputError, match=r"model\.features='tokens': all tokens of an image have one label"):
        FeatureCache(str(tmp_path)).read(MODELS.build(config), config, data, labels=True)


def test_the_cache_knows_the_predictor(tmp_path):
    """Other weights of it are other features."""
    backbone = {**BACKBONE, 'predictor': PREDICTOR, 'out_indices': (-1,)}
    preprocessor = {'type': 'mmmim.ImageListPreprocessor', **STATISTICS}
    config = {'type': 'mmmim.FrozenFeatures', 'backbone': backbone, 'features': 'predicted'}
    model = MODELS.build({**config, 'data_preprocessor': preprocessor}).eval()
    data, cache = stub(list(pixels(side=16))), FeatureCache(str(tmp_path), 'float32')
    (before,) = cache.read(model, config, data, labels=False)
    model.backbone.predictor.mask_token.data += 1
    (after,) = cache.read(model, config, data, labels=False)
    assert abs(before.features - after.features).max() > 1e-3
    assert len(list(tmp_path.iterdir())) == 2
