"""`mmmim browse`: a picture of a batch, for every method that has a small config."""

import pytest
import torch
from PIL import Image

from mmmim.cli.browse import main
from mmmim.visualization import batches
from tests.paths import ROOT

SMALL = sorted(f'{path.parent.name}/{path.stem}' for path in (ROOT / 'configs').glob('*/*small.py'))


@pytest.fixture
def drawn(monkeypatch):
    """The pictures that are drawn, by their heading."""
    found = {}
    original = batches.draw_batch
    monkeypatch.setattr(batches, 'draw_batch', lambda *args: found.update(original(*args)) or found)
    return found


#: Of small configs; the others need a codebook or a teacher.
WITHOUT_FILES = [name for name in SMALL if 'beit' not in name and 'distillation' not in name]


@pytest.mark.parametrize('config', WITHOUT_FILES)
def test_a_picture_of_a_batch(config, drawn, fashion_scenes, tmp_path):
    options = [f'train_dataloader.dataset.dataset.data_root={fashion_scenes}']
    main([config, '--images', '2', '--out', str(tmp_path / 'batch.png'), '--cfg-options', *options])
    with Image.open(tmp_path / 'batch.png') as image:
        assert image.width > 300
    image, visible, asked, *branches = drawn.values()
    assert branches
    shown = []
    for picture, rest in ((visible, batches.GREY), (asked, batches.DARK)):
        outside = (picture == torch.tensor(rest)).all(dim=-1)
        assert 0 < outside.float().mean() < 1
        assert torch.equal(picture[~outside], image[~outside])
        shown.append(~outside)
    overlap = (shown[0] & shown[1]).any()
    assert (
        not overlap or 'maskfeat' in config or 'simmim' in config
    )  # whose encoder sees all places, the masked ones as mask tokens


def test_what_is_no_pre_training_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(['eval/cls_knn_fashion', '--out', str(tmp_path)])
    assert 'give the config of a pre-training' in capsys.readouterr().err
