"""`mmmim benchmark`: scores of several encoders, what is left out, going on, and the page."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mmmim.apis.downstream import apply_pretrained
from mmmim.benchmark.charts import bars, curves
from mmmim.benchmark.encoders import read_encoders
from mmmim.benchmark.reported import reported
from mmmim.benchmark.results import Result, number
from mmmim.benchmark.suite import Protocol, missing_data, read_suite, suites
from mmmim.cli.benchmark import main
from mmmim.config.resources import find_config
from mmmim.engine.protocols import fits, protocol_config, run_protocol
from mmmim.utils import InputError
from tests.toys import capi_config, mae_config, save_model

SUITE = """
few = {{f'{{key}}.dataset.{{name}}': value for key in ('fit_dataloader', 'test_dataloader')
       for name, value in dict(data_root={data!r}).items()}}
few |= {{'+fit_dataloader.dataset.indices': list(range(0, 9000, 45)),  # of all classes
        '+test_dataloader.dataset.indices': list(range(0, 2000, 10))}}
common = dict(config='eval/cls_knn_fashion', score='k_10/accuracy/top1')
protocols = dict(
    knn=dict(common, title='neighbours', measures='Closeness & <order>.', options=few),
    knn_cls=dict(common, title='neighbours, CLS', measures='The same.', options={{**few, 'model.features': 'cls'}}),
    knn_predicted=dict(common, title='predictor', measures='Too.', options={{**few, 'model.features': 'predicted'}}),
    blocks=dict(common, title='blocks', measures='Where.', options=few, blocks=True),
    typo=dict(common, title='typo', measures='Nothing.', options=few, score='k_10/accuracy/top2'),
    imagenet=dict(title='elsewhere', measures='No.', config='eval/cls_knn_imagenet', score='k_10/accuracy/top1'),
)
"""


@pytest.fixture(scope='module')
def benchmark(tmp_path_factory, fashion_scenes):
    """A folder with the benchmark of a CAPI and a MAE of random weights, and what its call needs."""
    folder = tmp_path_factory.mktemp('benchmark')
    (folder / 'suite.py').write_text(SUITE.format(data=str(fashion_scenes)))
    # At the size of the images, so that nothing has to be resized.
    models = {'capi': capi_config(), 'mae': mae_config()}
    files = [save_model(folder / f'{name}.pth', model) for name, model in models.items()]
    words = [*files, '--suite', str(folder / 'suite.py'), '--out', str(folder / 'out')]
    main(words)
    return folder / 'out', words


def record_of(folder):
    return json.loads((folder / 'benchmark.json').read_text())


def scores(record):
    return {(each['protocol'], each['encoder']): each['metrics'] for each in record['results']}


def test_numbers_of_a_column_have_as_many_decimals():
    percent, plain = (replace(read_suite('quick')[0], unit=unit) for unit in ('%', ''))
    assert [number(value, percent) for value in (None, 71.49, 7.3, -0.06)] == ['', '71.5', '7.3', '-0.1']
    assert [number(value, plain) for value in (0.12345, 12.0)] == ['0.123', '12.000']
    assert number(3.25, percent, '+') == '+3.2'


def test_every_encoder_stands_behind_its_random_weights(benchmark):
    folder, _ = benchmark
    record = record_of(folder)
    labels = [encoder['label'] for encoder in record['encoders']]
    assert len(labels) == 4
    assert [label.startswith('random weights, as ') for label in labels] == [True, False, True, False]
    assert [encoder['twin'] for encoder in record['encoders']] == [None, labels[0], None, labels[2]]
    assert [bool(encoder['sha256']) for encoder in record['encoders']] == [False, True, False, True]
    table = (folder / 'benchmark.md').read_text()
    assert all(f'| {label}' in table for label in labels)
    assert list(record['skipped']) == ['imagenet']
    assert 'data/imagenet' in record['skipped']['imagenet']


def test_what_an_encoder_lacks_is_said_and_the_others_go_on(benchmark):
    record = record_of(benchmark[0])
    capi, mae = [encoder['label'] for encoder in record['encoders'] if encoder['sha256']]
    messages = {(each['protocol'], each['encoder']): each['message'] for each in record['results']}
    assert messages['knn_cls', capi] == 'The encoder has no feature cls.'
    assert messages['knn_predicted', mae] == 'The encoder has no feature predicted.'
    assert messages['typo', mae].startswith("protocols.typo.score='k_10/accuracy/top2': the test gives k_10/acc")
    found = scores(record)
    assert not messages['knn_cls', mae]
    assert found['knn_cls', mae]['k_10/accuracy/top1'] > 0
    assert found['knn_predicted', capi]['k_10/accuracy/top1'] > 0
    assert {name.split('/')[0] for name in found['blocks', capi]} == {'layer_0', 'layer_1'}


def test_a_number_is_that_of_the_command_beside_it(benchmark, tmp_path):
    folder, words = benchmark
    record = record_of(folder)
    capi = next(encoder['label'] for encoder in record['encoders'] if encoder['sha256'])
    for name in ('knn', 'knn_predicted'):
        result = next(each for each in record['results'] if (each['protocol'], each['encoder']) == (name, capi))
        assert result['command'].startswith(f'mmmim test eval/cls_knn_fashion --pretrained {words[0]} --cfg-options ')
        protocol = next(each for each in read_suite(words[3]) if each.name == name)
        cfg = protocol.load()
        apply_pretrained(cfg, words[0])
        cfg.work_dir, cfg.test_cfg.cache.folder = str(tmp_path / name), str(tmp_path / 'cache')
        assert run_protocol(cfg).metrics == result['metrics']


def test_one_pass_brings_the_features_of_all_protocols(benchmark):
    folder, _ = benchmark
    logs = {path.parent.parent.name: path.read_text() for path in folder.glob('runs/*_capi*/*/*/*.log')}
    assert len(re.findall(r'Features of \w+: 200 images, pooled of block 1, predicted of block 1', logs['knn'])) == 2
    assert len(re.findall(r'Features of \w+: 200 images, from', logs['knn_predicted'])) == 2


def test_a_second_call_goes_on(benchmark, capsys):
    folder, words = benchmark
    before = record_of(folder)
    capsys.readouterr()
    main([*words, '--only', 'knn', 'blocks'])
    printed = capsys.readouterr().out
    assert printed.count('(nothing to do; about 0 s left)') == 8
    after = record_of(folder)
    assert scores(after) == {key: value for key, value in scores(before).items() if key[0] in ('knn', 'blocks')}
    main(words)  # what was not asked for is made again from the stored features


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def of(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def test_the_page_reads_nothing_from_elsewhere_and_can_be_read_aloud(benchmark):
    text = (benchmark[0] / 'index.html').read_text()
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in ('script', 'link', 'iframe', 'object')]
    assert not re.findall(r'url\(|@import', text)
    assert all(image['src'].startswith('data:image/png;base64,') and image['alt'] for image in page.of('img'))
    assert all(link['href'].startswith('#') for link in page.of('a'))
    assert {link['href'][1:] for link in page.of('a')} <= {attrs.get('id') for _, attrs in page.tags}
    assert page.of('html')[0]['lang'] == 'en'
    assert all(cell.get('scope') in ('col', 'row') for cell in page.of('th'))
    assert all(chart['role'] == 'img' and chart['aria-label'] for chart in page.of('svg'))
    assert len(page.of('h1')) == 1
    assert 'Closeness & <order>.' in page.text  # escaped in the file
    assert 'Left out' in page.text


#: Tells the page around it what it has fetched, and whether it is wider than its frame.
WATCH = """<script>addEventListener('load', () => {
  const fetched = performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'));
  if (document.documentElement.scrollWidth > innerWidth) fetched.push('too wide');
  parent.postMessage(fetched.join(' ') || 'fine', '*');
})</script>"""
#: A frame of a width, since windows have a smallest one; its title is what the page in it tells.
AROUND = """<script>addEventListener('message', event => document.title = event.data)</script>
<iframe src="page.html" width="{width}" height="900"></iframe>"""


@pytest.mark.parametrize(
    ('width', 'more', 'title'),
    [
        (1280, '', 'fine'),
        (400, '', 'fine'),
        (1280, '<p style="width: 1500px">wide</p>', 'too wide'),  # that the test can fail
        (1280, '<img src="http://127.0.0.1:9/x.png">', 'http://127.0.0.1:9/x.png'),
    ],
)
def test_in_a_browser_the_page_fits_and_fetches_nothing(benchmark, tmp_path, width, more, title):
    browser = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if browser is None:
        pytest.skip('no Chromium here')
    text = (benchmark[0] / 'index.html').read_text()
    (tmp_path / 'page.html').write_text(text.replace('</main>', f'{more}</main>{WATCH}'))
    (tmp_path / 'around.html').write_text(AROUND.format(width=width))
    options = ['--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "profile"}']
    done = subprocess.run(
        [browser, *options, '--window-size=1400,1000', '--dump-dom', (tmp_path / 'around.html').as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert re.search('<title>(.*?)</title>', done.stdout)[1] == title, done.stderr


def test_every_suite_can_be_read():
    assert set(suites()) == {'quick', 'papers', 'all'}
    every = read_suite('all')
    assert {each.name for each in every} >= {each.name for name in ('quick', 'papers') for each in read_suite(name)}
    for protocol in every:
        assert find_config(protocol.config), protocol
        cfg = protocol.load()
        assert cfg.get('train_cfg') or fits(cfg), protocol
        assert protocol.measures.endswith('.')


def test_numbers_of_papers_stand_beside_the_protocols_that_make_them():
    found = reported(read_suite('all'))
    assert found['knn_predicted_imagenet'][0].startswith('73.8: CAPI, table 5')
    assert '50.1: Latent MIM, table 5, Latent MIM, 800 epochs' in found['nn_imagenet']
    assert not {each.name for each in read_suite('quick')} & set(found)
    for name, lines in found.items():
        values = [float(line.split(':')[0].split(' ')[0]) for line in lines]
        assert values == sorted(values, reverse=True), name


def test_quick_needs_no_download_and_papers_do(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert not [each.name for each in read_suite('quick') if missing_data(each.load())]
    lacking = [each for each in read_suite('papers') if missing_data(each.load()) is None]
    assert not lacking


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('protocols = {}', r'the file has no protocols=dict'),
        ("protocols = dict(a=dict(titel='x'))", r'no option protocols.a.titel \(did you mean title\?\)'),
        ("protocols = dict(a=dict(title='x', measures='y', score='z'))", r'protocols.a has no config'),
    ],
)
def test_suites_that_are_none(tmp_path, text, message):
    (tmp_path / 'suite.py').write_text(text)
    with pytest.raises(InputError, match=message):
        read_suite(str(tmp_path / 'suite.py'))


def test_what_is_no_encoder_or_no_benchmark_is_refused(tmp_path, tool):
    with pytest.raises(InputError, match=r'--suite nothing: use all, papers, quick, or a config file'):
        read_suite('nothing')
    with pytest.raises(InputError, match=r'gone\.pth is neither a file nor the name of a config'):
        read_encoders(['gone.pth'])
    with pytest.raises(InputError, match='is given twice'):
        read_encoders(['mae/small', 'mae/small'])
    (tmp_path / 'benchmark.json').write_text('[]')
    with pytest.raises(SystemExit):
        main(['mae/small', '--out', str(tmp_path)])
    with pytest.raises(SystemExit):
        main(['mae/small', '--out', str(tmp_path / 'out'), '--only', 'nothing'])


def test_names_of_configs_are_random_weights():
    labels = [encoder.label for encoder in read_encoders(['mae/small', 'capi/small'])]
    assert labels == ['random weights, as mae/small', 'random weights, as capi/small']


def test_charts_say_their_numbers():
    assert 'aria-label="a: 12 %; b&lt;: 50 %"' in bars([('a', 12.0, True), ('b<', 50.0, False)], '%')
    line = curves({'random': {0: 1.0, 1: 2.0}, 'one': {0: 3.0, 1: 2.5}}, '%', 'block')
    assert 'one: block 0 3 %, block 1 2.5 %' in line
    assert 'stroke-dasharray' in line
    assert bars([], '%') == curves({}, '%', 'block') == ''


def test_the_score_of_several_blocks_is_that_of_the_last():
    protocol = Protocol('a', 'a', 'a', 'a', 'top1', blocks=True)
    result = Result('a', 'b', '', '', {'layer_10/top1': 3.0, 'layer_2/top1': 1.0, 'layer_2/top5': 9.0})
    assert result.curve(protocol) == {2: 1.0, 10: 3.0}
    assert result.score(protocol) == 3.0
    assert protocol_config('cls_knn_fashion').get('test_cfg')
