"""Lists of ImageNet-1k, test sets for its heads, and their score."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample

from mmmim.datasets import ImageFolder, ObjectNet
from mmmim.datasets.classification.imagenet_tests import imagenet_classes
from mmmim.datasets.label_spaces import check_agreement, label_spaces
from mmmim.registry import METRICS
from mmmim.utils import InputError
from tests.test_datasets.image_level import build, config, labels
from tests.test_datasets.layouts import LAYOUTS, WNIDS, text


@pytest.fixture(autouse=True)
def at_root(tmp_path, monkeypatch):
    """The data lie where the configs look for them."""
    monkeypatch.chdir(tmp_path)


def test_a_list_keeps_the_numbers_of_all_classes():
    LAYOUTS['imagenet'].write(Path('data'))
    text(Path('one.txt'), f'{WNIDS[1]}_0.JPEG')
    part = ImageFolder('data/imagenet/train', with_label=True, list_file='one.txt')
    assert labels(part) == [1]
    assert part.metainfo['classes'] == WNIDS[:2]
    assert check_agreement([*label_spaces('train', part), *label_spaces('val', build('imagenet', 'val'))]) == []


def test_classes_of_imagenet():
    import timm

    info = Path(timm.__file__).parent / 'data/_info'
    assert list(imagenet_classes()) == (info / 'imagenet_synsets.txt').read_text().split()
    assert list(imagenet_classes()) == sorted(imagenet_classes())


def test_predictions_are_restricted_where_the_benchmark_does():
    restricted = {}
    for name in ('imagenet_a', 'imagenet_r', 'imagenet_sketch', 'imagenet_v2', 'objectnet'):
        LAYOUTS[name].write(Path(name) / 'data')
        root = Path(name) / config(name).val_set.data_root
        restricted[name] = build(name, 'val', data_root=str(root)).metainfo.get('evaluated_classes')
    assert restricted['imagenet_a'] == restricted['imagenet_r'] == LAYOUTS['imagenet_a'].val
    assert [restricted[name] for name in ('imagenet_sketch', 'imagenet_v2', 'objectnet')] == [None] * 3
    objects = ObjectNet('objectnet/data/objectnet-1.0', restricted=True)
    assert objects.metainfo['evaluated_classes'] == [409, 414, 530]


def test_test_sets_with_other_folders():
    LAYOUTS['imagenet_a'].write(Path('data'))
    shutil.move(f'data/imagenet-a/{WNIDS[3]}', 'data/imagenet-a/dogs')
    with pytest.raises(InputError, match=r"imagenet-a has 200 .* must have 200 .* and 'dogs' is none"):
        build('imagenet_a', 'val')
    shutil.rmtree('data/imagenet-a/dogs')
    with pytest.raises(InputError, match=r'has 199 class folders with images and must have 200'):
        build('imagenet_a', 'val')


def scored(samples, topk=(1,), **metainfo):
    evaluator = Evaluator([METRICS.build({'type': 'mmmim.AcceptedAccuracy', 'topk': topk})])
    evaluator.dataset_meta = metainfo
    evaluator.process(data_samples=samples, data_batch=None)
    return evaluator.evaluate(len(samples))


def sample(scores, *accepted):
    return DataSample().set_pred_score(torch.tensor(scores)).set_gt_label(list(accepted))


def test_accuracy_with_several_labels_and_some_classes():
    samples = [
        sample([0.1, 0.7, 0.2], 0, 1),  # the first of two labels
        sample([0.5, 0.3, 0.2], 2),  # wrong, and right among the classes 1 and 2 ... not
        sample([0.6, 0.1, 0.3], 2),  # right among 1 and 2
        sample([0.2, 0.7, 0.1], -1),  # without a label
    ]
    assert scored(samples) == {'accuracy/top1': pytest.approx(100 / 3)}
    assert scored(samples, evaluated_classes=[1, 2]) == {'accuracy/top1': pytest.approx(200 / 3)}
    single = samples[1:3]
    plain = Evaluator([METRICS.build({'type': 'mmpretrain.Accuracy'})])
    plain.process(data_samples=single, data_batch=None)
    assert scored(single) == plain.evaluate(2)
    votes = [DataSample().set_pred_label(2).set_gt_label([1, 2]), DataSample().set_pred_label(0).set_gt_label([1])]
    assert scored(votes) == {'accuracy/top1': 50}
    for options in ({'evaluated_classes': [1, 2]}, {'topk': (1, 2)}):
        with pytest.raises(InputError, match='needs scores of all classes'):
            scored(votes, **options)


def test_accuracy_of_several_classes_that_are_named():
    samples = [sample([0.1, 0.7, 0.2], 0), sample([0.5, 0.3, 0.2], 1), sample([0.2, 0.1, 0.7], 0, 2)]
    plain = Evaluator([METRICS.build({'type': 'mmpretrain.Accuracy', 'topk': (1, 2)})])
    plain.process(data_samples=samples[:2], data_batch=None)
    assert scored(samples[:2], (1, 2)) == plain.evaluate(2) == {'accuracy/top1': 0, 'accuracy/top2': 50}
    assert scored(samples, (1, 2), evaluated_classes=[0, 2]) == {
        'accuracy/top1': pytest.approx(100 / 3),
        'accuracy/top2': pytest.approx(200 / 3),
    }
    # Rankings name as many classes as they do.
    ranked = [DataSample(pred_ranking=torch.tensor(r)).set_gt_label(2) for r in ([1, 2], [1], [0, 1, 2], [0, 1, 3])]
    assert scored(ranked, (1, 2, 5)) == {'accuracy/top1': 0, 'accuracy/top2': 25, 'accuracy/top5': 50}
    assert scored(ranked, evaluated_classes=[0, 2, 3]) == {'accuracy/top1': 25}
