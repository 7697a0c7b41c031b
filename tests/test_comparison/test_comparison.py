import json
import re
import sys
from pathlib import Path

import pytest
import torch

from mmmim.comparison import jobs as comparison
from mmmim.comparison.jobs import Job, collect, make_jobs, needed, pictures, prepare, run_jobs
from mmmim.comparison.record import changes, option_words
from mmmim.comparison.tables import arguments_table, tables
from mmmim.config.cfg_options import merge_cfg_options
from mmmim.config.read import load_config
from mmmim.evaluation.measures.rankme import rankme
from mmmim.evaluation.probes import fashion_scenes
from mmmim.features.labelled_images import LabelledImages
from mmmim.utils import InputError
from mmmim.utils.tables import markdown_table
from mmmim.visualization.bars import draw_bars
from tests.paths import ROOT, load_tool
from tests.toys import generator

SPEC = {
    'subsets': {
        'single': {
            'raw pixels': {'pixels': 4},
            'random, init': {'config': 'configs/mae/small.py', 'train': False, 'options': {'model.backbone.depth': 2}},
            'MAE': {'config': 'configs/mae/small.py', 'options': {'train_cfg.max_iters': 7}},
            'own': {'config': 'configs/capi/small.py', 'own_test': True, 'watch': True},
        }
    }
}


def test_jobs_of_a_specification(tmp_path):
    jobs = make_jobs(SPEC, [3, 5], tmp_path, 'val')
    seeds = {'raw pixels': [3], 'random, init': [3, 5], 'MAE': [3, 5], 'own': [3, 5]}
    assert [(job.arm, job.seed) for job in jobs] == [(arm, seed) for arm in seeds for seed in seeds[arm]]
    (score,) = jobs[2].commands
    assert score[2:5] == ['configs/mae/small.py', '--seed', '5']
    assert score[-2:] == ['--cfg-options', 'model.backbone.depth=2']
    train, score = jobs[4].commands
    trained = tmp_path / 'runs/single/MAE/seed_5'
    assert {'randomness.seed=5', 'train_cfg.max_iters=7', '--resume', str(trained)} <= set(train)
    assert 'default_hooks.probe=None' in train
    assert score[2] == str(trained / 'iter_7.pth')
    assert score[-1] == str(jobs[4].scores)
    assert jobs[4].scores.parent == tmp_path / 'val/single/MAE/seed_5'
    train, test = jobs[-1].commands
    assert 'default_hooks.probe=None' not in train
    assert test[1] == 'tools/test.py'
    assert 'test_dataloader.dataset.dataset.split=val' in test
    assert test[3].endswith('iter_1200.pth')


def test_scores_of_a_specification(tmp_path):
    def jobs(scores):
        return make_jobs({**SPEC, 'scores': scores}, [3], tmp_path, 'val')

    for scores, options in (
        ({'poolings': ('cls', 'top10'), 'leave_one_out': True}, '--pool cls top10 --leave-one-out'),
        ({'rankme': True, 'leave_one_out': False, 'weights': 'student'}, '--weights student --rankme'),
    ):
        for job, plain in zip(jobs(scores), jobs({}), strict=True):
            last, before = (' '.join(commands[-1]) for commands in (job.commands, plain.commands))
            before = before.replace(str(plain.scores), str(job.scores))
            assert last == (before if job.arm == 'own' else before.replace('--subset', f'{options} --subset'))
            assert job.commands[:-1] == plain.commands[:-1]
    for scores, message in (
        ({'pooling': ['cls']}, 'scores: there is no pooling: use poolings, weights, leave_one_out, rankme'),
        ({'poolings': ['mean']}, "There is no feature 'mean'"),
    ):
        with pytest.raises(InputError, match=message):
            jobs(scores)


def test_jobs_run_once_and_are_collected(tmp_path, capsys):
    jobs = [Job('single', 'a', seed, tmp_path / str(seed)) for seed in range(3)]
    for job in jobs:
        write = f'import pathlib; pathlib.Path({str(job.scores)!r}).write_text({json.dumps({"x": job.seed / 10})!r})'
        job.commands = [[sys.executable, '-c', 'print("first")'], [sys.executable, '-c', write]]
    run_jobs(jobs, parallel=2)
    assert '3 runs, 0 done already' in capsys.readouterr().out
    assert collect(jobs) == {'single': {'a': {'x': [0.0, 0.1, 0.2]}}}
    jobs.append(Job('single', 'b', 0, tmp_path / 'b'))
    for job in jobs:
        job.commands = [[sys.executable, '-c', 'raise ValueError("the reason")']]
    with pytest.raises(InputError, match=r'(?s)single, b, seed 0 failed; its log .*log\.txt ends in.*the reason'):
        run_jobs(jobs, parallel=2)  # the others have nothing left to do
    assert '4 runs, 3 done already' in capsys.readouterr().out


def test_the_time_of_a_training_is_kept(tmp_path):
    """Also of one that was interrupted: processor time of all its parts."""
    burn = 'import time\nwhile time.process_time() < 0.3: pass\nraise SystemExit({})'
    job = Job('single', 'a', 0, tmp_path / 'a', trained=tmp_path / 'trained', trained_by='x')
    write = f'import pathlib; pathlib.Path({str(job.scores)!r}).write_text("{{}}")'
    for code in (1, 0):
        job.commands = [[sys.executable, '-c', burn.format(code)], [sys.executable, '-c', write]]
        if code:
            with pytest.raises(InputError, match='failed'):
                job.run()
        else:
            job.run()
    assert 0.6 <= 60 * json.loads(job.scores.read_text())['train_minutes'] < 10


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
    spec = {'pictures': {'{work_dir}/a.png': ['tools/draw.py', '{work_dir}/a.pth', '--out', '{work_dir}']}}
    assert pictures(spec, Path('/w')) == {'/w/a.png': ['tools/draw.py', '/w/a.pth', '--out', '/w']}
    assert pictures({}, Path('/w')) == {}


def test_only_what_is_needed_is_prepared():
    """Of the codebook and the teachers of the comparison, what the arms that run name in their configs."""
    spec = load_config(str(ROOT / 'projects/fashion_scenes/spec.py'))
    arms, files = spec.subsets.single, spec.prepare

    def kinds(*names):
        return [file.rpartition('/')[0] for file in needed(files, [arms[name] for name in names])]

    assert kinds() == kinds('raw pixels', 'MAE', 'CAPI') == []
    assert kinds('BEiT v2', 'MAE') == ['data']
    assert kinds('frozen CAPI', 'MILAN, frozen PiLaMIM') == ['work_dirs/capi_small', 'work_dirs/pilamim_small']


def test_table_and_figure(tmp_path):
    results = {'single': {'b': {'x': [0.5, 0.7], 'y': [0.25, 0.25]}, 'a': {'x': [0.125]}}}
    assert tables(results, {'single': ['a', 'b', 'c']})['single'].splitlines() == [
        '|   |             x |             y |',
        '|---|--------------:|--------------:|',
        '| a |         0.125 |               |',
        '| b | 0.600 ± 0.141 | 0.250 ± 0.000 |',
    ]
    draw_bars(results, {'single': ['a', 'b', 'c']}, ['x', 'y'], tmp_path / 'bars.png', 'title')
    assert (tmp_path / 'bars.png').read_bytes()[:4] == b'\x89PNG'
    assert markdown_table(['name', 'x'], [['a', '1.25'], ['longer', '2']]) == (
        '| name   |    x |\n|--------|-----:|\n| a      | 1.25 |\n| longer |    2 |'
    )


def test_columns_of_a_table_are_chosen_and_large_values_have_one_decimal():
    results = {'s': {'a': {'x': [0.5], 'rankme': [17.25, 20.75]}, 'b': {'rankme': [1.0], 'z': [0.1]}}}
    assert tables(results, {'s': ['a', 'b']}, ['rankme', 'none', 'x'])['s'].splitlines() == [
        '|   |     RankMe |     x |',
        '|---|-----------:|------:|',
        '| a | 19.0 ± 2.5 | 0.500 |',
        '| b |        1.0 |       |',
    ]


def test_arguments_are_beyond_the_spread_or_not():
    results = {'s': {'new': {'up': [0.6, 0.7], 'down': [0.1, 0.2], 'same': [0.5, 0.7], 'one': [0.9]}}}
    results['s']['old'] = {'up': [0.4, 0.5], 'down': [0.3, 0.5], 'same': [0.4, 0.6], 'one': [0.1], 'other': [0.3]}
    row = {'says': 'it is', 'subset': 's', 'better': 'new', 'than': 'old'}
    missing = {**row, 'than': 'not scored'}
    table = arguments_table(results, [row, missing], ['up', 'down', 'same', 'one', 'other'])
    assert table.splitlines()[2:] == ['| it is | **+0.200** | **-0.250** | +0.100 | +0.800 |       |']
    del row['than']
    with pytest.raises(InputError, match='has no than'):
        arguments_table(results, [row], ['up'])


@pytest.mark.parametrize('path', sorted((ROOT / 'projects').glob('*/*spec.py')), ids=lambda path: path.stem)
def test_arguments_of_specifications_name_arms_of_theirs(path):
    spec = load_config(str(path))
    for argument in spec.get('arguments', ()):
        assert {argument['better'], argument['than']} <= {*spec.subsets[argument['subset']]}


def images(n, seed):
    """Images of two classes as bright left or right halves; the label map marks them."""
    rng = generator(seed)
    labels = torch.randint(2, (n,), generator=rng)
    pixels = torch.randint(0, 60, (n, 3, 8, 8), generator=rng).to(torch.uint8)
    maps = torch.ones(n, 8, 8, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        pixels[i, :, :, 4 * label : 4 * label + 4] += 150
        maps[i, :, 4 * label : 4 * label + 4] = 2 + label
    return LabelledImages(pixels, labels, maps, (0,))


@pytest.fixture
def splits(monkeypatch):
    """Small splits, and the names of those that were read."""
    made, asked = {'train': images(60, 0), 'val': images(20, 1), 'test': images(30, 2)}, []
    monkeypatch.setattr(fashion_scenes, 'read_split', lambda subset, split, root: asked.append(split) or made[split])
    monkeypatch.setattr(fashion_scenes, 'KNN_DENSE_IMAGES', 20)
    return made, asked


def cosine(features):
    return torch.nn.functional.cosine_similarity(features.unsqueeze(0), features.unsqueeze(1), dim=-1)


def test_score_of_pixels(splits):
    extract = fashion_scenes.pixel_features(4)
    scores = fashion_scenes.score(extract, 'single', 'test')
    assert splits[1] == ['train', 'val', 'test']
    assert scores['linear_all'] == scores['knn_all'] == 1
    assert scores['linear_pooled'] < 0.9  # the average of the patches does not tell left from right
    # A single patch tells bright from dark, not left from right: the bright half is right half of the time.
    assert 0.4 < scores['linear_miou'] < 0.9
    names = {'linear_all', 'knn_all', 'linear_pooled', 'knn_pooled', 'linear_miou', 'knn_miou', 'cosine_pooled'}
    assert set(scores) == names
    pairs = cosine(extract(splits[0]['test'].images).pool('pooled').double())
    assert scores['cosine_pooled'] == pytest.approx(float(pairs.fill_diagonal_(0).sum()) / (30 * 29), abs=1e-5)


def test_chosen_scores(splits):
    extract, val = fashion_scenes.pixel_features(4), splits[0]['val']
    plain = fashion_scenes.score(extract, 'single')
    assert splits[1] == ['train', 'val']  # the test split is not touched
    scores = fashion_scenes.score(extract, 'single', poolings=['max', 'all', 'cls'], leave_one_out=True, rankme=True)
    measures = ('linear', 'knn', 'leave_one_out', 'rankme')  # pixels have no CLS
    assert list(scores) == [f'{m}_{f}' for f in ('max', 'all') for m in measures] + ['linear_miou', 'knn_miou']
    assert all(scores[name] == plain[name] for name in ('linear_all', 'knn_all', 'linear_miou', 'knn_miou'))
    for name in ('max', 'all'):
        features = extract(val.images).pool(name)
        nearest = val.labels[cosine(features).fill_diagonal_(-2).argmax(dim=1)]
        assert scores[f'leave_one_out_{name}'] == float((nearest == val.labels).double().mean())
        assert scores[f'rankme_{name}'] == pytest.approx(float(rankme(features)), rel=1e-6)


def score_tool(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['score_fashion_scenes.py', *map(str, args)])
    load_tool('analysis_tools/score_fashion_scenes').main()


def test_the_score_tool_passes_its_options_on(tmp_path, monkeypatch, capsys, splits):
    args = ['--pixels', '4', '--pool', 'cls', 'pooled', '--rankme', '--leave-one-out', '--out', tmp_path / 'a.json']
    score_tool(monkeypatch, *args)
    assert 'There are no features cls of this model.' in capsys.readouterr().out
    extract = fashion_scenes.pixel_features(4)
    expected = fashion_scenes.score(extract, 'single', poolings=['pooled'], leave_one_out=True, rankme=True)
    assert json.loads((tmp_path / 'a.json').read_text()) == expected


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
    with pytest.raises(SystemExit) as exit_info:
        score_tool(monkeypatch, *args)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def compare(tmp_path, monkeypatch):
    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['compare.py', '--work-dir', str(tmp_path / 'out'), *map(str, args)])
        load_tool('misc/compare').main()

    return run


def test_the_command(tmp_path, compare, capsys):
    """Results are of all that is done, whatever is asked to run; names that do not exist run nothing."""
    spec, out = tmp_path / 'spec.py', tmp_path / 'out/val'
    spec.write_text(
        "title, seeds, figure_scores = 'T', [0, 1], ['x']\n"
        "subsets = {'single': {'a': dict(pixels=4), 'b': dict(config='configs/mae/small.py', train=False)}}\n"
    )
    for job in make_jobs(load_config(str(spec)), [0, 1], tmp_path / 'out', 'val'):
        job.folder.mkdir(parents=True)
        job.scores.write_text(json.dumps({'x': {'a': 0.25, 'b': 0.5}[job.arm] + 0.25 * job.seed}))

    compare(spec, '--only', 'a')
    assert '1 runs, 1 done already' in capsys.readouterr().out
    results = json.loads((out / 'results.json').read_text())['results']
    assert results == {'single': {'a': {'x': [0.25]}, 'b': {'x': [0.5, 0.75]}}}
    assert '| b | 0.625 ± 0.177 |' in (out / 'table.md').read_text()
    assert (out / 'figure.png').exists()
    assert changes(out / 'results.json', load_config(str(spec))) == []
    # Another work folder goes on from the record: what it holds is not run again.
    capsys.readouterr()
    compare(spec, '--continue-from', out / 'results.json', '--work-dir', tmp_path / 'other')
    assert re.search(r'3 runs are those of .*\n3 runs, 3 done already', capsys.readouterr().out)
    assert json.loads((tmp_path / 'other/val/results.json').read_text())['results'] == results
    before = (out / 'results.json').read_text()
    for args, message in (
        ((spec, '--only', 'c'), 'error: --only c: there are a, b, single.'),
        ((spec, '--continue-from', spec), 'spec.py is no record that keeps the scores of its runs'),
        ((spec, '--jobs', '0'), 'error: argument --jobs: it must be a whole number of at least 1, not 0'),
        ((ROOT / 'configs/mae/small.py',), 'is no specification of a comparison: it has no figure_scores'),
    ):
        with pytest.raises(SystemExit) as exit_info:
            compare(*args)
        assert exit_info.value.code == 2
        assert message in capsys.readouterr().err
    assert (out / 'results.json').read_text() == before


def test_the_specification_of_the_repository(compare, capsys):
    """Every change is one of a key that exists."""
    path = ROOT / 'projects/fashion_scenes/spec.py'
    with pytest.raises(SystemExit):
        compare(path, '--only', 'nothing')
    assert 'there are BEiT, BEiT v2, BootMAE, CAPI' in capsys.readouterr().err
    spec = load_config(str(path))
    arms = {subset: len(arms) for subset, arms in spec.subsets.items()}
    assert len(make_jobs(spec, spec.seeds, Path('/nowhere'), 'test')) == sum(1 + 3 * (n - 1) for n in arms.values())
    arms = [arm for arms in spec.subsets.values() for arm in arms.values() if 'config' in arm]
    for config, *words in {(arm.config, *option_words(arm.get('options', {}))) for arm in arms}:
        merge_cfg_options(load_config(str(ROOT / config)), words)
