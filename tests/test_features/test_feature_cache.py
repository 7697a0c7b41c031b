import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from mmmim.features import stored_arrays
from mmmim.features.cache import Data, FeatureCache, label_vectors
from mmmim.features.stored_arrays import ArraySpec, StoredArrays
from mmmim.registry import DATASETS, MODELS
from mmmim.utils import InputError
from tests.fitted import PATCH, SIDE, TRAIN, fitted_config, write_ade20k


def entry(folder, key=1, rows=6):
    return StoredArrays(
        folder, 'toy', {'key': key}, {'a': ArraySpec((rows, 2), 'float16'), 'b': ArraySpec((rows,), 'uint8')}
    )


def fill(stored, rows=6):
    with stored.write() as writer:
        for start in (4, 0, 2):
            writer.write('a', start, np.arange(2 * start, 2 * start + 4).reshape(2, 2))
        writer.write('b', 0, np.arange(rows))


def test_arrays_come_back(tmp_path):
    stored = entry(tmp_path / 'cache')
    assert not stored.exists()
    fill(stored)
    arrays = stored.read()
    assert arrays['a'].tolist() == np.arange(12).reshape(6, 2).tolist()
    assert isinstance(arrays['a'], np.memmap)
    assert arrays['a'].dtype == np.float16
    assert arrays['b'].tolist() == list(range(6))
    assert entry(tmp_path / 'cache', key=2).damage()  # made from something else: another folder
    assert not entry(tmp_path / 'cache', key=2).exists()


def test_what_is_interrupted_leaves_nothing(tmp_path):
    stored = entry(tmp_path)

    def interrupted():
        with stored.write() as writer:
            writer.write('b', 0, np.zeros(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    # A process that is killed cannot clean up: what it left is not taken for an entry and is written over.
    shutil.copytree(fill_copy(tmp_path / 'other'), stored.partial)
    assert not stored.exists()
    fill(stored)
    assert [path.name for path in tmp_path.iterdir() if path.name != 'other'] == [stored.folder.name]


def fill_copy(folder):
    stored = entry(folder)
    fill(stored)
    (stored.folder / 'meta.json').unlink()
    return stored.folder


@pytest.mark.parametrize('harm', ['cut', 'meta', 'type', 'missing'])
def test_damaged_entries_are_refused_and_made_anew(harm, tmp_path):
    stored = entry(tmp_path)
    fill(stored)
    file = stored.folder / 'a.npy'
    if harm == 'cut':
        file.write_bytes(file.read_bytes()[:-3])
    elif harm == 'meta':
        (stored.folder / 'meta.json').write_text('{')
    elif harm == 'type':
        np.save(file, np.zeros((6, 2), np.float32))
    else:
        file.unlink()
    with pytest.raises(InputError, match=r'is damaged .* delete the folder'):
        stored.read()
    fill(stored)
    assert stored.read()['a'][5].tolist() == [10, 11]


def test_a_full_disk(tmp_path, monkeypatch):
    stored = entry(tmp_path, rows=2**22)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(2**30, 2**30, 2**20))
    with pytest.raises(InputError, match=r'needs 20.0 MiB and the disk has 1.0 MiB: .*test_cfg\.cache\.folder'):
        fill(stored)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()

    def full(file):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(InputError, match=r'could not be written .No space left on device.; it needs'):
        fill(entry(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_waits_and_keeps_what_the_first_wrote(tmp_path, monkeypatch):
    stored, waits = entry(tmp_path), threading.Event()
    monkeypatch.setattr(stored_arrays, 'print_log', lambda message, *_: 'waiting' in message and waits.set())
    second = threading.Thread(target=fill, args=(entry(tmp_path),))
    with stored.write() as writer:
        second.start()
        assert waits.wait(60)
        writer.write('a', 0, np.zeros((6, 2)))
        writer.write('b', 0, np.full(6, 7))
    second.join(60)
    assert not second.is_alive()
    assert stored.read()['b'].tolist() == [7] * 6
    assert [path.name for path in tmp_path.iterdir()] == [stored.folder.name]


def test_a_second_run_writes_what_the_first_could_not(tmp_path, monkeypatch):
    stored, waits = entry(tmp_path), threading.Event()
    monkeypatch.setattr(stored_arrays, 'print_log', lambda message, *_: 'waiting' in message and waits.set())
    second = threading.Thread(target=fill, args=(entry(tmp_path),))

    def fails():
        with stored.write():
            second.start()
            assert waits.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    second.join(60)
    assert stored.damage() is None


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """A model, its config and the training images of a tiny ADE20K."""
    monkeypatch.chdir(tmp_path)
    write_ade20k(tmp_path)
    cfg = fitted_config('seg_knn_ade20k', tmp_path)
    torch.manual_seed(0)
    cfg.model.backbone.out_indices = (0, 2)
    model = MODELS.build(cfg.model).eval()
    return model, cfg


def data_of(cfg):
    dataset = DATASETS.build(cfg.fit_dataloader.dataset)
    loads = []

    def loader(indices):
        loads.append(list(indices))
        return Runner.build_dataloader({**cfg.fit_dataloader, 'dataset': dataset, 'sampler': indices})

    return Data('fit_dataloader', dataset, cfg.fit_dataloader.dataset.to_dict(), loader), loads


def read(setup, labels=True, **options):
    model, cfg = setup
    data, loads = data_of(cfg)
    samples = FeatureCache(cfg.test_cfg.cache.folder, **options).read(model, cfg.model.to_dict(), data, labels)
    return samples, len(loads)


def test_features_and_labels_are_those_of_the_images(setup):
    model, cfg = setup
    (first, last), loads = read(setup)
    assert loads == 1  # both layers in one pass
    dataset = data_of(cfg)[0].dataset
    for i in (0, 7):
        sample = dataset[i]
        expected, grid = model.extract([sample['inputs']])
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


def test_nothing_is_extracted_twice(setup):
    model, cfg = setup
    once = read(setup)[0]
    again, loads = read(setup)
    assert loads == 0
    assert (once[1].features == again[1].features).all()
    # A layer that is there is kept, a new one is extracted alone.
    cfg.model.backbone.out_indices = (2, 1)
    model.backbone.out_indices = (2, 1)
    before = {path.name for path in setup_folder(cfg).iterdir()}
    assert read(setup)[1] == 1
    assert len({path.name for path in setup_folder(cfg).iterdir()} - before) == 1
    assert read(setup, dtype='float32')[0][0].features.dtype == np.float32
    assert read(setup)[1] == 0  # both types lie side by side


def setup_folder(cfg):
    return Path(cfg.test_cfg.cache.folder)


@pytest.mark.parametrize('change', ['weights', 'settings', 'image', 'pipeline', 'mean', 'norm'])
def test_what_features_depend_on_makes_new_ones(change, setup):
    model, cfg = setup
    read(setup)
    if change == 'weights':
        model.backbone.backbone.blocks[0].mlp.fc1.bias.data[0] += 1e-3
    elif change == 'settings':
        model.backbone.backbone.blocks[0].attn.num_heads = 4
    elif change == 'image':
        path = data_of(cfg)[0].dataset.get_data_info(4)['img_path']
        os.utime(path, (1, 1))
    elif change == 'pipeline':
        cfg.fit_dataloader.dataset.pipeline[2].interpolation = 'bilinear'
    elif change == 'mean':
        cfg.model.data_preprocessor.mean = [0.0, 0.0, 0.0]
    else:
        cfg.model.backbone.final_norm = False
    assert read(setup)[1] == 1


def test_a_cut_file_is_made_anew(setup):
    cfg = setup[1]
    expected = read(setup)[0][1].features.copy()
    for file in setup_folder(cfg).glob('features-*/features.npy'):
        file.write_bytes(file.read_bytes()[:-10])
    samples, loads = read(setup)
    assert loads == 1
    assert (samples[1].features == expected).all()


def test_features_that_do_not_fit_are_refused(setup):
    model, cfg = setup
    model.backbone.backbone.norm.weight.data *= 1e6
    with pytest.raises(InputError, match=r"block 0 reach .* set test_cfg\.cache\.dtype to 'float32'"):
        read(setup)
    assert not list(setup_folder(cfg).iterdir())
    assert np.abs(read(setup, dtype='float32')[0][1].features).max() > 65504
    model.backbone.backbone.norm.weight.data[0] = torch.nan
    with pytest.raises(InputError, match='block 0 are not finite'):
        read(setup, dtype='float32')
    with pytest.raises(InputError, match="dtype='int8'"):
        FeatureCache(dtype='int8')


def test_labels_that_are_no_classes_are_refused(setup):
    data = data_of(setup[1])[0]
    sample = data.dataset[0]['data_samples']
    for wrong in (150, 151, -1):
        sample.gt_sem_seg.data[0, 0, 0] = wrong
        with pytest.raises(InputError, match=rf'label {wrong} in \S*0\.png is none of the 150 classes'):
            label_vectors([sample], (4, 4), data)
    with pytest.raises(InputError, match=rf'images of {SIDE} x {SIDE} pixels cannot be cut into 5 x 5'):
        label_vectors([sample], (5, 5), data)


def test_images_of_different_sizes_are_refused(setup):
    cfg = setup[1]
    cfg.fit_dataloader.drop_last = True
    with pytest.raises(InputError, match=r'leaves out \d+ images: set drop_last=False'):
        read(setup)
    cfg.fit_dataloader.drop_last = False
    pipeline = cfg.fit_dataloader.dataset.pipeline
    pipeline[1:3] = pipeline[2:0:-1]
    with pytest.raises(InputError, match=r'a label map of .* beside an image of .* load the annotations before'):
        read(setup)
    resize = pipeline.pop(1)
    with pytest.raises(InputError, match='images of one size'):
        read(setup)
    pipeline[1] = resize
    with pytest.raises(InputError, match=r"does not give a label map \(gt_sem_seg\), which model\.features='patches'"):
        read(setup)
    assert not list(setup_folder(cfg).iterdir())


def test_an_image_that_cannot_be_read_is_what_the_data_set_makes_of_it(setup):
    cfg = setup[1]
    path = data_of(cfg)[0].dataset.get_data_info(TRAIN - 1)['img_path']
    with open(path, 'w') as file:
        file.write('no image')
    with pytest.raises(InputError, match=os.path.basename(path)):
        read(setup)
    assert not list(setup_folder(cfg).iterdir())
