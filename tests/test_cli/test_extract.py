"""`mmmim extract`: formats, features and encoders against a plain loop; interruptions, several processes, errors."""

import errno
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import mmmim
from mmmim.cli import extract
from mmmim.features import extract_files, feature_files
from tests.processes import run_group, start, wait
from tests.toys import DIM, capi_config, save_model

#: In the order of folders and names.
NAMES = [*(f'{i}.png' for i in range(4)), *(os.path.join('b', f'{i}.png') for i in range(3))]


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """Images of many sizes in nested folders, a broken one among them; a CAPI and a ViT of timm."""
    folder, rng = tmp_path_factory.mktemp('prepared'), np.random.default_rng(0)
    (folder / 'images/b').mkdir(parents=True)
    for i, name in enumerate(NAMES):
        pixels = rng.integers(0, 256, (20 + i, 31 - i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / 'images' / name)
    (folder / 'images/notes.md').write_text('no image')
    save_model(folder / 'a.pth', capi_config())
    torch.manual_seed(0)
    save_file(timm.create_model('test_vit', num_classes=0).state_dict(), folder / 'vit.safetensors')
    return folder


@pytest.fixture
def folder(prepared, tmp_path, monkeypatch):
    """The current folder, a copy of what is prepared."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words, code=0, images='images', checkpoint='a.pth'):
    words = [checkpoint, images, *map(str, words), '--workers', '0', '--device', 'cpu']
    if not code:
        return extract.main(words)
    with pytest.raises(SystemExit) as end:
        extract.main(words)
    assert end.value.code == code
    return None


def reread(path):
    """Features, paths and facts of a file, read as its users would."""
    if path.suffix == '.npz':
        with np.load(path) as file:
            return file['features'], file['paths'].tolist(), json.loads(file['facts'].item())
    if path.suffix == '.npy':
        facts = json.loads(path.with_suffix('.json').read_text())
        return np.load(path, mmap_mode='r'), facts.pop('paths'), facts
    if path.suffix == '.h5':
        with h5py.File(path) as file:
            return file['features'][()], list(file['paths'].asstr()), json.loads(file['facts'][()])
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[b'mmmim'])
    return np.array(table['features'].to_pylist()), table['paths'].to_pylist(), facts


def loop(names=NAMES, feature='pooled', layers=(-1,), size=None, checkpoint='a.pth'):
    """Features of images one by one."""
    torch.manual_seed(0)
    extractor = mmmim.get_model(checkpoint)
    found = [extractor(str(Path('images', name)), layers=layers, size=size).pool(feature) for name in names]
    return torch.cat(found).numpy()


@pytest.mark.parametrize('ending', feature_files.FORMATS)
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_every_format(folder, monkeypatch, capsys, ending, dtype):
    monkeypatch.setattr(feature_files, 'CHUNK_BYTES', 150)  # some rows at a time
    (folder / 'images/1.png').write_text('no image')
    (folder / 'images/b/2.png').write_bytes(b'')
    out = folder / f'new/rows{ending}'
    run(out, '--dtype', dtype, '--batch-size', 3)
    features, paths, facts = reread(out)
    names = [name for name in NAMES if name not in ('1.png', os.path.join('b', '2.png'))]
    assert paths == names
    expected = loop(names)
    tolerance = 1e-6 if dtype == 'float32' else 1e-3
    np.testing.assert_allclose(features, expected.astype(dtype), rtol=tolerance, atol=tolerance)
    if ending != '.parquet':
        assert features.dtype == dtype
    assert facts['feature'] == 'pooled'
    assert (facts['layers'], facts['size'], facts['images'], facts['dtype']) == ([1], 16, 5, dtype)
    assert facts['unreadable'] == ['1.png', os.path.join('b', '2.png')]
    assert facts['preprocessing']['mean'] == [0.0] * 3
    assert (facts['axes'], facts['weights'], len(facts['sha256'])) == (['image', 'channel'], 'ema', 64)
    assert facts['encoder'] == capi_config()['backbone'] | {'img_size': [16, 16]}
    output = capsys.readouterr().out
    assert '[7/7] images, ' in output
    assert '2 of 7 images left out: 1.png, b/2.png; cannot read image images/1.png' in output
    assert {path.suffix for path in (folder / 'new').iterdir()} == ({ending, '.json'} if ending == '.npy' else {ending})


@pytest.mark.parametrize(
    ('words', 'shape', 'axes', 'how'),
    [
        (['--feature', 'registers+pooled@0'], (2 * DIM,), ['channel'], {'layers': (0, -1)}),
        (['--feature', 'predicted'], (8,), ['channel'], {}),
        (['--patches'], (DIM, 4, 4), ['channel', 'row', 'column'], {'feature': 'featmap'}),
        (['--feature', 'patches', '--size', '33', '--layers', '0'], (64, DIM), ['patch', 'channel'],
         {'size': 32, 'layers': (0,)}),
        (['--feature', 'tokens'], (20, DIM), ['token', 'channel'], {}),
    ],
)  # fmt: skip
def test_features(folder, words, shape, axes, how):
    run('a.npz', *words)
    features, paths, facts = reread(folder / 'a.npz')
    assert (features.shape, paths, facts['axes']) == ((7, *shape), NAMES, ['image', *axes])
    expected = loop(**{'feature': words[1] if len(words) > 1 else None, **how})
    np.testing.assert_allclose(features, expected, rtol=1e-6, atol=1e-6)


def test_several_layers(folder):
    run('a.npz', '--layers', 0, -1, '--feature', 'top2')
    features, _, facts = reread(folder / 'a.npz')
    assert (facts['axes'], facts['layers']) == (['image', 'layer', 'channel'], [0, 1])
    for place, layer in enumerate((0, 1)):
        np.testing.assert_allclose(features[:, place], loop(feature='top2', layers=(layer,)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('checkpoint', ['timm:test_vit=vit.safetensors', 'timm:test_vit=random', 'capi/small'])
def test_other_encoders(folder, checkpoint):
    size = 32
    run('a.npz', '--size', size, checkpoint=checkpoint)
    features, _, facts = reread(folder / 'a.npz')
    np.testing.assert_allclose(features, loop(size=size, checkpoint=checkpoint), rtol=1e-6, atol=1e-6)
    assert (
        (facts['sha256'] is None) == (facts['weights'] == 'random') == (checkpoint != 'timm:test_vit=vit.safetensors')
    )


def test_lists_and_single_images(folder, capsys):
    Path('list.txt').write_text('images/b/1.png\n\n images/0.png\nimages/none.png\n')
    run('a.npz', images='list.txt')
    features, paths, facts = reread(folder / 'a.npz')
    assert paths == ['images/b/1.png', 'images/0.png']
    assert facts['root'] == str(folder)
    np.testing.assert_allclose(features, loop(['b/1.png', '0.png']), rtol=1e-6, atol=1e-6)
    assert '1 of 3 images left out: images/none.png; cannot read image images/none.png: no such file' in (
        capsys.readouterr().out
    )
    run('b.npz', images='images/3.png')
    np.testing.assert_allclose(reread(folder / 'b.npz')[0], loop(['3.png']), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('how', ['interrupted', 'killed'])
def test_a_call_that_was_ended_goes_on(folder, monkeypatch, capsys, how):
    """In its third batch: the rows of two are not made again, and those of the others are."""
    read, real, ends = [], extract_files.Reading.__call__, True

    def counted(self, images):
        if images.any():  # not the image that tells the shape
            read.append(len(images))
            if ends and len(read) == 3:
                if how == 'killed':
                    os.kill(os.getpid(), signal.SIGKILL)
                raise KeyboardInterrupt
        return real(self, images)

    monkeypatch.setattr(extract_files.Reading, '__call__', counted)
    if how == 'killed':
        monkeypatch.setattr(extract_files, 'SAVE_SECONDS', 0)
        assert wait(start(lambda: run('a.npz', '--batch-size', 2), folder / 'log.txt')) == -signal.SIGKILL
    else:
        run('a.npz', '--batch-size', 2, code=130)
    assert not Path('a.npz').exists()
    run('a.npz', '--feature', 'predicted', code=2)
    message = 'a.npz.partial was begun by another call, with feature pooled instead of predicted'
    assert message in capsys.readouterr().err
    ends = False
    read.clear()
    run('a.npz', '--batch-size', 2)
    assert '4 of 7 images are there' in capsys.readouterr().out
    assert read == [2, 1]
    np.testing.assert_allclose(reread(folder / 'a.npz')[0], loop(), rtol=1e-6, atol=1e-6)
    assert not Path('a.npz.partial').exists()


def test_another_call_on_a_file_says_so(folder, monkeypatch, capsys):
    run('a.npz')
    monkeypatch.setattr(extract_files.Extraction, 'run', None)  # nothing is computed
    run('a.npz')
    assert 'a.npz is there already, of the same call: nothing to do' in capsys.readouterr().out
    shutil.copytree('images', 'others')
    for words, images, message in (
        (['--layers', 0], 'images', 'a.npz was made by another call, with layers [1] instead of [0]'),
        ([], 'others', 'a.npz was made by another call, with other images'),
    ):
        run('a.npz', *words, images=images, code=2)
        assert message in capsys.readouterr().err


def test_a_full_disk_costs_no_features(folder, monkeypatch, capsys):
    def full(path, rows):
        path.write_bytes(b'a part')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setitem(feature_files.FORMATS, '.npz', feature_files.FORMATS['.npz']._replace(write=full))
        run('a.npz', code=2)
    assert 'a.npz could not be written: no space left on device. Make room, then call again.' in capsys.readouterr().err
    assert not Path('a.npz').exists()
    run('a.npz')
    assert '7 of 7 images are there' in capsys.readouterr().out
    np.testing.assert_allclose(reread(folder / 'a.npz')[0], loop(), rtol=1e-6, atol=1e-6)
    assert not Path('a.npz.partial').exists()


@pytest.mark.parametrize('processes', [2, 3])
def test_several_processes(folder, processes):
    (folder / 'images/2.png').write_text('no image')

    def part():
        sys.argv = ['extract', 'a.pth', 'images', 'a.npz', '--batch-size', '2', '--workers', '0', '--device', 'cpu']
        extract.main()

    run_group(part, folder / 'log.txt', processes)
    features, paths, _ = reread(folder / 'a.npz')
    names = [name for name in NAMES if name != '2.png']
    assert paths == names
    np.testing.assert_allclose(features, loop(names), rtol=1e-6, atol=1e-6)
    assert Path('log.txt').read_text().count('Wrote a.npz') == 1


def test_workers_read(folder):
    words = ['a.pth', 'images', 'a.npz', '--workers', '2', '--batch-size', '2', '--device', 'cpu']
    extract.main(words)
    np.testing.assert_allclose(reread(folder / 'a.npz')[0], loop(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ('words', 'options', 'message'),
    [
        (['a.txt'], {}, 'the ending says how features are written, give one of .npz, .npy, .h5, .parquet'),
        (['x.npz'], {}, 'x.npz is there already, and not of mmmim extract'),
        (['x.npy'], {}, 'x.npy is there already, and not of mmmim extract'),
        (['x.h5'], {}, 'x.h5 is there already, and not of mmmim extract'),
        (['x.parquet'], {}, 'x.parquet is there already, and not of mmmim extract'),
        (['a.npz', '--feature', 'cls'], {}, 'The model has no feature cls: choose from pooled, predicted, registers'),
        (['a.npz', '--feature', 'mean'], {}, "There is no feature 'mean'"),
        (['a.npz', '--feature', 'pooled@0', '--layers', 1], {}, 'says itself what it is of: leave --layers out'),
        (['a.npz', '--layers', 2], {}, 'no block 2 in an encoder of 2'),
        (['a.npz', '--layers', 1, -1], {}, '--layers 1 -1 has a block twice'),
        (['a.npz', '--feature', 'cls', '--patches'], {}, 'not allowed with'),
        (['a.npz'], {'images': 'none'}, 'There is no image, list of paths or folder none'),
        (['a.npz'], {'images': 'images/notes.md'}, 'images/notes.md is neither an image'),
        (['a.npz'], {'images': 'empty.txt'}, 'names no images'),
        (['a.npz'], {'images': 'empty'}, 'No images in empty'),
        (['a.npz'], {'images': 'bad.png'}, 'None of the 1 images can be read, for example: cannot read image bad.png'),
        (['a.npz'], {'checkpoint': 'timm:test_vit'}, 'names no weights, and nothing is downloaded'),
        (['list/a.npz'], {}, 'list is a file, not a folder'),
    ],
)
def test_errors(folder, capsys, words, options, message):
    for name in ('x.npz', 'x.npy', 'x.h5', 'x.parquet', 'bad.png', 'list'):
        Path(name).write_text('nothing of this kind')
    Path('empty.txt').write_text('\n')
    Path('empty').mkdir()
    before = sorted(folder.iterdir())
    run(*words, code=2, **options)
    assert message in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


def test_values_that_float16_cannot_hold(folder, monkeypatch, capsys):
    monkeypatch.setattr(mmmim.features.LayerFeatures, 'pooled', property(lambda self: self.patches.mean(1) + 1e5))
    run('a.npz', '--dtype', 'float16', code=2)
    assert 'has values that float16 cannot hold: give --dtype float32' in capsys.readouterr().err


@pytest.mark.parametrize(('ending', 'library'), [('.h5', 'h5py'), ('.parquet', 'pyarrow')])
def test_missing_libraries(folder, monkeypatch, capsys, ending, library):
    monkeypatch.setattr(feature_files, 'find_spec', lambda name: None)
    run(f'a{ending}', code=2)
    error = capsys.readouterr().err
    assert f'files {ending} need the library {library}: pip install "mmmim[extract]"' in error
