import pytest

from mmmim.utils import InputError
from mmmim.utils.outputs import check_file, check_folder, check_picture, picture_files


def test_a_picture_is_a_file_and_a_folder_holds_many(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder.png').mkdir()
    assert picture_files('out', ['a.png', 'b.png']) == ['out/a.png', 'out/b.png']
    assert picture_files('folder.png', ['a.png', 'b.png']) == ['folder.png/a.png', 'folder.png/b.png']
    for name in ('x.png', 'deep/x.PDF', 'x.svg'):
        assert picture_files(name, ['a.png']) == [name]
    for names, written in ((['a.png', 'b.png'], r'a\.png and b\.png'), (['a', 'b', 'c'], 'a, b and c')):
        with pytest.raises(InputError, match=rf'--out x\.png is one picture, and {written} are written'):
            picture_files('x.png', names)
    for name in ('x.jpeg', 'x.tif', 'x.gif'):
        with pytest.raises(InputError, match=r'give a file that ends in \.png, \.pdf, \.svg or \.jpg'):
            picture_files(name, ['a.png'])


def test_files_and_folders_in_each_others_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').touch()
    (tmp_path / 'folder.png').mkdir()
    for check in (check_folder, lambda name: picture_files(f'{name}/x.png', ['a.png'])):
        for name in ('file', 'file/below/it'):
            with pytest.raises(InputError, match='file is a file, not a folder: give another name'):
                check(name)
    for check in (check_file, check_picture):
        with pytest.raises(InputError, match=r'--out folder\.png is a folder: give the name of a file'):
            check('folder.png')
    check_folder('new/folder')
    check_file('new.json')
