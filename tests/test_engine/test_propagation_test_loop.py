"""Configs of video object segmentation on tiny videos: masks, scores, and sequences that are not done twice."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine import Config
from PIL import Image

from mmmim.apis.downstream import apply_pretrained
from mmmim.datasets.davis import ANNOTATIONS, palette, read_annotation
from mmmim.engine import Runner
from mmmim.evaluation.measures.davis import score_sequence
from mmmim.features.frozen import FrozenFeatures
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.runs import log_of
from tests.segmentation import tiny_encoder
from tests.videos import moving_boxes, write_list, write_video


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three videos, of two sizes, one with void and one whose frames are larger than their annotations."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / 'data/davis'
    with_void = moving_boxes(5)
    with_void[0][-4:] = with_void[2][-4:] = 255
    write_video(root, 'dog', with_void)
    write_video(root, 'portrait', moving_boxes(4, (56, 40), objects=1))
    write_video(root, 'larger', moving_boxes(3, (32, 48), objects=3), frame_size=(64, 96))
    write_list(root, 'dog', 'portrait', 'larger')
    return tmp_path


def config(folder, name='vos_davis2017', **changes):
    cfg = Config.fromfile(ROOT / f'configs/eval/{name}.py')
    cfg.model.backbone.encoder = tiny_encoder(8, 32, depth=3)
    apply_pretrained(cfg, 'random')
    cfg.test_cfg.short_side = None
    cfg.work_dir, cfg.experiment_name = str(folder / 'run'), f'{name}_{folder.name}'
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    return cfg


def run(folder, name='vos_davis2017', **changes):
    runner = Runner.from_cfg(config(folder, name, **changes))
    metrics = runner.test()
    return runner, metrics, Path(runner.test_loop.records[0]['folder'])


@pytest.fixture
def extracted(monkeypatch):
    """Numbers of images that were encoded, run by run."""
    seen = []
    extract = FrozenFeatures.extract

    def counted(self, images):
        seen.append(len(images))
        return extract(self, images)

    monkeypatch.setattr(FrozenFeatures, 'extract', counted)
    return seen


@pytest.mark.parametrize('name', ['vos_davis2017', 'vos_davis2017_crw', 'vos_fashion'])
def test_scores_are_those_of_the_masks(name, folder):
    small = {'test_dataloader__dataset__sequences': 2, 'test_dataloader__dataset__frames': 4}
    runner, metrics, results = run(folder, name, **small if name == 'vos_fashion' else {})
    objects = []
    for sequence in runner.test_dataloader.dataset:
        files = sorted((results / 'masks' / sequence.name).iterdir())
        assert [file.name for file in files] == [f'{stem}.png' for stem in sequence.stems]
        masks = [read_annotation(str(file)) for file in files]
        truth = [read_annotation(path) for path in sequence.annotations]
        assert (masks[0] == np.where(truth[0] == 255, 0, truth[0])).all()
        assert any((one != masks[0]).any() for one in masks[1:])
        objects += score_sequence(truth, masks).statistics()
        with Image.open(files[0]) as image:
            assert image.mode == 'P'
            assert image.getpalette()[:768] == [channel for colour in palette() for channel in colour]
        sheet = np.asarray(Image.open(results / 'sheets' / f'{sequence.name}.png'))
        assert sheet[..., :3].std() > 10
    expected = 100 * np.mean(objects, axis=0)
    names = [f'davis/{letter}-{kind}' for letter in 'JF' for kind in ('Mean', 'Recall', 'Decay')]
    np.testing.assert_allclose([metrics[key] for key in names], expected.ravel())
    assert metrics['davis/J&F-Mean'] == pytest.approx(expected[:, 0].mean())
    table = json.loads((results / 'scores.json').read_text())
    assert table['rows'][-1]['J&F-Mean'] == pytest.approx(metrics['davis/J&F-Mean'])
    assert len(table['rows']) == len(objects) + len(runner.test_dataloader.dataset) + 1
    text = (results / 'scores.md').read_text()
    assert 'topk=' in text
    assert f'| {table["rows"][0]["name"]} ' in text
    assert 'context=' in log_of(runner)


def test_what_is_done_is_not_done_again(folder, extracted, monkeypatch):
    _, first, results = run(folder)
    assert len(extracted) == 12
    runner, again, same = run(folder)
    assert (len(extracted), again, same) == (12, first, results)
    assert '3 of 3 sequences were done before' in log_of(runner)
    # A video that has changed, a mask that is lost, scores that are damaged: these alone.
    os.utime(folder / 'data/davis' / ANNOTATIONS / 'dog/00001.png', (1, 1))
    assert run(folder)[1] == first
    assert len(extracted) == 12 + 5
    (results / 'masks/portrait/00002.png').unlink()
    (results / 'scores/larger.json').write_text('{"files": [')
    assert run(folder)[1] == first
    assert len(extracted) == 12 + 5 + 4 + 3
    # Other settings, another layer, another encoder: another folder each, and the old one stays.
    others = [
        run(folder, test_cfg__propagation__topk=3)[2],
        run(folder, model__backbone__out_indices=[0])[2],
        run(folder, randomness__seed=1)[2],
    ]
    assert len({results, *others}) == 4
    assert len(extracted) == 24 + 36
    assert run(folder)[1:] == (first, results)
    assert len(extracted) == 60


def test_an_interrupted_test_goes_on_with_the_sequence_it_was_at(folder, extracted, monkeypatch):
    counted, left = FrozenFeatures.extract, [7]

    def interrupted(self, images):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return counted(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(FrozenFeatures, 'extract', interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(folder)
    (results,) = (folder / 'run').glob('propagation-*')
    assert [path.name for path in (results / 'masks').iterdir()] == ['dog']
    extracted.clear()
    _, metrics, _ = run(folder)
    assert len(extracted) == 4 + 3
    assert metrics == run(folder / 'other')[1]


def test_layers_are_scored_each_by_itself(folder, extracted):
    _, alone, _ = run(folder, model__backbone__out_indices=[0])
    extracted.clear()
    runner, both, _ = run(folder, model__backbone__out_indices=[0, -1])
    assert len(extracted) == 12  # for the other layer, which is one pass
    assert {f'layer_0/{key}': value for key, value in alone.items()}.items() <= both.items()
    assert both['layer_2/davis/J&F-Mean'] != both['layer_0/davis/J&F-Mean']
    assert [record['layer'] for record in runner.test_loop.records] == [0, 2]


def test_a_contact_sheet_that_cannot_be_written_ends_nothing(folder, monkeypatch):
    from mmmim.visualization import contact_sheet

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(contact_sheet, 'draw_contact_sheet', full)
    runner, metrics, _ = run(folder)
    assert metrics['davis/J-Mean'] > 0
    assert 'No contact sheet of dog: [Errno 28]' in log_of(runner)


def test_a_disk_that_is_full(folder, monkeypatch):
    from mmmim.engine import video_results

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(video_results, 'save_indices', full)
    with pytest.raises(InputError, match=r'masks/dog could not be written: no space left.*Make room'):
        run(folder)
    (results,) = (folder / 'run').glob('propagation-*')
    assert list((results / 'masks').iterdir()) == []


@pytest.mark.parametrize(
    ('frames', 'message'),
    [
        ([np.zeros((32, 48))] * 3, r'odd/00000\.png has no object'),
        ([np.full((32, 48), 255)] * 3, 'masks of DAVIS-2016 are 0 and 255'),
        ([*moving_boxes(2), *moving_boxes(1, (32, 40))], r'odd/00002\.png is 32 x 40 and the first .* 32 x 48'),
        (moving_boxes(3, (4, 48), objects=1), r'4 x 48 pixels.*set test_cfg\.short_side to more'),
    ],
)
def test_videos_that_cannot_be_followed(folder, frames, message):
    write_video(folder / 'data/davis', 'odd', [np.asarray(each, np.uint8) for each in frames])
    write_list(folder / 'data/davis', 'odd')
    with pytest.raises(InputError, match=message):
        run(folder)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'model__features': 'pooled'}, "carries labels from patch to patch.*'pooled'"),
        ({'test_evaluator': [{'type': 'mmpretrain.Accuracy'}]}, r"needs test_evaluator=dict\(type='mmmim.VideoObj"),
        ({'test_dataloader__dataset': {'type': 'mmmim.SyntheticImages', '_delete_': True}}, 'tests videos'),
        ({'test_cfg__propagation__top_k': 5}, r'test_cfg\.propagation.*top_k'),
        (
            {'test_cfg__propagation__shape': 'triangle'},
            r"propagation\.shape must be 'square' or 'circle', not 'triangle'",
        ),
        ({'test_cfg__propagation__temperature': 0.0}, r'test_cfg\.propagation\.temperature'),
        ({'test_cfg__short_side': 0}, r'test_cfg\.short_side'),
        ({'test_dataloader__dataset__data_root': 'nowhere'}, 'nowhere is missing'),
    ],
)
def test_refusals(changes, message, folder):
    with pytest.raises(InputError, match=message):
        run(folder, **changes)


def test_the_command(folder, tool):
    args = ('test', ROOT / 'configs/eval/vos_fashion.py', '--pretrained', ROOT / 'configs/mae/small.py')
    options = ['test_dataloader.dataset.sequences=1', 'test_dataloader.dataset.frames=3']
    out = tool(*args, '--out', 'scores.json', '--cfg-options', *options)
    assert '[3/3] frames' in out
    assert json.loads(Path('scores.json').read_text())['davis/J&F-Mean'] > 0
    assert 'fits its own probe' in tool('test', args[1], 'checkpoint.pth', code=2)


def test_a_sweep_over_layers(folder, tool):
    # Of a name of its own: two runs that start within a second share their log.
    options = ['+test_dataloader.dataset.indices=1', 'test_dataloader.dataset.frames=3', '+experiment_name=sweep']
    args = (ROOT / 'configs/eval/vos_fashion.py', '--pretrained', ROOT / 'configs/mae/small.py', '--layers', 0, -1)
    out = tool('analysis_tools/layer_sweep', *args, '--cfg-options', *options)
    assert '| block | davis/J&F-Mean |' in out
    record = json.loads(Path('work_dirs/layer_sweep/vos_fashion/layer_sweep.json').read_text())
    assert [row['layer'] for row in record['layers']] == [0, 3]
    assert Path('work_dirs/layer_sweep/vos_fashion/layer_sweep.png').stat().st_size > 1000


def worker(rank, folder):
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    os.chdir(folder)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    _, metrics, results = run(Path(folder), launcher='pytorch')
    torch.save((metrics, str(results)), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_find_what_one_finds(folder):
    mp.spawn(worker, (str(folder),), nprocs=2)
    first, second = (torch.load(folder / f'{rank}.pth', weights_only=False) for rank in range(2))
    together = json.loads(Path(first[1], 'scores.json').read_text())
    _, metrics, results = run(folder / 'other')
    assert first[0] == second[0] == metrics
    assert json.loads((results / 'scores.json').read_text()) == together
