"""States of trainings that were poisoned: every one is refused by name before a step is taken."""

import copy

import pytest
import torch
from torch import nn

from mmmim.engine.lars import LARS
from mmmim.engine.resume_state import check_optimizer, parameters_without_state
from mmmim.utils import InputError
from tests.runs import load, log_of, start
from tests.test_engine.toy_training import toy_config


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A checkpoint after three steps of AdamW, on 6 parameters."""
    folder = tmp_path_factory.mktemp('trained')
    start(toy_config(folder, train_cfg__max_iters=3))
    return load(folder / 'iter_3.pth')


def resume(checkpoint, folder, max_iters=4, lr=0.01):
    torch.save(checkpoint, folder / 'saved.pth')
    options = {'train_cfg__max_iters': max_iters, 'optim_wrapper__optimizer__lr': lr}
    return start(toy_config(folder / 'out', resume=True, load_from=str(folder / 'saved.pth'), **options))


def moment(checkpoint, number=0, key='exp_avg', **changes):
    state = checkpoint['optimizer']['state'][number]
    state[key] = changes['value'] if 'value' in changes else changes['change'](state[key])


def group(**changes):
    return lambda c: c['optimizer']['param_groups'][0].update(changes)


def meta(**changes):
    return lambda c: c['meta'].update(changes)


def with_nan(value):
    value = value.clone()
    value.view(-1)[-1] = torch.nan
    return value


POISON = {
    'one value for a matrix': (lambda c: moment(c, value=torch.zeros(1)), 'exp_avg of body.weight has the shape [1]'),
    'second moment': (lambda c: moment(c, 5, 'exp_avg_sq', value=torch.zeros(0)), 'exp_avg_sq of out.bias has'),
    'repeated': (lambda c: moment(c, value=torch.zeros(1, 1).expand(3, 3)), 'has values for a part of it only'),
    'NaN': (lambda c: moment(c, change=with_nan), 'exp_avg of body.weight holds NaN'),
    'too large': (lambda c: moment(c, change=lambda v: v.double() + 1e300), 'too large for torch.float32'),
    'negative': (lambda c: moment(c, 0, 'exp_avg_sq', change=lambda v: v - 1), 'exp_avg_sq of body.weight holds neg'),
    'integers': (lambda c: moment(c, change=torch.Tensor.long), 'exp_avg of body.weight holds torch.int64'),
    'complex': (lambda c: moment(c, change=lambda v: v + 0j), 'exp_avg of body.weight holds torch.complex64'),
    'a number': (lambda c: moment(c, value=3.0), 'exp_avg of body.weight is a float'),
    'sparse': (lambda c: moment(c, change=torch.Tensor.to_sparse), 'exp_avg of body.weight is no dense tensor'),
    'step is NaN': (lambda c: moment(c, 0, 'step', value=torch.tensor(torch.nan)), 'step of body.weight holds NaN'),
    'step is negative': (lambda c: moment(c, 0, 'step', value=torch.tensor(-1.0)), 'step of body.weight is [-1.0]'),
    'no second moment': (lambda c: c['optimizer']['state'][1].pop('exp_avg_sq'), 'body.bias has no exp_avg_sq'),
    'no state of one': (lambda c: c['optimizer']['state'].pop(3), 'the optimiser has no state of norm.bias'),
    'state is a text': (lambda c: c['optimizer']['state'].update({1: 'x'}), 'the state of body.bias is a str'),
    'optimizer is a list': (lambda c: c.update(optimizer=[]), 'optimizer has no state'),
    'no groups': (lambda c: c['optimizer'].update(param_groups=None), 'param_groups is no list'),
    'a group fewer': (lambda c: c['optimizer'].update(param_groups=[]), 'optimiser or schedulers differ'),
    'numbers twice': (group(params=[0] * 6), 'is not of the parameters'),
    'states of others': (lambda c: c['optimizer']['state'].update({99: {}}), 'is not of the parameters'),
    'rate is NaN': (group(lr=float('nan')), 'param_groups is no list'),
    'rate is negative': (group(lr=torch.tensor(-1.0)), 'param_groups is no list'),
    'no rate': (lambda c: c['optimizer']['param_groups'][0].pop('lr'), 'param_groups is no list'),
    'base is a number': (lambda c: c['optimizer'].update(base_param_settings=5), 'base_param_settings has no rate'),
    'meta is a list': (lambda c: c.update(meta=[]), 'meta is a list'),
    'iter is a text': (meta(iter='3'), "meta.iter is '3'"),
    'iter is no count': (meta(iter=2**70), 'meta.iter is 11805'),
    'hub with numbers as keys': (lambda c: c['message_hub']['runtime_info'].update({5: 6}), 'message_hub has keys'),
    'epoch is a tensor': (meta(epoch=torch.zeros(1)), 'meta.epoch is tensor'),
    'seed is a text': (meta(seed='a'), "meta.seed is 'a'"),
    'batch is a text': (meta(global_batch_size='a'), "meta.global_batch_size is 'a'"),
    'hub is a list': (lambda c: c.update(message_hub=[]), 'message_hub has no log_scalars'),
    'hub of lists': (lambda c: c['message_hub'].update(runtime_info=[]), 'message_hub has no log_scalars'),
    'mmmim is a text': (lambda c: c.update(mmmim='x'), 'mmmim is a str'),
    'config is a tensor': (lambda c: c['mmmim'].update(config=torch.zeros(2, 2)), 'mmmim.config is a Tensor'),
    'config is a text': (lambda c: c['mmmim'].update(config='x'), 'mmmim.config is a str'),
    'scheduler is a text': (lambda c: c.update(param_schedulers=['x']), 'param_schedulers holds a str'),
    'scheduler is replaced': (lambda c: c['param_schedulers'][0].update(step=1), 'param_schedulers has step=1'),
    'step of a scheduler': (lambda c: c['param_schedulers'][0].update(last_step='x'), "last_step='x'"),
    'rates of a scheduler': (lambda c: c['param_schedulers'][0].update(base_values=[float('nan')]), 'base_values'),
    'weights are None': (lambda c: c.update(state_dict=None), 'state_dict is None'),
    'names are numbers': (lambda c: c.update(state_dict={1: torch.zeros(1)}), 'holds no weights'),
    'NaN weight': (lambda c: c['state_dict'].update({'out.bias': torch.tensor([torch.nan])}), 'out.bias holds NaN'),
    'NaN buffer': (lambda c: c['state_dict'].update({'norm.running_var': torch.full((3,), torch.nan)}), 'running_var'),
    'complex weight': (lambda c: c['state_dict'].update({'out.bias': torch.ones(1) + 0j}), 'complex numbers'),
}  # fmt: skip


@pytest.mark.parametrize('name', POISON)
def test_poisoned_states_are_refused(trained, tmp_path, name):
    change, message = POISON[name]
    poisoned = copy.deepcopy(trained)
    change(poisoned)
    with pytest.raises(InputError) as error:
        resume(poisoned, tmp_path)
    assert message in str(error.value)
    assert 'saved.pth' in str(error.value)
    assert not list((tmp_path / 'out').glob('iter_*.pth'))


@pytest.mark.parametrize(
    ('kind', 'options'),
    [
        (torch.optim.AdamW, {'fused': True, 'amsgrad': True}),
        (torch.optim.SGD, {'momentum': 0.9, 'fused': True}),
        (torch.optim.SGD, {}),
        (torch.optim.RMSprop, {'momentum': 0.5, 'centered': True}),
        (torch.optim.Adafactor, {}),
        (LARS, {}),
    ],
)
def test_states_of_every_optimizer_are_compared(kind, options):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].bias.requires_grad_(False)  # a parameter without a gradient has no state, and that is right
    optimizer = kind(model.parameters(), lr=0.1, **options)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    fresh = kind(model.parameters(), lr=0.1, **options)
    without = parameters_without_state(state)
    check_optimizer(state, fresh, model, without, 'x.pth')
    check_optimizer(copy.deepcopy(state), fresh, model, None, 'x.pth')
    for key, value in state['state'].get(0, {}).items():
        if isinstance(value, torch.Tensor) and value.shape == (4, 3):
            poisoned = copy.deepcopy(state)
            poisoned['state'][0][key] = torch.zeros(4)
            with pytest.raises(InputError, match=rf'{key} of 0\.weight has the shape \[4\]'):
                check_optimizer(poisoned, fresh, model, without, 'x.pth')


def test_the_state_of_another_optimizer_is_refused():
    model = nn.Linear(3, 4)
    model(torch.ones(2, 3)).sum().backward()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sgd.step()
    with pytest.raises(InputError, match='the state of weight has no step, which AdamW needs'):
        check_optimizer(sgd.state_dict(), torch.optim.AdamW(model.parameters()), model, [], 'x.pth')


def test_a_schedule_that_keeps_its_length_is_named(trained, tmp_path):
    """mmengine's schedulers go on as they were saved: a longer training would have the last rate to its end."""
    for folder in ('same', 'other'):
        (tmp_path / folder).mkdir()
    words = 'goes on as it was saved'
    runner = resume(trained, tmp_path / 'other', max_iters=6, lr=0.02)
    assert words not in log_of(resume(trained, tmp_path / 'same', max_iters=3))
    (line,) = [line for line in log_of(runner).splitlines() if words in line]
    for part in ('The CosineAnnealingLR of lr', 'end 3 instead of 6', 'base_values [0.01] instead of [0.02]'):
        assert part in line
    assert 'T_max' not in line  # the same in both
    assert runner.iter == 6
    assert runner.optim_wrapper.get_lr()['lr'] == [trained['param_schedulers'][0]['_last_value'][0]]
