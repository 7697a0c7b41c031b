"""Tools that measure time: that they measure all of it, and what they say."""

import argparse
import functools
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmmim.cost import step
from mmmim.cost.flop_counter import make_flop_counter
from mmmim.cost.plain_loops import PLAIN as PLAIN_LOOPS
from mmmim.engine import Runner
from tests.paths import ROOT, load_tool

TRAIN, DATA, PROBES, VARIANTS, PLAIN = (
    f'analysis_tools/benchmark_{name}' for name in ('train', 'data', 'probes', 'variants', 'plain')
)


def test_parts_are_the_iteration(tool, monkeypatch):
    found, measure = [], step.measure

    def noted(runner, *args):
        found.append((runner, measure(runner, *args), list(Path(runner.work_dir).glob('*.pth'))))
        return found[0][1]

    monkeypatch.setattr(step, 'measure', noted)
    monkeypatch.setattr(step, 'matmul_peak', functools.partial(step.matmul_peak, seconds=0))
    monkeypatch.setattr(logging, 'shutdown', lambda: None)  # of pytest's logs, too
    small = [
        'model.backbone.depth=2',
        'model.branches.capi.neck.depth=1',
        'model.branches.capi.head.num_prototypes=32',
        'model.branches.capi.target_generator.num_prototypes=32',
    ]
    sizes = ('--steps', '4', '--warmup', '1', '--batch', '4')
    text = tool(TRAIN, ROOT / 'configs/capi/small.py', *sizes, '--cfg-options', *small)
    ((runner, result, checkpoints),) = found
    assert (runner.iter, checkpoints) == (6, [])
    seconds = result['seconds']
    assert set(seconds) == {*step.PARTS, 'iteration', 'bare step'}
    assert all(value > 0 for value in seconds.values())
    # Medians of parts need not add up to the median, but each iteration does.
    for row in result['rows']:
        assert sum(row[part] for part in step.PARTS) == pytest.approx(row['iteration'])
    assert len(result['rows']) == result['steps'] == 4
    assert result['images_per_s'] == pytest.approx(4 / seconds['iteration'])
    assert result['memory'] > 10e6
    assert 1e8 < result['peak_flops'] < 1e15
    assert result['utilisation'] == pytest.approx(result['flops'] / seconds['iteration'] / result['peak_flops'])
    for part in (*step.PARTS, 'bare step', 'peak memory', 'of matrix products', torch.__version__):
        assert part in text


def test_flops_are_those_of_the_formula_whatever_is_recomputed():
    from mmmim.models.layers import Block, set_checkpointing

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block(32, 4)

        def train_step(self, batch, optim_wrapper):
            self.block(batch).sum().backward()

    model, x = Model(), torch.randn(2, 5, 32, requires_grad=True)
    # Forward, and twice as much backward: four products of the attention's width, two of the MLP's, and scores and
    # values of the attention, which flash attention computes once more in the backward pass.
    linear = 2 * 10 * 32 * (4 * 32 + 2 * 128)
    attention = 2 * 2 * 2 * 4 * 5 * 5 * 8
    for mode in (None, 'selective', 'full'):
        set_checkpointing(model, mode)
        assert step.step_flops(model, x, None) == 3 * linear + attention + 2.5 * attention
        assert model.block.checkpointing == mode


def test_every_pipeline_is_measured(tool):
    out = tool(DATA, '--number=6', '--repeats=1', '--workers=0', '--batch-size=3', '--size=32')
    rows = dict(re.findall(r'^\| (\S.*?) +\| +(\d+) \|', out, re.MULTILINE))
    ours = ['mmmim, pillow', 'mmmim, pillow decoder', 'mmmim']
    assert list(rows) == ['mmpretrain, pillow', 'torchvision v2', *ours]
    assert all(int(rate) > 1 for rate in rows.values())
    assert re.search(r'torchvision v2 +\|.* 1\.00 \|', out)
    assert re.search(r'mmmim - \(mmmim, pillow\): at most [12] grey level', out)
    for fact in ('200 files of', '0 workers, batches of 3', 'simplejpeg', 'cores'):
        assert fact in out


def test_every_probe_is_measured(tool):
    small = '--train 300 --queries 50 --dim 16 --classes 5 --pixels 4 --repeats 1 --iterations 2 --files 5000'
    text = tool(PROBES, '--device', 'cpu', *small.split())
    for part in ('k-NN, cosine + l2, bfloat16', 'votes of 30 for 4 pixels', 'logistic regression, pass', 'peak memory'):
        assert part in text
    assert f'torch {torch.__version__}' in text
    assert '300 patches to learn from, 50 queries, width 16, 5 classes' in text
    shares = [line.split('|')[-2].strip() for line in text.splitlines() if line.startswith(('| k-NN', '| logistic'))]
    assert len(shares) == 6
    assert len(re.findall(r'^\| cache key, .* \d+ \| +\|$', text, re.MULTILINE)) == 2
    assert all(0 <= int(share.rstrip('%')) <= 100 for share in shares)


def test_weighted_knn_is_measured_beside_other_libraries(tool):
    small = '--weighted --device cpu --train 300 --queries 50 --dim 16 --classes 5 --repeats 1 --neighbours 3 200'
    out = tool(PROBES, *small.split())
    assert '300 images, 50 queries, width 16, 5 classes, on cpu' in out
    ways = re.findall(r'^\| (\d+) +\| +([^|]+) \| +[\d.]+ \| +\d+ \| +([\d.]+) \|$', out, re.MULTILINE)
    assert ways[:2] == [('3', 'mmmim', '1.00'), ('3', 'mmmim, votes', '1.00')]
    searches = [way for k, way, _ in ways if k == '200']
    assert 'scikit-learn' in searches
    assert out.count(': 100.00%') + 2 == len(searches) == len(ways) / 2
    assert ('faiss, votes' in searches) != ('faiss: not installed' in out)
    assert '--train 199: give 200 or more' in tool(PROBES, '--weighted', '--train', '199', code=2)


def test_the_sweep_is_measured_beside_single_heads(tool):
    small = '--sweep --device cpu --batch 2 --tokens 3 --dim 64 --classes 2 --iterations 1 --repeats 1'
    out = tool(PROBES, *small.split())
    assert '30 heads of each source, batches of 2, 3 tokens, width 64' in out
    rows = re.findall(r'^(\w+): at once ([\d.]+) s a step, one by one ([\d.]+) s, ratio ([\d.]+)$', out, re.MULTILINE)
    assert [name for name, *_ in rows] == ['cls', 'avg_patch', 'cls_avg_patch', 'patch', 'all']
    assert all(float(value) > 0 for row in rows for value in row[1:])


@pytest.mark.parametrize(
    ('name', 'option', 'value'),
    [
        (TRAIN, '--warmup', '-1'),
        (DATA, '--repeats', '0'),
        (PROBES, '--train', '29'),
        (PROBES, '--classes', '257'),
    ],
)
def test_numbers_that_measure_nothing(tool, name, option, value):
    config = [str(ROOT / 'configs/capi/small.py')] * (name == TRAIN)
    assert re.search(rf'{option}( |: ).*{value}', tool(name, *config, option, value, code=2))


def test_variants_are_measured_apart_and_one_that_fails_stops_none(tool, tmp_path):
    config, out = ROOT / 'configs/mae/small.py', tmp_path / 'out'
    small = ('model.backbone.depth=1', 'model.branches.pixels.neck.depth=1')
    sizes = ('--batch', '4', '--micro', '3', '--steps', '2', '--variants', 'eager', 'micro-batches')
    text = tool(VARIANTS, config, tmp_path / 'none.py', '--out', out, *sizes, '--cfg-options', *small)
    results = json.loads((out / 'results.json').read_text())
    eager, parts = (results[str(config)][name] for name in ('eager', 'micro-batches'))
    assert (eager['micro_batches'], parts['micro_batches'], eager['images']) == (1, 2, 4)
    assert eager['waiting'] == []
    ratio = parts['images_per_s'] / eager['images_per_s']
    assert re.search(rf'micro-batches +\| .* {ratio:.2f} \|', text)
    assert all('none.py' in result['failed'] for result in results[str(tmp_path / 'none.py')].values())
    assert (out / 'table.md').read_text().strip() in text
    # Five items of each, and what two, eight and 32 GPUs would take.
    items = re.findall(r'^\* `\S+small.py`, (\S+): (.*)$', text, re.MULTILINE)
    assert [(name, line.count('%')) for name, line in items] == [('eager', 5), ('micro-batches', 5)]
    paper = re.search(
        r'^\| `\S+small.py`, eager +\| +[\d.]+ \| +0\.0 \|(.*)$', text[text.index('On paper') :], re.MULTILINE
    )
    assert re.fullmatch(r'( +[\d.]+ \(\d+%\) \|){3}', paper[1])


def test_what_time_has_no_place_for_is_said(tool, tmp_path):
    text = tool(VARIANTS, ROOT / 'configs/mae/small.py', '--out', tmp_path, '--minutes', '0', '--variants', 'eager')
    assert 'not run: time was up' in text


def test_plain_loops_take_turns_with_configs():
    command = f'tools/{PLAIN}.py mae --width=64 --batch=2 --micro=1 --turns=1 --threads=1'
    done = subprocess.run([sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True, check=True)
    pattern = r'^\| mae +\| +(\S.*?) +\| +([\d.]+) \| +([\d.]+) \| +[\d.]+ GB \| +([\d.]+) \|$'
    rows = re.findall(pattern, done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == ['plain loop', 'whole batch', '`model.micro_batch_size=1`']
    assert rows[0][2:] == ('1.00', '1.00')
    assert all(float(value) > 0 for row in rows for value in row[1:])


def test_plain_loops_compute_what_configs_compute(monkeypatch):
    plain, counted = load_tool(PLAIN), {}
    monkeypatch.syspath_prepend(ROOT / 'tools/analysis_tools')
    args = argparse.Namespace(width=64, batch=2, turns=1)
    assert set(plain.METHODS) == set(PLAIN_LOOPS)
    for method in plain.METHODS:
        cfg = plain.build_config(method, args)
        data = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
        for name, one in {'plain': plain.plain_step(method, cfg, args), 'own': plain.own_step(cfg)}.items():
            with make_flop_counter() as counter:
                one(data)
            counted[method, name] = counter.get_total_flops()
        # Configs embed the patches that are seen, and compute of last blocks and decoders what is read.
        assert 0.85 < counted[method, 'own'] / counted[method, 'plain'] < 1


def test_what_has_no_plain_loop_is_said(tool):
    assert "'beit' has no plain loop: give mae, pilamim, ijepa" in tool(PLAIN, 'beit', code=2)
    assert '--width 65: give a multiple of 64' in tool(PLAIN, '--width=65', code=2)
