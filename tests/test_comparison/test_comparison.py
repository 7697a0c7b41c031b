import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine import Config

from mmmim.comparison import jobs as comparison
from mmmim.comparison.jobs import Job, collect, make_jobs, mean_and_deviation, pictures, prepare, run_jobs, tables
from mmmim.evaluation.measures.rankme import rankme
from mmmim.evaluation.probes import digit_scenes
from mmmim.evaluation.probes.logistic_regression import fit_logistic_regression, predict
from mmmim.evaluation.probes.rows import Standardizer
from mmmim.features.labelled_images import LabelledImages
from mmmim.utils import InputError
from mmmim.utils.tables import markdown_table
from mmmim.visualization.bars import draw_bars
from tests.paths import ROOT, load_tool

SPEC = {
    'subsets': {
        'single': {
            'raw pixels': {'pixels': 4},
            'random, init': {'config': 'configs/mae/digits.py', 'train': False, 'options': {'model.backbone.depth': 2}},
            'MAE': {'config': 'configs/mae/digits.py', 'options': {'train_cfg.max_iters': 7}},
            'own': {'config': 'configs/capi/digits.py', 'own_test': True},
        }
    }
}


def test_jobs_of_a_specification(tmp_path):
    jobs = make_jobs(SPEC, [3, 5], tmp_path, 'val')
    assert [(job.arm, job.seed) for job in jobs] == [
        ('raw pixels', 3),
        ('random, init', 3),
        ('random, init', 5),
        ('MAE', 3),
        ('MAE', 5),
        ('own', 3),
        ('own', 5),
    ]
    (score,) = jobs[2].commands
    assert score[2:5] == ['configs/mae/digits.py', '--seed', '5']
    assert score[-2:] == ['--cfg-options', 'model.backbone.depth=2']
    train, score = jobs[4].commands
    trained = tmp_path / 'runs/single/MAE/seed_5'
    assert {'randomness.seed=5', 'train_cfg.max_iters=7', '--resume', str(trained)} <= set(train)
    assert score[2] == str(trained / 'iter_7.pth')
    assert score[-1] == str(jobs[4].scores) == str(tmp_path / 'val/single/MAE/seed_5/scores.json')
    _, test = jobs[-1].commands
    assert test[1] == 'tools/test.py'
    assert 'test_dataloader.dataset.dataset.split=val' in test
    assert test[3].endswith('iter_800.pth')


def test_scores_of_a_specification(tmp_path):
    asked = {'poolings': ('cls', 'top10'), 'rankme': True, 'leave_one_out': True}
    for scores, options in (
        (asked, ['--pool', 'cls', 'top10', '--leave-one-out', '--rankme']),
        ({'rankme': True, 'leave_one_out': False}, ['--rankme']),
        ({}, []),
    ):
        jobs = make_jobs({**SPEC, 'scores': scores}, [3], tmp_path, 'val')
        plain = make_jobs(SPEC, [3], tmp_path, 'val')
        for job, other in zip(jobs, plain, strict=True):
            (*before, last), (*plain_before, plain_last) = job.commands, other.commands
            assert before == plain_before
            place = 0 if job.arm == 'own' else len(options)
            start = last.index('--subset') - place if place else 0
            assert last[start : start + place] == options[:place]
            assert last[:start] + last[start + place :] == plain_last
    for scores, message in (
        ({'pooling': ['cls']}, 'scores: there is no pooling: use poolings, leave_one_out, rankme'),
        ({'poolings': ['mean']}, "There is no feature 'mean'"),
    ):
        with pytest.raises(InputError, match=message):
            make_jobs({**SPEC, 'scores': scores}, [3], tmp_path, 'val')


def write_job(folder, value, seed=0, arm='a', code=0):
    job = Job('single', arm, seed, folder)
    script = f'import sys, pathlib; pathlib.Path({str(job.scores)!r}).write_text({json.dumps({"x": value})!r}); '
    job.commands = [[sys.executable, '-c', 'print("first")'], [sys.executable, '-c', f'{script}sys.exit({code})']]
    return job


def test_jobs_run_once_and_are_collected(tmp_path, capsys):
    jobs = [write_job(tmp_path / str(seed), seed / 10, seed) for seed in range(3)]
    run_jobs(jobs, parallel=2)
    assert '3 runs, 0 done already' in capsys.readouterr().out
    assert collect(jobs) == {'single': {'a': {'x': [0.0, 0.1, 0.2]}}}
    for job in jobs:
        job.commands = [[sys.executable, '-c', 'raise SystemExit(1)']]
    run_jobs(jobs, parallel=2)  # nothing is left to do
    assert '3 runs, 3 done already' in capsys.readouterr().out


def test_a_failed_job_names_its_log(tmp_path):
    job = write_job(tmp_path / 'a', 1.0)
    job.commands[0][-1] = 'raise ValueError("the reason")'
    with pytest.raises(InputError, match=r'(?s)single, a, seed 0 failed; its log .*log\.txt ends in.*the reason'):
        run_jobs([job], parallel=1)
    assert not job.scores.exists()


def test_what_is_missing_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, 'ROOT', tmp_path)
    monkeypatch.setattr(comparison, 'repository', lambda: tmp_path)
    (tmp_path / 'tools').mkdir()
    script = 'import sys; file = open(sys.argv[1], "a"); file.write(sys.argv[2]); file.close()'
    (tmp_path / 'tools/write.py').write_text(script)
    command = ['tools/write.py', 'a.txt']
    for word in ('one', 'two'):
        prepare({'a.txt': [*command, word]})
    assert (tmp_path / 'a.txt').read_text() == 'one'
    with pytest.raises(InputError, match=r'tools/write\.py a\.txt three did not write b\.txt'):
        prepare({'b.txt': [*command, 'three']})
    (tmp_path / 'tools/write.py').write_text('open("c.txt", "w"); raise SystemExit(1)')
    with pytest.raises(InputError, match=r'did not write c\.txt'):
        prepare({'c.txt': command})


def test_pictures_are_named_by_the_work_folder():
    spec = {'pictures': {'{work_dir}/a.png': ['tools/draw.py', '{work_dir}/runs/a.pth', '--out', '{work_dir}']}}
    assert pictures(spec, Path('/w')) == {'/w/a.png': ['tools/draw.py', '/w/runs/a.pth', '--out', '/w']}
    assert pictures({}, Path('/w')) == {}


def test_table_and_figure(tmp_path):
    results = {'single': {'b': {'x': [0.5, 0.7], 'y': [0.25, 0.25]}, 'a': {'x': [0.125]}}}
    text = tables(results, {'single': ['a', 'b', 'c']})['single']
    assert text.splitlines() == [
        '|   |             x |             y |',
        '|---|--------------:|--------------:|',
        '| a |         0.125 |               |',
        '| b | 0.600 ± 0.141 | 0.250 ± 0.000 |',
    ]
    assert mean_and_deviation([0.2, 0.4, 0.6]) == '0.400 ± 0.200'
    draw_bars(results, {'single': ['a', 'b', 'c']}, ['x', 'y'], tmp_path / 'bars.png', 'title')
    assert (tmp_path / 'bars.png').read_bytes()[:4] == b'\x89PNG'


def test_markdown_table():
    assert markdown_table(['name', 'x'], [['a', '1.25'], ['longer', '2']]) == (
        '| name   |    x |\n|--------|-----:|\n| a      | 1.25 |\n| longer |    2 |'
    )


def images(n, seed):
    """Digits of two classes as bright left or right halves; the label map marks them."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n,), generator=rng)
    pixels = torch.randint(0, 60, (n, 3, 8, 8), generator=rng).to(torch.uint8)
    maps = torch.ones(n, 8, 8, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        pixels[i, :, :, 4 * label : 4 * label + 4] += 150
        maps[i, :, 4 * label : 4 * label + 4] = 2 + label
    return LabelledImages(pixels, labels, maps, (0,))


def pooled_pixels(pictures):
    """Unit vectors of the average patch of 4 x 4 pixels of every picture."""
    patches = torch.nn.functional.unfold(pictures.float() / 255, 4, stride=4)
    return torch.nn.functional.normalize(patches.mean(dim=-1).double(), dim=1)


def test_score_of_pixels(monkeypatch):
    splits = {'train': images(60, 0), 'val': images(20, 1), 'test': images(30, 2)}
    asked = []
    monkeypatch.setattr(digit_scenes, 'read_split', lambda subset, split, root: asked.append(split) or splits[split])
    monkeypatch.setattr(digit_scenes, 'KNN_DENSE_IMAGES', 20)
    scores = digit_scenes.score(digit_scenes.pixel_features(4), 'single', 'test')
    assert asked == ['train', 'val', 'test']
    assert scores['linear_all'] == scores['knn_all'] == 1
    assert scores['linear_pooled'] < 0.9  # the average of the patches does not tell left from right
    # A single patch tells bright from dark, not left from right: the background is right, the digits half of the time.
    assert 0.4 < scores['linear_miou'] < 0.9
    names = {'linear_all', 'knn_all', 'linear_pooled', 'knn_pooled', 'linear_miou', 'knn_miou', 'cosine_pooled'}
    assert set(scores) == names
    pooled = pooled_pixels(splits['test'].images)
    cosine = pooled @ pooled.T
    assert scores['cosine_pooled'] == pytest.approx(float(cosine.fill_diagonal_(0).sum()) / (30 * 29), abs=1e-5)
    asked.clear()
    digit_scenes.score(digit_scenes.pixel_features(4), 'single')
    assert asked == ['train', 'val']  # the test split is not touched


def test_chosen_scores(monkeypatch):
    splits = {'train': images(60, 0), 'val': images(20, 1)}
    monkeypatch.setattr(digit_scenes, 'read_split', lambda subset, split, root: splits[split])
    monkeypatch.setattr(digit_scenes, 'KNN_DENSE_IMAGES', 20)
    extract = digit_scenes.pixel_features(4)
    plain = digit_scenes.score(extract, 'single')
    scores = digit_scenes.score(extract, 'single', poolings=['max', 'all', 'cls'], leave_one_out=True, rankme=True)
    assert list(scores) == [
        *('linear_max', 'knn_max', 'leave_one_out_max', 'rankme_max'),
        *('linear_all', 'knn_all', 'leave_one_out_all', 'rankme_all'),  # pixels have no CLS
        *('linear_miou', 'knn_miou'),
    ]
    assert all(scores[name] == plain[name] for name in ('linear_all', 'knn_all', 'linear_miou', 'knn_miou'))
    every = extract(splits['val'].images)
    for name in ('max', 'all'):
        features = every.pool(name)
        cosine = torch.nn.functional.cosine_similarity(features.unsqueeze(0), features.unsqueeze(1), dim=-1)
        nearest = splits['val'].labels[cosine.fill_diagonal_(-2).argmax(dim=1)]
        assert scores[f'leave_one_out_{name}'] == float((nearest == splits['val'].labels).double().mean())
        assert scores[f'rankme_{name}'] == pytest.approx(float(rankme(features)), rel=1e-6)
    assert 1 < scores['rankme_max'] < scores['rankme_all'] <= 20.001


def test_the_score_tool_passes_its_options_on(tmp_path, monkeypatch, capsys):
    splits = {'train': images(60, 0), 'val': images(20, 1)}
    monkeypatch.setattr(digit_scenes, 'read_split', lambda subset, split, root: splits[split])
    monkeypatch.setattr(digit_scenes, 'KNN_DENSE_IMAGES', 20)
    args = ['--pixels', '4', '--pool', 'cls', 'pooled', '--rankme', '--leave-one-out']
    monkeypatch.setattr(sys, 'argv', ['score_digit_scenes.py', *args, '--out', str(tmp_path / 'a.json')])
    load_tool('analysis_tools/score_digit_scenes').main()
    assert 'There are no features cls of this model.' in capsys.readouterr().out
    extract = digit_scenes.pixel_features(4)
    expected = digit_scenes.score(extract, 'single', poolings=['pooled'], leave_one_out=True, rankme=True)
    assert json.loads((tmp_path / 'a.json').read_text()) == expected
    assert 'rankme_pooled' in expected


def test_the_validation_split_chooses_the_penalty(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 30, generator=rng), torch.randint(3, (40,), generator=rng)
    val, test = torch.randn(200, 30, generator=rng), torch.randn(100, 30, generator=rng)
    scale = Standardizer(x)
    by_penalty = {}
    for c in (1e-4, 1e-1):
        weight = fit_logistic_regression(scale(x), y, 3, c, max_iter=500)
        by_penalty[c] = predict(weight, scale(val)), predict(weight, scale(test))
    assert (by_penalty[1e-4][0] != by_penalty[1e-1][0]).float().mean() > 0.1
    monkeypatch.setattr(digit_scenes, 'PENALTIES', (1e-4, 1e-1))
    for val_labels, test_labels in by_penalty.values():
        assert digit_scenes.best_linear_accuracy(x, y, val, val_labels, test, test_labels) > 0.95


def compare(*args):
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    command = [sys.executable, str(ROOT / 'tools/misc/compare.py'), *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_command(tmp_path):
    """Results are of all that is done, whatever is asked to run; names that do not exist run nothing."""
    spec = tmp_path / 'spec.py'
    spec.write_text(
        "title, seeds, figure_scores = 'T', [0, 1], ['x']\n"
        "subsets = {'single': {'a': dict(pixels=4), 'b': dict(config='configs/mae/digits.py', train=False)}}\n"
    )
    for arm, seed, value in (('a', 0, 0.25), ('b', 0, 0.5), ('b', 1, 0.75)):
        scores = tmp_path / f'out/val/single/{arm}/seed_{seed}/scores.json'
        scores.parent.mkdir(parents=True)
        scores.write_text(json.dumps({'x': value}))
    done = compare(spec, '--work-dir', tmp_path / 'out', '--only', 'a')
    assert done.returncode == 0, done.stderr
    assert '1 runs, 1 done already' in done.stdout
    results = json.loads((tmp_path / 'out/val/results.json').read_text())['results']
    assert results == {'single': {'a': {'x': [0.25]}, 'b': {'x': [0.5, 0.75]}}}
    assert '| b | 0.625 ± 0.177 |' in (tmp_path / 'out/val/table.md').read_text()
    assert (tmp_path / 'out/val/figure.png').exists()
    stored = Config.fromfile(tmp_path / 'out/val/configs/single_b.py')
    assert stored.model == Config.fromfile(ROOT / 'configs/mae/digits.py').model
    before = (tmp_path / 'out/val/results.json').read_text()
    for args, message in (
        ((spec, '--only', 'c'), 'error: --only c: there are a, b, single.'),
        ((spec, '--jobs', '0'), 'error: argument --jobs: it must be a whole number of at least 1, not 0'),
        ((ROOT / 'configs/mae/digits.py',), 'is no specification of a comparison: it has no figure_scores'),
    ):
        failed = compare(*args, '--work-dir', tmp_path / 'out')
        assert failed.returncode == 2
        assert message in failed.stderr
    assert (tmp_path / 'out/val/results.json').read_text() == before


def test_the_specification_reads_without_an_environment(tmp_path):
    failed = compare(ROOT / 'projects/digit_scenes/spec.py', '--work-dir', tmp_path, '--only', 'nothing')
    assert 'there are CAPI, MAE' in failed.stderr


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ([], 'Give a model or --pixels'),
        (['--pixels', '4', '--cfg-options', 'a=1'], '--cfg-options changes a config'),
        (['--pixels', '4', '--device', 'nowhere'], '--device nowhere cannot be used'),
        (['--pixels', '4', '--pool', 'pooled', 'mean'], "There is no feature 'mean'"),
    ],
)
def test_wrong_use_of_the_score_tool(args, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['score_digit_scenes.py', *args])
    with pytest.raises(SystemExit) as exit_info:
        load_tool('analysis_tools/score_digit_scenes').main()
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_specification_of_the_repository():
    from mmmim.config.cfg_options import merge_cfg_options
    from mmmim.config.read import load_config

    spec = load_config(str(ROOT / 'projects/digit_scenes/spec.py'))
    jobs = make_jobs(spec, spec.seeds, Path('/nowhere'), 'test')
    assert len(jobs) == 2 * (1 + 3 * 5)
    for arms in spec.subsets.values():
        for arm in arms.values():
            if 'config' in arm:  # every change is one of a key that exists
                cfg = load_config(str(ROOT / arm.config))
                merge_cfg_options(cfg, comparison._options(arm.get('options', {})))
