import json
import os

import pytest
from mmengine.visualization import Visualizer
from PIL import Image

from mmmim.evaluation.measures.expected import extremes
from mmmim.visualization import curves as curves_module
from mmmim.visualization.curves import _panels, draw_pictures, read_scalars


def log(folder, start, stop, loss, probes=(), health=()):
    """Rows as LoggerHook (every 10 iterations) and the hooks write them."""
    visualizer = Visualizer(vis_backends=[{'type': 'mmengine.LocalVisBackend'}], save_dir=str(folder))
    for step, values in probes:
        visualizer.add_scalars({f'probe/{key}': value for key, value in values.items()}, step=step)
    for step in range(start, stop + 1, 10):
        visualizer.add_scalars({'loss': loss, 'grad_norm': 1.0, 'base_lr': 0.1, 'iter': step}, step=step)
    for step, values in health:
        visualizer.add_scalars({f'health/{key}': value for key, value in values.items()} | {'iter': step}, step=step)


PROBES = [
    (0, {'student_quick_knn_pooled': 0.1}),
    (20, {'student_quick_knn_pooled': 0.2, 'teacher_quick_knn_pooled': 0.3}),
    (40, {'student_quick_knn_pooled': 0.4, 'teacher_quick_knn_pooled': 0.5}),
]
HEALTH = [(20, {'student_rankme_pooled': 5.0, 'teacher_rankme_pooled': 6.0, 'capi_target_entropy': 0.5})]


def test_a_resumed_run_replaces_what_comes_after_its_start(tmp_path):
    log(tmp_path / '1', 10, 40, 2.0, PROBES)
    log(
        tmp_path / '2', 30, 50, 1.0, [(20, {'student_quick_knn_pooled': 0.25}), (50, {'student_quick_knn_pooled': 0.6})]
    )
    # A probe that carries its iteration, as a row of training does, is not the start of the run.
    with open(next((tmp_path / '2').glob('vis_data/scalars.json')), 'a') as file:
        file.write(json.dumps({'probe/teacher_quick_linear_all': 0.1, 'iter': 0, 'step': 0}) + '\n')
    curves = read_scalars(tmp_path)
    assert [points.tolist() for points in curves['loss']] == [[10, 20, 30, 40, 50], [2, 2, 1, 1, 1]]
    assert [points.tolist() for points in curves['probe/student_quick_knn_pooled']] == [[0, 20, 50], [0.1, 0.25, 0.6]]
    assert curves['probe/teacher_quick_knn_pooled'][0].tolist() == [20]
    assert curves['probe/teacher_quick_linear_all'][0].tolist() == [0]


def test_order_titles_and_pairs_of_panels():
    expected = [
        ('loss', ['loss']),
        ('loss_capi', ['loss_capi']),
        ('gradient norm', ['grad_norm']),
        ('learning rate', ['base_lr']),
        ('validation: loss', ['val/loss']),
        ('cls_knn_fashion: k_10/accuracy/top1', ['probe/student_cls_knn_fashion/k_10/accuracy/top1']),
        ('quick k-NN, mIoU', ['probe/student_quick_knn_miou']),
        ('quick linear probe, all', ['probe/student_quick_linear_all', 'probe/teacher_quick_linear_all']),
        ('prototypes in use, capi', ['health/capi_prototypes_in_use']),
        ('gradient norm', ['health/grad_norm']),
        ('RankMe, pooled', ['health/student_rankme_pooled', 'health/teacher_rankme_pooled']),
        ('speed', ['images_per_s']),
    ]
    keys = [key for _, keys in expected for key in keys]
    panels = _panels({'a': dict.fromkeys(reversed(keys))})
    assert [(panel.title, [*panel.keys]) for panel in panels] == expected
    assert [*panels[7].keys.values()] == ['student', 'teacher']


def test_a_picture_for_each_kind_of_which_there_are_values(tmp_path):
    log(tmp_path / 'a' / '1', 10, 40, 2.0, PROBES, HEALTH)
    log(tmp_path / 'b' / '1', 10, 40, 2.0, PROBES)
    runs = {name: read_scalars(tmp_path / name) for name in 'ab'}
    written = draw_pictures({'b': runs['b']}, tmp_path / 'curves.png', title='b')
    assert [path.name for path in written] == ['curves.png', 'probes.png']
    written = draw_pictures(runs, tmp_path / 'both.png')
    assert [path.name for path in written] == ['both.png', 'both_probes.png', 'both_health.png']
    assert all(path.read_bytes()[:4] == b'\x89PNG' for path in written)


@pytest.mark.parametrize('suffix', ['png', 'svg'])
def test_a_healthy_run_is_one_picture_of_what_has_a_band(tmp_path, monkeypatch, suffix):
    titles = []
    draw = curves_module.draw_curves
    monkeypatch.setattr(
        curves_module,
        'draw_curves',
        lambda runs, *rest, **options: (titles.extend(p.title for p in _panels(runs)), draw(runs, *rest, **options)),
    )
    for seed in '01':
        log(tmp_path / seed / '1', 10, 40, 2.0 + int(seed), PROBES, HEALTH)
    runs = [read_scalars(tmp_path / seed) for seed in '01']
    path = tmp_path / f'curves.{suffix}'
    curves_module.draw_healthy('seed 0', runs[0], extremes(runs), path)
    assert {'loss', 'quick k-NN, pooled', 'RankMe, pooled'} <= {*titles}
    assert 'learning rate' not in titles
    assert path.stat().st_size > 1000
    if suffix == 'png':
        with Image.open(path) as image:
            assert len(image.convert('RGB').getcolors()) <= 64


@pytest.mark.parametrize('runs', [1, 2])
def test_legend_and_the_line_of_the_random_initialisation(tmp_path, monkeypatch, runs):
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, 'savefig', lambda self, *args, **kwargs: figures.append(self))
    log(tmp_path / '1', 10, 40, 2.0, PROBES, HEALTH)
    curves = read_scalars(tmp_path)
    draw_pictures(dict.fromkeys('ab'[:runs], curves), tmp_path / 'curves.png')
    texts = [[text.get_text() for legend in figure.legends for text in legend.get_texts()] for figure in figures]
    names = list('ab') if runs == 2 else []
    branches = [*names, 'student', 'teacher']
    assert texts == [names, [*branches, 'before training'], branches]
    dashed = [line for line in figures[1].axes[0].get_lines() if line.get_linestyle() == '--']
    assert [line.get_ydata()[0] for line in dashed] == [0.1] * runs


def test_damaged_lines_are_left_out(tmp_path):
    file = tmp_path / '1/vis_data/scalars.json'
    file.parent.mkdir(parents=True)
    good = b'\n{"iter": 2, "loss": 0.5}\n'
    for damage in (
        b'\xff\xfe',
        b'[1]\n5\nnull',
        b'[' * 100_000,
        b'{"iter": NaN, "loss": 1}',
        b'{"loss": 1%s}' % (b'0' * 400),
    ):
        file.write_bytes(damage + good)
        assert read_scalars(tmp_path)['loss'][1].tolist() == [0.5]
    file.unlink()
    os.mkfifo(file)
    assert read_scalars(tmp_path) == {}
