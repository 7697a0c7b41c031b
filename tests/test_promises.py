"""SECURITY.md names the tests that show what it promises, and these exist."""

import re

from tests.paths import ROOT


def test_tests_of_promises_exist():
    named = re.findall(r'`(tests/[\w/]+\.py)::(\w+)`', (ROOT / 'SECURITY.md').read_text())
    assert len(named) >= 15
    for path, name in named:
        assert re.search(rf'^def {name}\(', (ROOT / path).read_text(), re.MULTILINE), f'{path}::{name}'
