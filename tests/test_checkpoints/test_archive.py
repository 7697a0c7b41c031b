"""Archives whose tensors are not as large as the members that hold their values, behind which torch 2.8 reads on."""

import io
import pickle
import zipfile

import pytest
import torch

import mmmim
from mmmim.checkpoints import load_checkpoint_file
from mmmim.checkpoints.mapped import map_checkpoint_file
from mmmim.utils import InputError

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
)
#: What is done to the members of values, of which the first is shorter than the second.
HARM = {
    'cut': lambda first, second: (first[:-1], second),
    'empty': lambda first, second: (b'', second),
    'longer': lambda first, second: (first + b'x', second),
    'swapped': lambda first, second: (second, first),
    'missing': lambda first, second: (None, second),
}


def written(content, change=lambda first, second: (first, second), pickled=lambda data: data):
    """A file of torch with other members, whose checksums fit."""
    out, again = io.BytesIO(), io.BytesIO()
    torch.save(content, out)
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(again, 'w') as new:
        values = change(old.read('archive/data/0'), old.read('archive/data/1'))
        for name in old.namelist():
            data = old.read(name)
            if name[-7:] in ('/data/0', '/data/1'):
                data = values[int(name[-1])]
            if name.endswith('/data.pkl'):
                data = pickled(data)
            if data is not None:
                new.writestr(name, data)
    return again.getvalue()


def content(dtype=torch.float32):
    return {'state_dict': {'a': torch.ones(300).to(dtype), 'b': torch.ones(7, 100).to(dtype)}}


@pytest.mark.parametrize('read', [load_checkpoint_file, map_checkpoint_file, mmmim.get_model])
@pytest.mark.parametrize('trust', [False, True])
@pytest.mark.parametrize('harm', HARM)
def test_sizes_that_do_not_fit_are_refused(tmp_path, harm, trust, read):
    path = tmp_path / 'x.pth'
    path.write_bytes(written(content(), HARM[harm]))
    options = {'trust_checkpoint' if read is mmmim.get_model else 'trust': trust}
    with pytest.raises(InputError, match='is damaged: a tensor in it takes 1200 bytes of archive/data/0, which'):
        read(path, **options)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_every_type_has_its_size(tmp_path, dtype):
    path = tmp_path / 'x.pth'
    path.write_bytes(written(content(dtype)))
    assert torch.equal(load_checkpoint_file(path)['state_dict']['b'], content(dtype)['state_dict']['b'])
    path.write_bytes(written(content(dtype), HARM['cut']))
    with pytest.raises(InputError, match='which holds'):
        load_checkpoint_file(path)


def test_views_parameters_and_nothing_are_read(tmp_path):
    base = torch.arange(12.0)
    views = {'all': base, 'part': base[3:6], 'none': torch.zeros(0, 5), 'again': torch.nn.Parameter(base.view(3, 4).T)}
    torch.save({'state_dict': views}, tmp_path / 'x.pth')
    read = load_checkpoint_file(tmp_path / 'x.pth')['state_dict']
    assert all(torch.equal(read[name], view) for name, view in views.items())


def test_a_size_that_is_computed_is_refused(tmp_path):
    """A pickle can call what torch allows; what stands for it here has no number."""
    out = io.BytesIO()
    torch.save(content(), out)
    with zipfile.ZipFile(out) as archive:
        original = archive.read('archive/data.pkl')
    number = pickle.dumps(300, protocol=2)[2:-1]
    call = b'ccollections\nOrderedDict\n)R'
    assert original.count(number) >= 1
    path = tmp_path / 'x.pth'
    path.write_bytes(written(content(), pickled=lambda data: data.replace(number, call, 1)))
    with pytest.raises(InputError, match=r'^\S*x\.pth is damaged'):
        load_checkpoint_file(path)


@pytest.mark.parametrize('read', [load_checkpoint_file, map_checkpoint_file])
@pytest.mark.parametrize('first', ['A', 'a'])
def test_members_that_differ_in_the_case_of_their_names_are_refused(tmp_path, first, read):
    """A member that fits would stand for another of the same name, which torch finds first."""
    values = {'A': bytes(400), 'a': bytes(8)}
    out, path = io.BytesIO(), tmp_path / 'x.pth'
    torch.save({'state_dict': {'w': torch.zeros(100)}}, out)
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(path, 'w') as new:
        for name in old.namelist():
            if name == 'archive/data.pkl':
                new.writestr(name, old.read(name).replace(b'X\x01\0\0\x000', b'X\x01\0\0\0A'))
            elif name != 'archive/data/0':
                new.writestr(name, old.read(name))
        for key in sorted(values, reverse=first == 'a'):
            new.writestr(f'archive/data/{key}', values[key])
    with pytest.raises(InputError, match=r'was not written by torch\.save'):
        read(path)
