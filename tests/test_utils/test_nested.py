from mmmim.utils.nested import dicts, leaves, present, under, walk

TREE = {'a': {'b': [1, {'c': None}]}, 'd': (2, 'x'), 'e': {}}


def test_everything_inside_has_a_dotted_path():
    assert [path for path, _ in walk(TREE)] == ['a', 'a.b', 'a.b.0', 'a.b.1', 'a.b.1.c', 'd', 'd.0', 'd.1', 'e']
    assert dict(leaves(TREE)) == {'a.b.0': 1, 'a.b.1.c': None, 'd.0': 2, 'd.1': 'x'}
    assert list(dicts(TREE)) == [TREE, TREE['a'], {'c': None}, {}]
    assert list(walk('text')) == list(walk(3)) == []


def test_the_part_under_a_prefix():
    assert under({'a.b': 1, 'a.c.a.d': 2, 'ab': 3}, 'a.') == {'b': 1, 'c.a.d': 2}


def test_what_is_switched_off_is_absent():
    assert present({'a': 1, 'b': None, 'c': 0}) == {'a': 1, 'c': 0}
    assert present(None) == {}
