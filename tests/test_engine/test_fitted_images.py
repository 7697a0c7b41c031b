"""Fitted protocols of whole images, by their configs, against scikit-learn and the authors' records."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.dataset import BaseDataset
from mmpretrain.structures import DataSample
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from mmmim.engine import Runner
from mmmim.evaluation.probes.fitted import WeightedKNNProbe
from mmmim.features.cache import Samples
from mmmim.features.frozen import FrozenFeatures
from mmmim.parity import Fixture
from mmmim.parity.protocol import latentmim_1nn
from mmmim.registry import DATASETS, METRICS
from mmmim.utils import InputError
from tests.fitted import fitted_config, write_classes
from tests.paths import ROOT
from tests.runs import log_of
from tests.segmentation import tiny_encoder

CLASSES, TRAIN, TEST = 8, 48, 24


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Images in folders, which the configs read where nothing else is said."""
    monkeypatch.chdir(tmp_path)
    write_classes(tmp_path / 'photos')
    monkeypatch.setenv('MMMIM_DATA', 'folder')
    monkeypatch.setenv('MMMIM_FOLDER', 'photos')
    return tmp_path


def config_in(folder, name, **changes):
    cfg = fitted_config(name, folder, **{'test_cfg.cache.dtype': 'float32'})
    if not name.endswith('fashion'):
        cfg.model.backbone.encoder = tiny_encoder(32, 224, depth=2)
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    return cfg


def run(folder, name, **changes):
    runner = Runner.from_cfg(config_in(folder, name, **changes))
    return runner, runner.test()


def features(runner, *loaders):
    """Features and classes of the images of some loaders, one image at a time."""
    found = []
    for name in loaders:
        dataset = DATASETS.build(runner.cfg[f'{name}_dataloader'].dataset)
        samples = [dataset[i] for i in range(len(dataset))]
        x = torch.cat([runner.model.extract([sample['inputs']])[0][-1][:, 0] for sample in samples])
        found += [x.double().numpy(), np.array([int(sample['data_samples'].gt_label) for sample in samples])]
    return found


def scikit_knn(train, labels, test, k):
    """Normalised votes of DINO's classifier, by class."""
    model = KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d) / 0.07), metric='cosine', algorithm='brute')
    return model.fit(train, labels).predict_proba(test)


@pytest.mark.parametrize('feature', ['pooled', 'cls@0+pooled'])
def test_weighted_knn_is_that_of_scikit_learn(feature, photos):
    runner, metrics = run(photos, 'cls_knn_imagenet', model__features=feature, test_cfg__probe__k=[1, 5, 20])
    train, labels, test, true = features(runner, 'fit', 'test')
    assert (len(train), len(test)) == (TRAIN, TEST)
    assert len(metrics) == 6
    for k in (1, 5, 20):
        votes = scikit_knn(train, labels, test, k)
        assert metrics[f'k_{k}/accuracy/top1'] == pytest.approx(100 * accuracy_score(true, votes.argmax(1)))
        ranked = np.argsort(-votes, axis=1, kind='stable')[:, : min(k, 5)]
        assert metrics[f'k_{k}/accuracy/top5'] == pytest.approx(100 * (ranked == true[:, None]).any(1).mean())
    # One neighbour names one class.
    assert metrics['k_1/accuracy/top5'] == metrics['k_1/accuracy/top1'] < 80
    assert metrics['k_20/accuracy/top1'] < metrics['k_20/accuracy/top5']


def test_a_number_of_neighbours_can_be_chosen_on_held_out_images(photos):
    options = {'test_cfg__probe__k': [1, 5, 20], 'test_cfg__held_out': 0.4}
    runner, metrics = run(photos, 'cls_knn_imagenet', test_cfg__choose_by='aAcc', **options)
    (record,) = runner.test_loop.records
    train, labels = features(runner, 'fit')
    order = np.random.default_rng(0).permutation(TRAIN)
    scored, fitted = np.split(order, [round(0.4 * TRAIN)])
    for row in record['grid']:
        votes = scikit_knn(train[fitted], labels[fitted], train[scored], row['k'])
        assert row['aAcc'] == pytest.approx(
            100 * accuracy_score(labels[scored], np.unique(labels[fitted])[votes.argmax(1)])
        )
    every = run(photos, 'cls_knn_imagenet', **options)[1]
    assert metrics['accuracy/top1'] == every[f'k_{record["setting"]["k"]}/accuracy/top1']


def test_the_nearest_other_image_is_that_of_scikit_learn(photos):
    shutil.rmtree('photos/train')  # which is not looked at
    runner, metrics = run(photos, 'cls_nn_imagenet')
    test, true = features(runner, 'test')
    unit = test / np.linalg.norm(test, axis=1, keepdims=True)
    nearest = NearestNeighbors(n_neighbors=1).fit(unit).kneighbors(return_distance=False)[:, 0]  # of others
    assert metrics == {'leave_one_out/k_1/accuracy/top1': pytest.approx(100 * accuracy_score(true, true[nearest]))}
    assert 'each image by the others' in log_of(runner)
    # The feature is that before the final norm.
    pooled = run(photos, 'cls_nn_imagenet', model__features='pooled')[1]
    assert runner.cfg.model.features == 'pooled_raw'
    assert pooled.keys() == metrics.keys()


def test_the_nearest_training_image(photos):
    runner, metrics = run(photos, 'cls_nn_imagenet', test_cfg__probe__leave_one_out=False)
    train, labels, test, true = features(runner, 'fit', 'test')
    votes = scikit_knn(train, labels, test, 1)
    assert metrics == {'k_1/accuracy/top1': pytest.approx(100 * accuracy_score(true, votes.argmax(1)))}


def test_logistic_regression_is_that_of_scikit_learn(photos):
    runner, metrics = run(photos, 'cls_logreg_imagenet', test_cfg__probe__c=[0.01, 1.0])
    (record,) = runner.test_loop.records
    train, labels, test, true = features(runner, 'fit', 'test')
    scale = StandardScaler().fit(train)
    model = LogisticRegression(C=record['setting']['c'], tol=1e-9, max_iter=5000).fit(scale.transform(train), labels)
    assert metrics == {'accuracy/top1': pytest.approx(100 * model.score(scale.transform(test), true))}


def test_a_few_images_of_each_class(photos):
    few = {'fit_dataloader__dataset__shots': 3, 'fit_dataloader__dataset__seed': 2}
    runner, metrics = run(photos, 'cls_logreg_fewshot_imagenet', test_cfg__probe__c=[1.0], **few)
    train, labels, test, true = features(runner, 'fit', 'test')
    assert np.bincount(labels).tolist() == [3] * CLASSES
    scale = StandardScaler().fit(train)
    model = LogisticRegression(C=1.0, tol=1e-9, max_iter=5000).fit(scale.transform(train), labels)
    assert metrics == {'accuracy/top1': pytest.approx(100 * model.score(scale.transform(test), true))}


@DATASETS.register_module()
class RecordedImages(BaseDataset):
    """Normalised images of the recording, as they are."""

    def load_data_list(self):
        recording = Fixture.load(ROOT / 'tests/data/latentmim_1nn.npz')
        pairs = zip(recording.arrays['in.images'], recording.arrays['in.labels'], strict=True)
        return [{'img': image, 'gt_label': int(label)} for image, label in pairs]

    def prepare_data(self, idx):
        info = self.get_data_info(idx)
        return {'inputs': torch.from_numpy(info['img']), 'data_samples': DataSample().set_gt_label(info['gt_label'])}


def test_the_nearest_other_image_is_that_of_the_authors(tmp_path, monkeypatch):
    recording = Fixture.load(ROOT / 'tests/data/latentmim_1nn.npz')
    monkeypatch.setattr(latentmim_1nn, 'extract_features', lambda encoder, images: encoders.append(encoder) or 1 / 0)
    encoders = []
    with pytest.raises(ZeroDivisionError):
        latentmim_1nn.replay(recording.settings, recording.arrays)
    cfg = config_in(tmp_path, 'cls_nn_fashion')
    cfg.model.backbone.encoder.depth = recording.settings['settings']['depth']
    cfg.test_dataloader.dataset = {'type': 'RecordedImages', 'metainfo': {'classes': list('abcdef')}}
    cfg.model.data_preprocessor = {'type': 'mmmim.ImageListPreprocessor', 'mean': [0] * 3, 'std': [1] * 3}
    runner = Runner.from_cfg(cfg)
    runner.model.backbone.backbone = encoders[0]
    metrics = runner.test()
    assert metrics['leave_one_out/k_1/accuracy/top1'] == pytest.approx(float(recording.arrays['out.acc_percent']))


def test_weighted_knn_is_that_of_the_authors():
    recording = Fixture.load(ROOT / 'tests/data/dino_weighted_knn.npz')
    arrays, settings = recording.arrays, recording.settings['settings']

    def samples(part):
        labels = arrays[f'in.{part}_labels'].astype(np.uint8)[:, None]
        return Samples(
            arrays[f'in.{part}'][:, None], labels[..., None], labels, settings['classes'], settings['classes']
        )

    train, test = samples('train'), samples('test')
    probe = WeightedKNNProbe(settings['k'], settings['temperature'])
    probe.fit(train, np.arange(len(train.features)), probe.grid, torch.device('cpu'))
    found = zip(*probe.predict(test, np.arange(len(test.features))), strict=True)
    for k, rankings in zip(settings['k'], map(torch.cat, found), strict=True):
        assert rankings[:, 0].tolist() == arrays[f'out.pred.k{k}'].tolist()
        metric = METRICS.build({'type': 'mmmim.AcceptedAccuracy', 'topk': (1, 5)})
        for ranking, label in zip(rankings, arrays['in.test_labels'], strict=True):
            sample = DataSample(pred_ranking=ranking).set_gt_label(int(label))
            metric.process(None, [sample.to_dict()])
        assert metric.compute_metrics(metric.results) == pytest.approx(recording.settings['result_percent'][f'k{k}'])


def test_features_of_an_image_are_extracted_once_for_all_protocols(tmp_path, monkeypatch, fashion_scenes):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/fashion_scenes').symlink_to(fashion_scenes)
    encoded = []
    extract = FrozenFeatures.extract
    monkeypatch.setattr(
        FrozenFeatures, 'extract', lambda model, images: encoded.append(len(images)) or extract(model, images)
    )
    few = {
        'fit_dataloader.dataset.indices': list(range(0, 9000, 200)),
        'test_dataloader.dataset.indices': [0, 900, 1999],
    }
    for name, probe in (('knn', {'k': [3]}), ('nn', {}), ('logreg', {'c': [1.0]})):
        cfg = config_in(tmp_path, f'cls_{name}_fashion', model__features='pooled', randomness__seed=0)
        cfg.merge_from_dict(few)
        cfg.test_cfg.probe.update(probe)
        Runner.from_cfg(cfg).test()
        # Each time one image tells of the sizes.
        assert sum(encoded) - len([n for n in encoded if n == 1]) <= 45 + 3
    assert sum(n for n in encoded if n > 1) == 45 + 3


def worker(rank, folder):
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    os.chdir(folder)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    found = {name: run(Path(folder), name, launcher='pytorch', **options)[1] for name, options in IN_TWO.items()}
    torch.save(found, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


#: 24 test images in batches of 5: the last ones of the two processes differ.
IN_TWO = {
    'cls_knn_imagenet': {'test_cfg__probe__k': [1, 10], 'randomness__seed': 3, 'test_dataloader__batch_size': 5},
    'cls_nn_imagenet': {'randomness__seed': 3, 'test_dataloader__batch_size': 5},
}


@pytest.mark.slow
def test_two_processes_find_what_one_finds(photos):
    mp.spawn(worker, (str(photos),), nprocs=2)
    first, second = (torch.load(photos / f'{rank}.pth', weights_only=False) for rank in range(2))
    for name, options in IN_TWO.items():
        assert first[name] == second[name] == run(photos, name, **options)[1]


@pytest.mark.parametrize(
    ('name', 'changes', 'message'),
    [
        ('cls_knn_imagenet', {}, f'200 neighbours of {TRAIN} samples to fit on'),
        ('cls_nn_imagenet', {'test_cfg__probe__k': [TEST]}, f'{TEST} neighbours of {TEST - 1} other test images'),
        ('cls_nn_imagenet', {'test_cfg__probe__k': [1, 2], 'test_cfg__choose_by': 'aAcc'}, 'leave_one_out=True has no'),
        ('cls_nn_imagenet', {'model__features': 'patches'}, 'WeightedKNNProbe names classes of whole images'),
        ('cls_nn_imagenet', {'model__features': 'registers'}, 'registers'),
        ('cls_knn_imagenet', {'test_cfg__probe__temperature': 0}, 'temperature must be'),
        ('cls_logreg_imagenet', {'fit_dataloader__dataset__indices': 6}, r"all 6 images are of one class \('class0'\)"),
        (
            'cls_logreg_imagenet',
            {'test_evaluator': [{'type': 'mmmim.AcceptedAccuracy', 'topk': (1, 5)}]},
            'of the 5 most',
        ),
        ('cls_logreg_fewshot_imagenet', {}, r'shots=16, and no class of ImageFolder has more than 6 images'),
    ],
)
def test_refusals(name, changes, message, photos):
    with pytest.raises(InputError, match=message):
        run(photos, name, **changes)
    assert 'topk' in str(changes) or not (photos / 'cache').exists()  # before anything is done


@pytest.mark.parametrize(
    ('data', 'first'),
    [
        ('imagenet', 'mmpretrain.ResizeEdge'),
        ('imagenet100', 'mmpretrain.ResizeEdge'),
        ('cifar10', 'mmcv.Resize'),
        ('cifar100', 'mmcv.Resize'),
        ('clevr_count', 'mmcv.Resize'),
        ('clevr_distance', 'mmcv.Resize'),
        ('fashion', 'mmpretrain.PackInputs'),
    ],
)
def test_images_of_each_data_set_are_those_of_the_papers(data, first, tmp_path, monkeypatch):
    monkeypatch.setenv('MMMIM_DATA', data)
    cfg = fitted_config('cls_knn_imagenet', tmp_path)
    for loader in (cfg.fit_dataloader, cfg.test_dataloader):
        assert [transform.type for transform in loader.dataset.pipeline][1] == first
        assert not any('Random' in transform.type for transform in loader.dataset.pipeline)
    if data == 'fashion':
        other = fitted_config('cls_knn_fashion', tmp_path)
        assert [cfg[key].dataset for key in ('fit_dataloader', 'test_dataloader')] == [
            other[key].dataset for key in ('fit_dataloader', 'test_dataloader')
        ]
