from importlib import metadata

import pytest

from mmmim.utils.distributions import shared_packages


@pytest.mark.parametrize(
    ('installed', 'said'),
    [
        ({'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain', 'onedl-mmsegmentation'}, []),
        ({'mmengine', 'mmcv-lite'}, []),
        ({'onedl-mmengine', 'mmengine', 'onedl-mmcv'}, ['onedl-mmengine and mmengine']),
        (
            {'onedl-mmcv', 'mmcv', 'mmcv-lite', 'mmsegmentation', 'onedl-mmsegmentation'},
            ['onedl-mmcv and mmcv and mmcv-lite', 'onedl-mmsegmentation and mmsegmentation'],
        ),
    ],
)
def test_two_distributions_with_one_import_name_are_said(monkeypatch, installed, said):
    def distribution(name):
        if name not in installed:
            raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, 'distribution', distribution)
    sentences = shared_packages()
    assert [sentence.split(' are both')[0] for sentence in sentences] == said
    assert all('docs/en/install.md' in sentence for sentence in sentences)
