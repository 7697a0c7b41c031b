"""Heads on several features of one encoder: what they see, what they learn, how they are counted."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample

from mmmim.evaluation.probes.head_accuracy import HeadAccuracy, best_heads
from mmmim.features import PretrainedBackbone
from mmmim.registry import MODELS
from mmmim.utils import InputError

ENCODER = {'type': 'mmmim.ViT', 'img_size': 16, 'patch_size': 4, 'embed_dim': 64, 'depth': 4, 'num_heads': 2}
IMAGES, CLASSES = 6, 3
FEATURES = {'cls': 'cls', 'avg': 'pooled', 'both': 'cls+pooled', 'patch': 'patches'}
SWEEP = {'type': 'mmmim.ProbeSweep', 'num_classes': CLASSES, 'rates': [1e-2, 1e-1], 'decays': [0.0, 1e-3]}
LINEAR = {'type': 'mmmim.LinearProbes', 'num_classes': CLASSES}


def classifier(features=FEATURES, head=SWEEP, backbone=None, **options):
    config = {'type': 'mmmim.PretrainedBackbone', 'checkpoint': 'random', 'encoder': ENCODER, 'frozen': True}
    torch.manual_seed(0)
    config = {'type': 'mmmim.ProbeClassifier', 'backbone': {**config, **(backbone or {})}, 'features': features}
    return MODELS.build({**config, 'head': head, **options})


def images():
    return torch.randn(IMAGES, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def samples(labels=(0, 1, 2, 0, 1, 2)):
    return [DataSample().set_gt_label(label) for label in labels]


def test_heads_see_the_features_by_name():
    """Of one pass of the images, in parts or whole, they are those that a backbone gives for each name alone."""
    model = classifier(encoder_batch=4).eval()
    calls = []
    model.backbone.backbone.register_forward_hook(lambda *args: calls.append(len(args[1][0])))
    found = model.extract(images())
    assert calls == [4, 2]
    assert list(found) == list(FEATURES)
    whole = classifier(encoder_batch=None).eval().extract(images())
    for source, name in FEATURES.items():
        alone = PretrainedBackbone(checkpoint='random', encoder=ENCODER, out_type=name)
        alone.backbone.load_state_dict(model.backbone.backbone.state_dict())
        torch.testing.assert_close(found[source], alone.eval()(images())[0])
        torch.testing.assert_close(found[source], whole[source])
    assert model(images()).shape == (IMAGES, 4 * 4, CLASSES)


def test_several_blocks_are_sources_of_their_own():
    model = classifier({'block': 'cls+pooled', 'mean': 'pooled'}, LINEAR, {'out_indices': (0, -1)}).eval()
    assert model.head.sources == ['block@0', 'block@3', 'mean@0', 'mean@3']
    found = model.extract(images())
    torch.testing.assert_close(found['block@3'][:, 64:], found['mean@3'])
    assert found['block@0'].shape == (IMAGES, 128)
    assert not torch.allclose(found['mean@0'], found['mean@3'])


def test_the_encoder_gets_no_gradients_and_no_other_mode():
    """Unless it is asked for stochastic depth, which the released probes of SemanticMIM have."""
    for frozen in (True, False):
        model = classifier(head=SWEEP, backbone={'frozen': frozen, 'drop_path_rate': 0.9}).train()
        model(images(), samples(), mode='loss')['loss'].backward()
        assert {name for name, p in model.named_parameters() if p.grad is not None} == {
            name for name, _ in model.named_parameters() if name.startswith('head.')
        }
        one, other = (model.extract(images())['cls'] for _ in range(2))
        assert torch.equal(one, other) == frozen


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_losses_are_those_of_the_heads(reduction):
    model = classifier(reduction=reduction).train()
    losses = model(images(), samples(), mode='loss')
    logits, labels = model(images()), torch.tensor([0, 1, 2, 0, 1, 2])
    each = torch.stack([F.cross_entropy(logits[:, k], labels) for k in range(16)])
    torch.testing.assert_close(losses.pop('loss'), each.mean() if reduction == 'mean' else each.sum())
    expected = {f'cross_entropy/{source}': each[4 * i : 4 * i + 4].mean() for i, source in enumerate(FEATURES)}
    torch.testing.assert_close(losses, {key: value.detach() for key, value in expected.items()})
    assert list(classifier({'cls': 'cls'}, LINEAR).train()(images(), samples(), mode='loss')) == ['loss']


def test_heads_are_exact_whatever_the_precision_of_the_encoder():
    model = classifier(head=SWEEP).eval()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        features, logits = model.extract(images()), model(images())
    assert not torch.equal(features['patch'], model.extract(images())['patch'])
    assert logits.dtype == torch.float32
    exact = model.head({source: value.float() for source, value in features.items()})
    torch.testing.assert_close(logits, exact)


def counted(model, labels, meta=None, choice=None):
    """Scores of a metric, two batches of predictions."""
    metric = HeadAccuracy()
    metric.dataset_meta, metric.choice = meta, choice
    for part in (slice(0, 4), slice(4, 6)):
        predicted = model(images()[part], samples(labels)[part], mode='predict')
        metric.process({}, [sample.to_dict() for sample in predicted])
    return metric.evaluate(IMAGES), metric


def test_accuracies_are_of_all_images_and_of_the_best_heads():
    model, labels = classifier().eval(), torch.tensor([0, 1, 2, 0, 1, 2])
    right = (model(images()).argmax(dim=-1) == labels[:, None]).double().mean(dim=0) * 100
    scores, metric = counted(model, labels.tolist())
    best = {source: right[4 * i : 4 * i + 4].max().item() for i, source in enumerate(FEATURES)}
    assert scores == pytest.approx(
        {'accuracy/top1': max(best.values()), **{f'accuracy/{source}': value for source, value in best.items()}}
    )
    assert [row['top1'] for row in metric.table] == pytest.approx(right.tolist())
    assert metric.table[5] == {
        'source': 'avg',
        'lr': 1e-2,
        'weight_decay': 1e-3,
        'top1': pytest.approx(float(right[5])),
    }
    chosen = {'patch': 15, 'cls': 2, 'avg': 4, 'both': 8}
    scores, _ = counted(model, labels.tolist(), choice=chosen)
    assert scores['accuracy/top1'] == pytest.approx(float(right[15]))
    assert scores['accuracy/avg'] == pytest.approx(float(right[4]))


def test_several_labels_no_label_and_some_classes():
    model = classifier({'cls': 'cls'}, LINEAR).eval()
    best = model(images())[:, 0].argmax(dim=-1).tolist()
    labels = [[best[0], 2], [-1, -1], *([label, -1] for label in best[2:])]
    assert counted(model, labels)[0] == {'accuracy/top1': 100.0}
    wrong = [[(label + 1) % 3] for label in best]
    assert counted(model, wrong)[0] == {'accuracy/top1': 0.0}
    only = model(images())[:, 0, [2, 0]].argmax(dim=-1)
    labels = [[(2, 0)[i]] for i in only]
    assert counted(model, labels, {'evaluated_classes': [2, 0]})[0] == {'accuracy/top1': 100.0}


def test_a_single_head_predicts_as_classifiers_do():
    model = classifier({'cls': 'cls'}, LINEAR).eval()
    first = model(images(), samples(), mode='predict')[0]
    torch.testing.assert_close(first.pred_score, model(images())[0, 0].softmax(dim=0))
    assert int(first.pred_label) == int(first.pred_score.argmax())
    with pytest.raises(InputError, match=r'HeadAccuracy counts predictions of the heads of an mmmim\.ProbeClassifier'):
        HeadAccuracy().process({}, [{'pred_score': first.pred_score}])


def test_best_heads():
    rows = [('a', 1.0), ('a', 3.0), ('b', 5.0), ('a', 3.0), ('b', 4.0)]
    assert list(best_heads([{'source': s, 'top1': v} for s, v in rows]).items()) == [('b', 2), ('a', 1)]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'features': {'cls': None}}, 'names no feature'),
        ({'features': {'a': 'featmap'}}, r"features\.a='featmap': heads read the cells of maps as 'patches'"),
        ({'features': {'a': 'all'}}, r"features\.a='all': its width depends on the size of images"),
        ({'features': {'a': 'registers'}}, 'has no feature registers'),
        ({'features': {'a': 'predicted'}}, 'needs a predictor'),
        ({'features': {'a': 'none'}}, "There is no feature 'none'"),
        ({'features': {'a': 'cls@1'}, 'backbone': {'out_indices': (0, 1)}}, "'cls@1' is the same for every block"),
        ({'backbone': {'out_type': 'cls'}}, r'backbone\.out_type: the features that heads read are set by'),
        ({'features': {'a': 'patches'}, 'head': LINEAR}, "'a' has one for every token: .*ProbeSweep"),
        ({'head': {**SWEEP, 'head_dim': 48}}, r'heads of 48 channels, which do not divide 64: set another model\.head'),
        ({'head': {**SWEEP, 'rates': []}}, r'ProbeSweep\.rates must be'),
        ({'reduction': 'max'}, r"reduction must be 'mean' or 'sum'"),
    ],
)
def test_what_does_not_fit(options, message):
    with pytest.raises(InputError, match=message):
        classifier(**options)


def test_images_without_one_label_are_refused():
    model = classifier()
    for labels in ([[0, 1]] + [0] * 5, None):
        given = samples(labels) if labels else [DataSample() for _ in range(IMAGES)]
        with pytest.raises(InputError, match='no label, or several'):
            model(images(), given, mode='loss')
