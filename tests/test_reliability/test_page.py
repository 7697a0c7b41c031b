"""The tests that docs/en/reliability.md names are there."""

import re

from tests.paths import ROOT


def test_named_tests_exist():
    missing, named = [], 0
    for line in (ROOT / 'docs/en/reliability.md').read_text().splitlines():
        source = ''
        for file, name in re.findall(r'`(?:(test_[\w/]+\.py))?(?:::(\w+))?`', line):
            if file:
                path = ROOT / 'tests' / file
                source = path.read_text() if path.exists() else missing.append(file) or ''
            if name and f'def {name}(' not in source:
                missing.append(name)
            named += bool(file or name)
    assert not missing
    assert named > 40
