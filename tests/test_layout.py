"""Tests lie where what they test lies: a folder for every room of mmmim, and for the tools."""

from tests.paths import ROOT

#: Rooms of tests that are none of the package: programs, and promises that hold for all of it.
OTHERS = {'tools', 'reliability'}


def rooms(folder, pattern):
    return {path.name for path in (ROOT / folder).glob(pattern) if any(path.glob('*.py'))}


def test_a_folder_of_tests_for_every_room_and_no_other():
    expected = {f'test_{room}' for room in rooms('mmmim', '[a-z]*') | OTHERS}
    assert rooms('tests', 'test_*') == expected


def test_every_folder_of_tests_has_some():
    empty = [name for name in rooms('tests', 'test_*') if not any((ROOT / 'tests' / name).glob('test_*.py'))]
    assert not empty


def test_every_room_stands_in_the_map():
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    assert [room for room in sorted(rooms('mmmim', '[a-z]*')) if f'\n  {room}/' not in text] == []
