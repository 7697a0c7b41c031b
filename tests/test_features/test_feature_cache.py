import os
import shutil
import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from mmmim.features import stored_arrays
from mmmim.features.cache import Data, FeatureCache
from mmmim.features.stored_arrays import ArraySpec, StoredArrays
from mmmim.features.truths import label_vectors
from mmmim.registry import DATASETS, MODELS
from mmmim.utils import InputError
from tests.fitted import PATCH, SIDE, TRAIN, fitted_config, write_ade20k


def entry(folder, key=1, rows=6):
    specs = {'a': ArraySpec((rows, 2), 'float16'), 'b': ArraySpec((rows,), 'uint8')}
    return StoredArrays(folder, 'toy', {'key': key}, specs)


def fill(stored):
    with stored.write() as writer:
        for start in (4, 0, 2):
            writer.write('a', start, np.arange(2 * start, 2 * start + 4).reshape(2, 2))
        writer.write('b', 0, np.arange(6))


def test_arrays_come_back(tmp_path):
    stored = entry(tmp_path)
    fill(stored)
    arrays = stored.read()
    assert arrays['a'].tolist() == np.arange(12).reshape(6, 2).tolist()
    assert isinstance(arrays['a'], np.memmap)
    assert arrays['b'].tolist() == list(range(6))
    assert not entry(tmp_path, key=2).exists()  # made from something else: another folder


def test_what_is_interrupted_leaves_nothing(tmp_path):
    stored = entry(tmp_path)
    with pytest.raises(KeyboardInterrupt), stored.write():
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    # A process that is killed cannot clean up: what it left is not taken for an entry and is written over.
    fill(stored)
    (stored.folder / 'meta.json').unlink()
    stored.folder.rename(stored.partial)
    assert not stored.exists()
    fill(stored)
    assert [path.name for path in tmp_path.iterdir()] == [stored.folder.name]


def test_damaged_entries_are_refused_and_made_anew(tmp_path):
    stored = entry(tmp_path)
    file, meta = stored.folder / 'a.npy', stored.folder / 'meta.json'
    for harm in (
        lambda: file.write_bytes(file.read_bytes()[:-3]),
        lambda: meta.write_text('{'),
        lambda: np.save(file, np.zeros((6, 2), np.float32)),
        lambda: file.unlink(),
    ):
        fill(stored)
        harm()
        with pytest.raises(InputError, match=r'is damaged .* delete the folder'):
            stored.read()
    fill(stored)
    assert stored.read()['a'][5].tolist() == [10, 11]


def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'fsync', Mock(side_effect=OSError(28, 'No space left on device')))
    with pytest.raises(InputError, match=r'could not be written .No space left on device.; it needs'):
        fill(entry(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('fails', [False, True])
def test_a_second_run_waits_for_the_first(tmp_path, monkeypatch, fails):
    """It keeps what that one wrote, or writes what that one could not."""
    stored, waits = entry(tmp_path), threading.Event()
    monkeypatch.setattr(stored_arrays, 'print_log', lambda message, *_: 'waiting' in message and waits.set())
    second = threading.Thread(target=fill, args=(entry(tmp_path),))

    with pytest.raises(KeyboardInterrupt) if fails else nullcontext(), stored.write() as writer:
        second.start()
        assert waits.wait(60)
        if fails:
            raise KeyboardInterrupt
        writer.write('a', 0, np.zeros((6, 2)))
        writer.write('b', 0, np.full(6, 7))
    second.join(60)
    assert not second.is_alive()
    assert stored.read()['b'].tolist() == (list(range(6)) if fails else [7] * 6)
    assert [path.name for path in tmp_path.iterdir()] == [stored.folder.name]


class Setup:
    """A model, its config and the training images of a tiny ADE20K."""

    def __init__(self, folder):
        write_ade20k(folder)
        self.cfg = fitted_config('seg_knn_ade20k', folder)
        torch.manual_seed(0)
        self.cfg.model.backbone.out_indices = (0, 2)
        self.model = MODELS.build(self.cfg.model).eval()

    @property
    def data(self):
        self.dataset, self.loads = DATASETS.build(self.cfg.fit_dataloader.dataset), 0

        def loader(indices):
            self.loads += 1
            return Runner.build_dataloader({**self.cfg.fit_dataloader, 'dataset': self.dataset, 'sampler': indices})

        return Data('fit_dataloader', self.dataset, self.cfg.fit_dataloader.dataset.to_dict(), loader)

    @property
    def entries(self):
        return {path.name for path in Path(self.cfg.test_cfg.cache.folder).iterdir()}

    def read(self, **options):
        cache = FeatureCache(self.cfg.test_cfg.cache.folder, **options)
        return cache.read(self.model, self.cfg.model.to_dict(), self.data, True)


@pytest.fixture
def setup(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Setup(tmp_path)


def test_features_and_labels_are_those_of_the_images(setup):
    first, last = setup.read()
    assert setup.loads == 1  # both layers in one pass
    for i in (0, 7):
        sample = setup.dataset[i]
        expected, grid = setup.model.extract([sample['inputs']])
        assert grid == (4, 4)
        for samples, features in zip((first, last), expected, strict=True):
            assert samples.features[i].dtype == np.float16
            np.testing.assert_allclose(samples.features[i], features[0], rtol=2e-3, atol=2e-3)
        labels = sample['data_samples'].gt_sem_seg.data[0].numpy()
        labels = np.where(labels == 255, 0, labels + 1)  # as in the files, where 0 is ignored and class 0 is 1
        row, column = 2, 1  # the patch below the second row, in the second column
        patch = labels[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
        assert last.labels[i, row * 4 + column].tolist() == patch.flatten().tolist()
        assert last.majority[i, row * 4 + column] == np.bincount(patch.flatten()).argmax()
    assert first.labels is last.labels
    assert (first.ignored, first.first) == (0, 1)
    assert (first.majority == 0).any()
    kept = first.labelled_rows(np.array([3, 7]))
    assert set(kept) < set(first.rows(np.array([3, 7])))
    assert (first.flat('majority')[kept] > 0).all()


def test_there_must_be_room_for_all_layers_and_labels(setup, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=1))
    with pytest.raises(InputError, match=r'needs \S+ MiB and the disk has 0\.0 MiB: .*test_cfg\.cache\.folder'):
        setup.read()
    asked = Mock(return_value=SimpleNamespace(free=2**20))
    monkeypatch.setattr(shutil, 'disk_usage', asked)
    setup.read()
    assert asked.call_count == 1


def test_nothing_is_extracted_twice(setup):
    once = setup.read()[1].features.copy()
    assert (setup.read()[1].features == once).all()
    assert setup.loads == 0
    # A layer that is there is kept, a new one is extracted alone; both types lie side by side.
    setup.cfg.model.backbone.out_indices = setup.model.backbone.out_indices = (2, 1)
    before = setup.entries
    setup.read()
    assert (setup.loads, len(setup.entries - before)) == (1, 1)
    assert setup.read(dtype='float32')[0].features.dtype == np.float32
    setup.read()
    assert setup.loads == 0
    for file in Path(setup.cfg.test_cfg.cache.folder).glob('features-*/features.npy'):
        file.write_bytes(file.read_bytes()[:-10])
    assert (setup.read()[0].features == once).all()  # a cut file is made anew
    assert setup.loads == 1


def test_what_features_depend_on_makes_new_ones(setup):
    backbone, cfg = setup.model.backbone, setup.cfg
    setup.read()
    changes = [
        lambda: backbone.backbone.blocks[0].mlp.fc1.bias.data[0].add_(1e-3),
        lambda: setattr(backbone.backbone.blocks[0].attn, 'num_heads', 4),
        lambda: os.utime(setup.dataset.get_data_info(4)['img_path'], (1, 1)),
        lambda: cfg.fit_dataloader.dataset.pipeline[2].update(interpolation='bilinear'),
        lambda: cfg.model.backbone.update(final_norm=False),
    ]
    for i, change in enumerate(changes):
        change()
        setup.read()
        assert setup.loads == 1, i


def test_features_that_do_not_fit_are_refused(setup):
    weight = setup.model.backbone.backbone.norm.weight.data
    weight *= 1e6
    with pytest.raises(InputError, match=r"block 0 reach .* set test_cfg\.cache\.dtype to 'float32'"):
        setup.read()
    assert not setup.entries
    assert np.abs(setup.read(dtype='float32')[1].features).max() > 65504
    weight[0] = torch.nan
    with pytest.raises(InputError, match='block 0 are not finite'):
        setup.read(dtype='float32')
    with pytest.raises(InputError, match="dtype='int8'"):
        FeatureCache(dtype='int8')


def test_labels_that_are_no_classes_are_refused(setup):
    data = setup.data
    sample = data.dataset[0]['data_samples']
    with pytest.raises(InputError, match=rf'images of {SIDE} x {SIDE} pixels cannot be cut into 5 x 5'):
        label_vectors([sample], (5, 5), data)
    for wrong in (150, -1):
        sample.gt_sem_seg.data[0, 0, 0] = wrong
        with pytest.raises(InputError, match=rf'label {wrong} in \S*0\.png is none of the 150 classes'):
            label_vectors([sample], (4, 4), data)


def test_images_that_cannot_be_used_are_refused(setup):
    loader, pipeline = setup.cfg.fit_dataloader, setup.cfg.fit_dataloader.dataset.pipeline
    load, labels, resize, pack = pipeline

    def refused(message, *transforms):
        pipeline[:] = transforms
        with pytest.raises(InputError, match=message):
            setup.read()
        assert not setup.entries

    loader.drop_last = True
    refused(r'leaves out \d+ images: set drop_last=False', load, labels, resize, pack)
    loader.drop_last = False
    refused('a label map of .* beside an image of .* load the annotations before', load, resize, labels, pack)
    refused('images of one size', load, labels, pack)
    refused(r"does not give a label map \(gt_sem_seg\), which model\.features='patches'", load, resize, pack)
    path = Path(setup.dataset.get_data_info(TRAIN - 1)['img_path'])
    path.write_text('no image')
    refused(path.name, load, labels, resize, pack)
