"""Pages that promise something name the tests that show it, and these exist."""

import re

import pytest

from tests.paths import ROOT

PAGES = [path for path in (ROOT / 'SECURITY.md', ROOT / 'docs/en/reliability.md') if path.is_file()]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_tests_of_promises_exist(page):
    named = re.findall(r'`(tests/[\w/]+\.py)::(\w+)(?:\[[^`]*\])?`', page.read_text())
    assert len(named) >= 5
    for path, name in named:
        assert re.search(rf'^def {name}\(', (ROOT / path).read_text(), re.MULTILINE), f'{path}::{name}'
