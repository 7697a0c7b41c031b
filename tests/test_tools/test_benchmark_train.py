import sys

import pytest
import torch

from mmmim.cost.step import PARTS, matmul_peak, measure, step_flops
from tests.paths import ROOT, load_tool

SMALL = [
    'model.backbone.depth=2',
    'model.branches.capi.neck.depth=1',
    'model.branches.capi.head.num_prototypes=32',
    'model.branches.capi.target_generator.num_prototypes=32',
]


@pytest.fixture
def tool(monkeypatch):
    module = load_tool('analysis_tools/benchmark_train')

    def config(work_dir, *args):
        config_file = str(ROOT / 'configs/capi/digits.py')
        monkeypatch.setattr(sys, 'argv', ['benchmark_train.py', config_file, *args])
        module.args = module.parse_args()
        return module.build_config(module.args, str(work_dir))

    module.config = config
    return module


def test_parts_are_the_iteration(tool, tmp_path):
    from mmmim.engine import Runner

    cfg = tool.config(tmp_path, '--steps', '4', '--warmup', '1', '--batch', '4', '--cfg-options', *SMALL)
    runner = Runner.from_cfg(cfg)
    result = measure(runner, 1)
    assert runner.iter == 6
    assert not list(tmp_path.glob('*.pth'))
    seconds = result['seconds']
    assert set(seconds) == {*PARTS, 'iteration', 'bare step'}
    assert all(value > 0 for value in seconds.values())
    # Medians of parts need not add up to the median, but each iteration does.
    for row in result['rows']:
        assert sum(row[part] for part in PARTS) == pytest.approx(row['iteration'])
    assert len(result['rows']) == result['steps'] == 4
    assert result['images_per_s'] == pytest.approx(4 / seconds['iteration'])
    assert result['memory'] > 10e6
    assert result['utilisation'] == pytest.approx(result['flops'] / seconds['iteration'] / result['peak_flops'])
    text = tool.report(tool.args, result)
    for part in (*PARTS, 'bare step', 'peak memory', 'of matrix products', torch.__version__):
        assert part in text


def test_flops_are_those_of_the_formula_whatever_is_recomputed(tmp_path):
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
    expected = 3 * linear + attention + 2.5 * attention
    for mode in (None, 'selective', 'full'):
        set_checkpointing(model, mode)
        assert step_flops(model, x, None) == expected
        assert model.block.checkpointing == mode


def test_matmul_peak():
    assert 1e8 < matmul_peak(torch.device('cpu'), torch.float32, seconds=0) < 1e15


@pytest.mark.parametrize(('option', 'value'), [('--steps', '0'), ('--batch', '0'), ('--warmup', '-1')])
def test_numbers_that_measure_nothing(tool, tmp_path, option, value, capsys):
    with pytest.raises(SystemExit):
        tool.config(tmp_path, option, value)
    assert f'argument {option}: it must be a whole number of at least' in capsys.readouterr().err
