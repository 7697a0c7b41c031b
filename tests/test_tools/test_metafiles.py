"""Metafiles, pages and recorded results say the same, and name every config."""

import json
import re
import statistics

import pytest
import torch
import yaml
from mmengine import Config

import mmmim
from mmmim.config.papers import read_paper, read_papers
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT, load_tool, run_tool

TOOL = load_tool('misc/make_metafiles')
metafiles, write_metafile, training_data = TOOL.metafiles, TOOL.write_metafile, TOOL.training_data
check_page, read_tables = TOOL.check_page, TOOL.read_tables

FILES = sorted(ROOT.glob('configs/**/metafile.yml'))
CONTENTS = {path: yaml.safe_load(path.read_text()) for path in FILES}
COLLECTIONS = {entry['Name']: entry for content in CONTENTS.values() for entry in content.get('Collections', [])}
ENTRIES = {entry['Name']: entry for content in CONTENTS.values() for entry in content['Models']}
HINT = 'python tools/misc/make_metafiles.py writes them'
NUMBER = r'\d+(?:\.\d+)?'


def tables(path):
    """Rows of the tables of a page as dicts, read another way than by the code under test."""
    lines = path.read_text().splitlines()
    rules = [i for i, line in enumerate(lines) if re.fullmatch(r'\|[-:| ]+\|', line)]
    for rule in rules:
        header = [cell.strip() for cell in lines[rule - 1].split('|')[1:-1]]
        for line in lines[rule + 1 :]:
            if not line.startswith('|'):
                break
            cells = [cell.strip() for cell in line.split('|')[1:-1]]
            assert len(cells) == len(header), line
            yield dict(zip(header, cells, strict=True))


def config_of(row):
    """The config beside the page that a row links to."""
    links = re.findall(r'\]\(([\w-]+\.py)\)', ' '.join(row.values()))
    return links[0] if links else None


def numbers(results):
    return [v for result in results or [] for v in result['Metrics'].values()]


def test_every_config_is_listed_once_and_linked_by_its_page():
    assert sorted(metafiles(ROOT)) == FILES
    assert len(FILES) >= 3
    listed = [entry['Name'] for content in CONTENTS.values() for entry in content['Models']]
    # Those of custom/ are no rows of a paper, but templates.
    shipped = [name for name in mmmim.list_models(ablations=True) if not name.startswith('custom/')]
    assert sorted(listed) == shipped, HINT
    for path, content in CONTENTS.items():
        for entry in content['Models']:
            assert entry['Config'] == f'configs/{entry["Name"]}.py'
            assert (ROOT / entry['Config']).parent == path.parent
            assert (ROOT / entry['Config']).is_file()
        links = set(re.findall(r'\]\(([\w-]+\.py)\)', path.with_name('README.md').read_text()))
        assert links == {file.name for file in path.parent.glob('*.py')}


def test_collections():
    assert {entry['In Collection'] for entry in ENTRIES.values()} == set(COLLECTIONS)
    for collection in COLLECTIONS.values():
        page = (ROOT / collection['README']).read_text()
        assert f'> [{collection["Paper"]["Title"]}]({collection["Paper"]["URL"]})' in page
        assert (ROOT / collection['Code']['URL']).is_file()
        assert page.startswith(f'# {collection["Name"]}\n')


def test_metadata_is_that_of_the_configs():
    parameters = {}
    for name, entry in ENTRIES.items():
        metadata, cfg = entry['Metadata'], Config.fromfile(ROOT / entry['Config'])
        backbone = json.dumps(cfg.model.backbone)
        if backbone not in parameters:
            with torch.device('meta'):
                built = MODELS.build(cfg.model.backbone)
            parameters[backbone] = sum(p.numel() for p in built.parameters())
        assert metadata['Parameters'] == parameters[backbone], f'{name}: {HINT}'
        assert metadata['Trained Parameters'] >= metadata['Parameters']
        found = metadata['Iterations'], metadata['Batch Size'], metadata['Training Data']
        assert found == (cfg.train_cfg.max_iters, cfg.global_batch_size, training_data(cfg)), f'{name}: {HINT}'


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.parent.name)
def test_reported_numbers_are_those_of_the_page(path):
    entries = {entry['Config'].rsplit('/', 1)[1]: entry for entry in CONTENTS[path]['Models']}
    rows = [row for row in tables(path.with_name('README.md')) if any('(reported' in name for name in row)]
    assert rows
    seen = {}
    for row in rows:
        config = config_of(row)
        cells = {name: cell for name, cell in row.items() if '(reported' in name and cell}
        if config is not None:
            seen.setdefault(config, []).append([float(cell) for cell in cells.values()])
            results = [
                (f'{r["Dataset"]} {r["Protocol"]}', value)
                for r in entries[config]['Results'] or []
                for value in r['Metrics'].values()
            ]
            for name, cell in cells.items():
                title = name.partition(' (reported')[0].removesuffix(' mIoU')
                assert (title, float(cell)) in results, f'{config}: {HINT}'
            if 'parameters' in row:
                assert row['parameters'] == f'{entries[config]["Metadata"]["Parameters"] / 1e6:.1f} M'
            if 'iterations' in row:
                assert row['iterations'] == f'{entries[config]["Metadata"]["Iterations"]:,}'.replace(',', ' ')
    for config, entry in entries.items():
        assert bool(numbers(entry['Results'])) == any(seen.get(config, [])), f'{config}: {HINT}'


def test_results_are_those_of_the_tables_of_papers():
    expected = TOOL.results(read_papers(ROOT))
    assert {name: entry['Results'] for name, entry in ENTRIES.items()} == {n: expected.get(n) for n in ENTRIES}, HINT
    assert set(expected) - set(ENTRIES) == {'projects/bootmae/configs/vitb16.py'}


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.parent.name)
def test_own_numbers_stand_in_projects_alone(path):
    assert '±' not in path.with_name('README.md').read_text()
    for entry in CONTENTS[path]['Models']:
        assert all(re.fullmatch('reported.*, not run here', r['Source']) for r in entry['Results'] or []), HINT


PAGES = (ROOT / 'README.md', ROOT / 'docs/en/results.md', *ROOT.glob('projects/*/README.md'))
MEASURED = [path for path in PAGES if '±' in path.read_text()]


@pytest.mark.parametrize('path', MEASURED, ids=[path.parent.name for path in MEASURED])
def test_tables_of_projects_are_the_recorded_ones(path):
    cells = {}
    for file in ROOT.glob('projects/*/results/results.json'):
        for arms in json.loads(file.read_text())['results'].values():
            for arm, scores in arms.items():
                for values in (values for values in scores.values() if len(values) > 1):
                    mean, deviation = statistics.fmean(values), statistics.stdev(values)
                    texts = {f'{mean:.{digits}f} ± {deviation:.{digits}f}' for digits in (1, 2, 3)}
                    cells.setdefault(arm, set()).update(texts)
    shown = [(next(iter(row.values())), cell) for row in tables(path) for cell in row.values() if '±' in cell]
    assert shown
    assert not [(arm, cell) for arm, cell in shown if cell not in cells[arm]]


@pytest.mark.slow
def test_metafiles_are_up_to_date():
    done = run_tool('misc/make_metafiles.py', '--check')
    assert done.returncode == 0, done.stdout + done.stderr


PAPER = """
Name: New
Title: A new method
Source: arXiv 2000.00001
Weights: student
Scores:
  knn: {Dataset: ADE20K, Protocol: k-NN, Metric: mIoU, Test: eval/seg_knn_ade20k}
  linear: {Dataset: CIFAR100, Protocol: linear probe, Metric: Top 1 Accuracy, Train: eval/cls_sweep, Data: cifar100}
Tables:
  - Table: table 1
    Caption: rows
    Scores: [knn, linear]
    Rows:
      - {Row: A, Config: new/rows/a, Values: [12.5, [20, 1.5]]}
      - {Row: B, Config: new/b, Values: [null, .nan]}
      - {Row: A of the authors, Config: new/rows/a, Convert: a.pth, Values: [13.5, 1.0]}
  - Table: table 2
    Caption: again
    Scores: [knn]
    Rows:
      - {Row: A, Config: new/rows/a, Values: [12.5]}
"""


@pytest.fixture
def new(tmp_path):
    """A repository with a method, two configs and a paper."""
    folder = tmp_path / 'configs/new/rows'
    folder.mkdir(parents=True)
    config = Config.fromfile(ROOT / 'configs/mae/small.py')
    for file in (folder / 'a.py', folder.parent / 'b.py'):
        config.dump(file)
    table = '| | ADE20K k-NN mIoU (reported) |\n|---|---|\n| [A](a.py) | 12.5 |\n| `a.pth` | 13.5 |\n'
    (folder / 'README.md').write_text(f'Paper: https://arxiv.org/abs/2000.00001\n\n{table}')
    (folder.parent / 'README.md').write_text('No numbers.\n')
    (folder.parent / 'tables.yml').write_text(PAPER)
    (folder / 'metafile.yml').write_text('# Below the other.\nModels:\n')
    return tmp_path


def test_a_metafile_of_a_new_method(new):
    folder, papers = new / 'configs/new/rows', read_papers(new)
    with pytest.raises(InputError, match='has no "Collections:"'):
        write_metafile(folder / 'metafile.yml', new, papers)
    (folder.parent / 'metafile.yml').write_text('Collections:\n  - Name: New\n\nModels:\n  - stale\n')
    (row,) = yaml.safe_load(write_metafile(folder / 'metafile.yml', new, papers))['Models']
    assert (row['Name'], row['In Collection']) == ('new/rows/a', 'New')
    assert row['Metadata']['Training Data'] == 'FashionScenes (single)'
    assert row['Results'] == [
        {
            'Task': 'Semantic Segmentation',
            'Dataset': 'ADE20K',
            'Metrics': {'mIoU': 12.5},
            'Protocol': 'k-NN',
            'Source': 'reported in New (arXiv 2000.00001), not run here',
            'Table': 'table 1, table 2',
            'Command': 'mmmim test eval/seg_knn_ade20k --pretrained CKPT --weights student',
        },
        {
            'Task': 'Image Classification',
            'Dataset': 'CIFAR100',
            'Metrics': {'Top 1 Accuracy': 20.0},
            'Deviation': 1.5,
            'Protocol': 'linear probe',
            'Source': 'reported in New (arXiv 2000.00001), not run here',
            'Table': 'table 1',
            'Command': 'MMMIM_DATA=cifar100 mmmim train eval/cls_sweep --pretrained CKPT --weights student',
        },
    ]
    text = write_metafile(folder.parent / 'metafile.yml', new, papers)
    assert text.startswith('Collections:\n  - Name: New\n\nModels:\n  - Name: new/b\n')
    assert yaml.safe_load(text)['Models'][0]['Results'] is None
    (folder / 'metafile.yml').write_text('nothing\n')
    with pytest.raises(InputError, match='has no line "Models:"'):
        write_metafile(folder / 'metafile.yml', new, papers)


@pytest.mark.parametrize(('cell', 'other', 'message'), [
    ('12.5', '12.6', r'configs/new/rows/a\.py has 12\.6 as "ADE20K k-NN mIoU \(reported\)", and tables\.yml 12\.5'),
    ('13.5', '13.0', r'a\.pth has 13\.0 .* and tables\.yml 13\.5'),
    ('ADE20K', 'ADE10K', 'and tables.yml none'),
    ('(reported)', '(reported in Old)', 'and tables.yml none'),
    ('(reported)', '(reported in arXiv 2000.00001)', None),
])  # fmt: skip
def test_a_page_says_what_the_tables_of_the_paper_say(new, cell, other, message):
    page = new / 'configs/new/rows/README.md'
    check_page(page, new, read_papers(new))
    page.write_text(page.read_text().replace(cell, other))
    if message is None:
        check_page(page, new, read_papers(new))
    else:
        with pytest.raises(InputError, match=message):
            check_page(page, new, read_papers(new))


@pytest.mark.parametrize(('text', 'other', 'message'), [
    ('Title: A new method', 'Titel: A new method', "the file has 'Titel', and may have Name, Title"),
    ('Title: A new method\n', '', "it lacks 'Title'"),
    ('Values: [12.5]', 'Values: [12.5, 1]', "'A' of table 2 has 2 values in 1 columns"),
    ('Row: B, Config', 'Row: B, Configs', "a row of table 1 has 'Configs'"),
    ('Test: eval/seg_knn_ade20k', 'Best: eval/seg_knn_ade20k', "the score knn has 'Best'"),
    (', Test: eval/seg_knn_ade20k', '', 'the score knn has none of Test, Train'),
    ('Scores: [knn]', 'Scores: [nn]', "it lacks 'nn'"),
    ('Scores:\n  knn', 'Scores:\n\tknn', 'is no YAML: '),
    ('[null, .nan]', '[null, many]', "could not convert string to float: 'many'"),
])  # fmt: skip
def test_tables_that_are_none(new, text, other, message):
    path = new / 'configs/new/tables.yml'
    assert text in PAPER
    path.write_text(PAPER.replace(text, other))
    with pytest.raises(InputError) as raised:
        read_paper(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_cells_of_tables_of_pages():
    assert [*read_tables('| a |\n|---|\n| 1 |\n\n| b |\n|:-:|\n| 2 |\n')] == [{'a': '1'}, {'b': '2'}]
