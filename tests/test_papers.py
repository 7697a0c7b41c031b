"""Tables of papers: every command is understood, every model of a row is built at full size, nothing is left out."""

import json
import re
import shlex
import sys
from functools import cache
from itertools import takewhile

import pytest
import torch
from mmengine import Config

import mmmim
from mmmim.apis.downstream import apply_pretrained
from mmmim.cli import convert, test, train
from mmmim.cli.papers import paper_lines
from mmmim.config.cfg_options import merge_cfg_options
from mmmim.config.papers import read_papers
from mmmim.config.resources import find_config
from mmmim.engine.config_check import check_config
from mmmim.registry import MODELS
from tests.paths import ROOT, load_tool
from tests.test_configs import CONFIGS

PAPERS = read_papers(ROOT)
ROWS = [(table, row) for paper in PAPERS for table in paper.tables for row in table.rows]
CELLS = [(row, cell) for _, row in ROWS for cell in row.cells]
#: Combinations of published recipes and small ones for a machine at hand: no paper has a number of them.
OURS = {'pilamim/vitb16_released', 'semantic_mim/mae_vitb16_proxy', 'semantic_mim/capi_vitb14_proxy'}
#: Recipes of released code: the numbers of its paper are not in the tables here.
OURS |= {'data2vec/vitl16', 'data2vec2/vitb16'}


@cache
def pretraining(name):
    return Config.fromfile(find_config(name) or ROOT / name)


def encoder(name):
    """What an evaluation knows of the model of a config, as text."""
    model = pretraining(name).model
    necks = [branch.neck for branch in model.branches.values()] if name.startswith('capi/') else []
    return json.dumps([model.backbone, model.get('data_preprocessor'), necks], default=str)


#: Configs of pre-trainings whose models an evaluation cannot tell apart are represented by one of them.
FIRST = {}
for _, row in ROWS:
    if row.config is not None:
        FIRST.setdefault(encoder(row.config), row.config)
EVALUATIONS = sorted(
    {
        (FIRST[encoder(row.config)], cell.score.config, cell.score.data or '', (*cell.score.options, *each))
        for row, cell in CELLS
        if row.config is not None and cell.score.config is not None
        for each in ([[option] for option in cell.score.each] or [[]])
    }
)


@pytest.fixture(params=sorted({config for _, config, _, _ in EVALUATIONS}))
def evaluations(request):
    return [each for each in EVALUATIONS if each[1] == request.param]


def test_every_evaluation_of_a_row_is_built_at_full_size(evaluations, monkeypatch):
    """Its options are keys of the config, its data set is there, and its encoder has the features that are read."""
    for name, config, data, options in evaluations:
        monkeypatch.setenv('MMMIM_DATA', data) if data else monkeypatch.delenv('MMMIM_DATA', raising=False)
        cfg = Config.fromfile(find_config(config))
        merge_cfg_options(cfg, options)
        apply_pretrained(cfg, str(find_config(name) or ROOT / name))
        check_config(cfg)
        assert 'pretrained:' not in cfg.dump()
        with torch.device('meta'):
            built = MODELS.build(cfg.model)
        assert all(parameter.is_meta for parameter in built.parameters())


def test_pretrainings_of_rows_are_among_those_that_are_built():
    """test_configs.py builds each of CONFIGS at full size."""
    named = {row.config.removesuffix('.py') for _, row in ROWS if row.config is not None}
    assert named <= set(CONFIGS)


def test_every_ablation_and_every_recipe_of_a_paper_has_a_row():
    trained = {row.config for _, row in ROWS if row.convert is None}
    assert len(trained) > 80
    recipes = {name for name in mmmim.list_models(ablations=True) if not re.search(r'small(_gpu)?$|^custom/', name)}
    assert recipes - trained == OURS


def commands():
    """The commands that are printed, as words, environment first."""
    text = '\n'.join(paper_lines('*')).replace('\\\n', '')
    for line in dict.fromkeys(text.splitlines()):
        words = shlex.split(line.replace('$(cat ', '').replace('/last_checkpoint)', '/last_checkpoint'), comments=True)
        if words and not words[0].startswith(('DIR=', 'CKPT=')):
            yield words


def test_every_printed_command_is_understood(monkeypatch):
    """By the parser of its program, with a config that comes with mmmim, and a data set that a config can have."""
    parsers = {name: module.build_parser() for name, module in (('train', train), ('test', test), ('convert', convert))}
    tools = {name: load_tool(f'analysis_tools/{name}') for name in ('repeat', 'rankme')}
    seen = set()
    for words in commands():
        if words[0].startswith('MMMIM_DATA='):
            data = words.pop(0).removeprefix('MMMIM_DATA=')
            assert (ROOT / f'configs/_base_/datasets/cls_{data}.py').is_file()
        program, name, *rest = words
        if program == 'python':
            assert (ROOT / name).is_file()
            name = name.removeprefix('tools/analysis_tools/').removesuffix('.py')
            monkeypatch.setattr(sys, 'argv', ['tool', *rest])
            args = tools[name].parse_args()
        else:
            assert program == 'mmmim'
            args = parsers[name].parse_args(rest)
        seen.add(name)
        if 'config' in args:
            assert find_config(args.config) or (ROOT / args.config).is_file(), args.config
    assert seen == {'train', 'test', 'convert', 'repeat', 'rankme'}


def test_heads_that_are_chosen_among_are_chosen_by_a_test():
    trained = {(cell.score.config, cell.score.chosen) for _, cell in CELLS if cell.score.maker == 'Train'}
    for config, chosen in trained:
        loop = Config.fromfile(find_config(config)).get('test_cfg') or {}
        assert chosen == (loop.get('type') == 'mmmim.ChoosingTestLoop'), config


def test_a_folder_of_results_holds_one_training():
    """Whatever tables and papers a row stands in."""
    runs = {}
    for row, cell in CELLS:
        if row.folder is not None and cell.score.maker in ('Train', 'Repeat'):
            score = cell.score
            run = (score.config, score.data, score.options, score.words, row.weights)
            assert runs.setdefault((row.folder, score.name), run) == run


def header(config):
    """The comment at the head of a config, as one line."""
    lines = (find_config(config) or ROOT / config).read_text().splitlines()
    return ' '.join(line[2:] for line in takewhile(lambda line: line.startswith('#'), lines))


def test_numbers_of_rows_stand_in_the_head_of_a_config():
    """In that of the pre-training or of the evaluation, which says that it was not run here."""
    missing = []
    for table, row in ROWS:
        for cell in row.cells:
            if cell.value is None or cell.value != cell.value:
                continue
            heads = [header(name) for name in (row.config, cell.score.config) if name is not None]
            number = rf'(?<![\d.]){re.escape(str(cell).split(" ")[0].removesuffix(".0"))}(?:\.0)?(?![\d]|\.\d)'
            found = [head for head in heads if re.search(number, head)]
            if not any('not run here' in head for head in found):
                missing.append((table.name, row.label, cell.score.name, str(cell), row.config, cell.score.config))
    assert missing == []
