"""Metafiles, pages and recorded results say the same, and name every config."""

import json
import re
import statistics

import pytest
import torch
import yaml
from mmengine import Config

import mmmim
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT, load_tool, run_tool

TOOL = load_tool('misc/make_metafiles')
metafiles, write_metafile, training_data = TOOL.metafiles, TOOL.write_metafile, TOOL.training_data
read_reported, read_tables = TOOL.read_reported, TOOL.read_tables

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
    assert sorted(listed) == mmmim.list_models(), HINT
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
            for result, name in zip(entries[config]['Results'] or [], cells, strict=False):
                assert name.startswith(result['Dataset'])
                assert result['Protocol'] in name
            if 'parameters' in row:
                assert row['parameters'] == f'{entries[config]["Metadata"]["Parameters"] / 1e6:.1f} M'
            if 'iterations' in row:
                assert row['iterations'] == f'{entries[config]["Metadata"]["Iterations"]:,}'.replace(',', ' ')
    for config, entry in entries.items():
        for values in seen.get(config, [[]]):
            assert numbers(entry['Results']) == values, f'{config}: {HINT}'


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.parent.name)
def test_own_numbers_stand_in_projects_alone(path):
    assert '±' not in path.with_name('README.md').read_text()
    for entry in CONTENTS[path]['Models']:
        assert all(re.fullmatch('reported.*, not run here', r['Source']) for r in entry['Results'] or []), HINT


PAGES = (ROOT / 'README.md', ROOT / 'docs/en/results.md', *ROOT.glob('projects/*/README.md'))
MEASURED = [path for path in PAGES if '±' in path.read_text()]


@pytest.mark.parametrize('path', MEASURED, ids=lambda path: path.parent.name)
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


def test_a_metafile_of_a_new_method(tmp_path):
    folder = tmp_path / 'configs/new/rows'
    folder.mkdir(parents=True)
    config = Config.fromfile(ROOT / 'configs/mae/small.py')
    for file in (folder / 'a.py', folder.parent / 'b.py'):
        config.dump(file)
    table = '| | ADE20K k-NN mIoU (reported) |\n|---|---|\n| [A](a.py) | 12.5 |\n'
    (folder / 'README.md').write_text(f'Paper: https://arxiv.org/abs/2000.00001\n\n{table}')
    (folder.parent / 'README.md').write_text('No numbers.\n')
    (folder / 'metafile.yml').write_text('# Below the other.\nModels:\n')
    with pytest.raises(InputError, match='has no "Collections:"'):
        write_metafile(folder / 'metafile.yml', tmp_path)
    (folder.parent / 'metafile.yml').write_text('Collections:\n  - Name: New\n\nModels:\n  - stale\n')
    (row,) = yaml.safe_load(write_metafile(folder / 'metafile.yml', tmp_path))['Models']
    assert (row['Name'], row['In Collection']) == ('new/rows/a', 'New')
    assert row['Metadata']['Training Data'] == 'FashionScenes (single)'
    (result,) = row['Results']
    assert (result['Dataset'], result['Metrics']) == ('ADE20K', {'mIoU': 12.5})
    assert result['Source'] == 'reported in arXiv 2000.00001, not run here'
    text = write_metafile(folder.parent / 'metafile.yml', tmp_path)
    assert text.startswith('Collections:\n  - Name: New\n\nModels:\n  - Name: new/b\n')
    assert yaml.safe_load(text)['Models'][0]['Results'] is None
    (folder / 'metafile.yml').write_text('nothing\n')
    with pytest.raises(InputError, match='has no line "Models:"'):
        write_metafile(folder / 'metafile.yml', tmp_path)


def test_rows_that_disagree_are_refused(tmp_path):
    head = '| config | ImageNet-1k linear probe (reported) |\n|---|---|\n'
    (tmp_path / 'a.md').write_text(f'{head}| [x](x.py) | 1.0 |\n\n{head}| [x](x.py) | 1.5 |\n')
    with pytest.raises(InputError, match=r'a\.md: the rows of x\.py do not agree'):
        read_reported(tmp_path / 'a.md')
    (tmp_path / 'b.md').write_text(f'{head}| [x](x.py) | 1.0 |\n| [y](y.py) | |\n| [x](x.py) | 1.0 |\n')
    (result,) = read_reported(tmp_path / 'b.md').pop('x.py')
    assert (result['Task'], result['Protocol']) == ('Image Classification', 'linear probe')
    assert result['Source'] == 'reported, not run here'
    assert [*read_tables('| a |\n|---|\n| 1 |\n\n| b |\n|:-:|\n| 2 |\n')] == [{'a': '1'}, {'b': '2'}]


def test_numbers_of_another_paper_name_it(tmp_path):
    columns = '| config | A k-NN (reported) | B mIoU (reported in X et al., 2025) |\n|---|---|---|\n'
    (tmp_path / 'a.md').write_text(f'https://arxiv.org/abs/2000.00001\n\n{columns}| [x](x.py) | 1.0 | 2.0 |\n')
    own, other = read_reported(tmp_path / 'a.md')['x.py']
    assert own['Source'] == 'reported in arXiv 2000.00001, not run here'
    assert other['Source'] == 'reported in X et al., 2025, not run here'
    assert (other['Dataset'], other['Metrics']) == ('B', {'mIoU': 2.0})
