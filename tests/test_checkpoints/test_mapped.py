"""Files of which only a part is read."""

import zipfile

import pytest
import torch

from mmmim.checkpoints import load_checkpoint_file
from mmmim.checkpoints.mapped import forget, map_checkpoint_file, reading_once
from mmmim.checkpoints.pretrained import load_pretrained
from mmmim.utils import InputError

VIT = {'type': 'mmmim.ViT', 'img_size': 8, 'patch_size': 4, 'embed_dim': 8, 'depth': 1, 'num_heads': 2}


def content(scale=1.0):
    """Two encoders and moments, each tensor of values that no other has."""
    parts = {name: scale * torch.arange(i, i + 1, 1e-3) for i, name in enumerate(('student', 'teacher', 'moment'))}
    return {
        'state_dict': {'backbone.a': parts['student'], 'teacher.backbone.a': parts['teacher'],
                       'backbone.none': torch.zeros(0), 'teacher.backbone.part': parts['teacher'][5:9]},
        'optimizer': {'state': {0: {'exp_avg': parts['moment']}}},
        'mmmim': {'version': 1, 'model': {'backbone': VIT}},
    }  # fmt: skip


@pytest.fixture
def file(tmp_path):
    torch.save(content(), tmp_path / 'x.pth')
    return tmp_path / 'x.pth'


def flip(file, values):
    """Change one bit of a tensor in a file."""
    data = bytearray(file.read_bytes())
    data[bytes(data).index(values.numpy().tobytes()) + 100] ^= 1
    file.write_bytes(data)


def test_what_is_mapped_is_what_was_saved(file):
    expected = content()
    model, state = load_pretrained(file)
    assert model == {'backbone': VIT}
    assert list(state) == ['backbone.a', 'backbone.part']
    assert torch.equal(state['backbone.a'], expected['state_dict']['teacher.backbone.a'])
    assert torch.equal(state['backbone.part'], expected['state_dict']['teacher.backbone.part'])
    assert list(load_pretrained(file, 'student', part='backbone.n')[1]) == ['backbone.none']


@pytest.mark.parametrize(
    ('damaged', 'weights', 'noticed'),
    [('student', 'student', True), ('student', 'ema', False), ('teacher', 'ema', True), ('moment', 'ema', False)],
)
def test_what_is_used_fits_its_checksum_and_nothing_else_is_read(file, damaged, weights, noticed):
    found = content()
    names = {'student': 'backbone.a', 'teacher': 'teacher.backbone.a'}
    flip(file, found['state_dict'][names[damaged]] if damaged in names else found['optimizer']['state'][0]['exp_avg'])
    with pytest.raises(InputError, match='does not fit its checksum'):
        load_checkpoint_file(file)
    if noticed:
        with pytest.raises(InputError, match=r'x\.pth is damaged: \S*data/\d+ in it does not fit its checksum'):
            load_pretrained(file, weights)
    else:
        load_pretrained(file, weights)


def test_plain_data_fit_their_checksum(file):
    data = bytearray(file.read_bytes())
    data[bytes(data).index(b'embed_dim')] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match=r'data\.pkl in it does not fit its checksum'):
        map_checkpoint_file(file)


@pytest.mark.parametrize('kind', ['legacy', 'more members'])
def test_other_files_are_read_as_a_whole(file, kind):
    """Where it is not sure which bytes are whose, every byte is compared."""
    found = content()
    if kind == 'legacy':
        torch.save(found, file, _use_new_zipfile_serialization=False)
        assert torch.equal(load_pretrained(file)[1]['backbone.a'], found['state_dict']['teacher.backbone.a'])
        return
    with zipfile.ZipFile(file, 'a') as archive:
        archive.writestr('x/data/99', b'1234')
    flip(file, found['optimizer']['state'][0]['exp_avg'])
    for read in (load_checkpoint_file, map_checkpoint_file):
        with pytest.raises(InputError, match='does not fit its checksum'):
            read(file)


def test_a_file_is_read_once_while_it_stays_the_same(file):
    assert map_checkpoint_file(file) is not map_checkpoint_file(file)
    with reading_once():
        first = map_checkpoint_file(file)
        assert map_checkpoint_file(file) is first
        first.content()['state_dict'].clear()
        assert len(first.content()['state_dict']) == 4
        assert map_checkpoint_file(file, trust=True) is not first
        file.unlink()
        torch.save(content(2.0), file)
        second = map_checkpoint_file(file)
        assert float(second.content()['state_dict']['backbone.a'][1]) == pytest.approx(2e-3)
        forget()
        assert map_checkpoint_file(file) is not second
