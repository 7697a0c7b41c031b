"""Private parts of other libraries are reached from one module."""

import ast

from tests.paths import ROOT

#: Of Python itself, each with a reason where it stands.
KNOWN = {
    'os._exit',
    'multiprocessing.queues.Queue._on_queue_feeder_error',
}


def private(name):
    return name.startswith('_') and not name.startswith('__')


def own_names(trees):
    """Private names that mmmim itself defines: functions, classes, variables and attributes of ``self``."""
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == 'self':
            names.add(node.attr)
    return names


def reaches(tree, own):
    """Private attributes and modules of others; those of ``self`` and ``super()`` are of a subclass."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
            if ast.unparse(node.value) not in ('self', 'cls', 'super()') and ast.unparse(node) not in KNOWN:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ('getattr', 'hasattr', 'setattr'):
            name = ast.unparse(node.args[1]).lstrip('f').strip('\'"')
            literal = isinstance(node.args[1], ast.Constant | ast.JoinedStr)
            if literal and ast.unparse(node.args[0]) != 'self' and private(name) and name not in own:
                yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            base_class = 'Strategy' in ast.unparse(node)
            if any(map(private, str(node.module).split('.')[1:])) and not base_class:
                yield ast.unparse(node)


def test_one_module_reaches_into_others():
    paths = [path for room in ('mmmim', 'tools') for path in (ROOT / room).rglob('*.py') if path.name != 'internals.py']
    trees = {path: ast.parse(path.read_text()) for path in paths}
    own = own_names(trees.values())
    found = [f'{path.relative_to(ROOT)}: {reach}' for path, tree in trees.items() for reach in reaches(tree, own)]
    assert not found, found


def test_reaches_are_seen():
    for line in (
        'cfg._cfg_dict',
        "getattr(cfg, '_cfg_dict', cfg)",
        'from torch._subclasses import x',
        "getattr(a, f'_{b}')",
    ):
        assert list(reaches(ast.parse(line), set()))
    assert not list(reaches(ast.parse('self._hooks; super()._setup(); os._exit(1)'), set()))
