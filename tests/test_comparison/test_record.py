"""What a record of a comparison keeps of what made it, and what is said where that has changed."""

import copy
import json
import sys

import pytest
from mmengine import Config

from mmmim.comparison.jobs import Job, make_jobs, restore
from mmmim.comparison.record import arm_config, changes, config_hash, describe, digest
from mmmim.config.read import load_config
from mmmim.utils import InputError
from tests.paths import ROOT, load_tool

SPEC = Config(
    {
        'seeds': [0],
        'scores': {'rankme': True},
        'prepare': {},
        'subsets': {
            'single': {
                'pixels': {'pixels': 4},
                'MAE': {'config': 'configs/mae/small.py', 'options': {'train_cfg.max_iters': 7}},
            }
        },
    }
)


def test_a_hash_is_of_what_a_training_of_a_comparison_reads():
    cfg = arm_config(SPEC.subsets.single.MAE)
    assert cfg.train_cfg.max_iters == 7
    found = config_hash(cfg)
    assert config_hash(Config(dict(reversed(cfg.to_dict().items())))) == found
    cfg.default_hooks.probe = cfg.default_hooks.health = cfg.probe_data = cfg.val_dataloader = None
    assert config_hash(cfg) == found
    cfg.optim_wrapper.optimizer.lr *= 1.0000001
    assert config_hash(cfg) != found
    assert digest({'a': (1, 2), 'b': None}) == digest({'b': None, 'a': [1, 2]}) != digest({'a': [2, 1], 'b': None})
    with pytest.raises(InputError, match='plain data only, not <object'):
        digest({'a': object()})


def test_what_has_changed_is_named(tmp_path):
    file = tmp_path / 'results.json'
    file.write_text(json.dumps(describe(SPEC)))
    assert json.loads(file.read_text())['spec'] == {key: SPEC.to_dict()[key] for key in ('subsets', 'scores', 'seeds')}
    assert changes(file, SPEC) == []
    spec = copy.deepcopy(SPEC)
    spec.scores.rankme = False
    spec.subsets.single.MAE.options['train_cfg.max_iters'] = 8
    spec.subsets.single.CAPI = {'config': 'configs/capi/small.py'}
    del spec.subsets.single['pixels']
    assert changes(file, spec) == [
        'scores: what is measured has changed',
        'single, pixels: no arm of the specification any more',
        'single, MAE: the config has changed',
        'single, CAPI: not in the record',
    ]
    for text in ('{"results": {}}', 'no record'):
        file.write_text(text)
        with pytest.raises(InputError, match=r'results\.json is no record that keeps'):
            changes(file, SPEC)


def test_scores_and_trainings_belong_to_what_made_them(tmp_path):
    """Another config, seed or option of the scores has scores of its own; a training of another config is not used."""

    def job(**changed):
        spec = copy.deepcopy(SPEC)
        spec.merge_from_dict(changed)
        return make_jobs(spec, [0], tmp_path, 'val')[-1]

    first = job()
    assert job().scores == first.scores
    for changed in ({'scores.rankme': False}, {'subsets.single.MAE.config': 'configs/mae/small_gpu.py'}):
        other = job(**changed)
        assert other.folder == first.folder
        assert other.scores != first.scores
    first.claim()
    first.claim()
    job(**{'scores.rankme': False}).claim()
    with pytest.raises(InputError, match=r'MAE/seed_0 holds a training of another config than single, MAE has now'):
        other.claim()
    unlabelled = Job('single', 'a', 0, tmp_path, trained=tmp_path / 'old', trained_by='x')
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old/iter_1.pth').touch()
    with pytest.raises(InputError, match='holds a training of another config'):
        unlabelled.run()


def test_a_record_tells_random_weights_from_what_is_trained_of_their_config(tmp_path):
    spec = copy.deepcopy(SPEC)
    spec.subsets = {
        'single': {
            'MAE': {'config': 'configs/mae/small.py'},
            'random': {'config': 'configs/mae/small.py', 'train': False},
        }
    }
    random, trained = make_jobs(spec, [0], tmp_path / 'first', 'val')
    record = tmp_path / 'results.json'
    record.write_text(json.dumps({'runs': {random.made_by: {'knn_pooled': 0.5}, trained.made_by: {'knn_pooled': 0.7}}}))
    again = make_jobs(spec, [0], tmp_path / 'second', 'val')
    assert restore(again, record) == 2
    assert [(job.arm, json.loads(job.scores.read_text())['knn_pooled']) for job in again] == [
        ('random', 0.5),
        ('MAE', 0.7),
    ]


SPECS = sorted(ROOT.glob('projects/*/*spec.py'))


@pytest.mark.parametrize('spec', SPECS, ids=lambda path: '/'.join(path.parts[-2:]))
def test_a_shipped_record_is_of_the_arms_as_they_are(spec, monkeypatch, capsys):
    record = spec.parent / (spec.stem.removesuffix('spec').rstrip('_') or 'results') / 'results.json'
    monkeypatch.setattr(sys, 'argv', ['compare.py', str(spec), '--check', str(record)])
    with pytest.raises(SystemExit) as end:
        load_tool('misc/compare').main()
    assert 'Every arm has the config of the record.' in capsys.readouterr().out
    assert end.value.code == 0
    if record.parent.name == 'results':
        assert describe(load_config(str(spec)))['spec'] == json.loads(record.read_text())['spec']
