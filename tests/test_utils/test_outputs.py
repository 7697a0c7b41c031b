import pytest

from mmmim.utils import InputError
from mmmim.utils.outputs import check_file, check_folder, check_picture, picture_files


def test_names_of_pictures_files_and_folders(tmp_path, monkeypatch):
    def refused(message, check, *args):
        with pytest.raises(InputError, match=message):
            check(*args)

    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').touch()
    (tmp_path / 'folder.png').mkdir()
    for name in ('out', 'folder.png'):
        assert picture_files(name, ['a.png', 'b.png']) == [f'{name}/a.png', f'{name}/b.png']
    for name in ('x.png', 'deep/x.PDF', 'x.svg'):
        assert picture_files(name, ['a.png']) == [name]
    refused(
        r'--out x\.png is one picture, and a\.png, b and c are written', picture_files, 'x.png', ['a.png', 'b', 'c']
    )
    refused(r'give a file that ends in \.png, \.pdf, \.svg or \.jpg', picture_files, 'x.gif', ['a.png'])
    for name in ('file', 'file/below/it'):
        refused('file is a file, not a folder: give another name', check_folder, name)
        refused('file is a file, not a folder', picture_files, f'{name}/x.png', ['a.png'])
    for check in (check_file, check_picture):
        refused(r'--out folder\.png is a folder: give the name of a file', check, 'folder.png')
    check_folder('new/folder')
    check_file('new.json')
