"""Pages: what they show runs, and what they link is there."""

import copy
import re
import textwrap

import pytest
import torch
from PIL import Image

from mmmim.config.read import load_config
from mmmim.engine import OptimWrapper
from mmmim.registry import MODELS
from tests.paths import ROOT
from tests.shrink import write_images
from tests.toys import batch, capi_config, save_model

PAGES = [
    path
    for folder in ('.', 'docs/en', 'docs/notebooks', 'configs/*', 'configs/*/ablations', 'projects', 'projects/*')
    for path in sorted(ROOT.glob(f'{folder}/*.md'))
]


def blocks(path, language='python'):
    """The blocks of code of a page."""
    found = re.findall(rf'^( *)```{language}\n(.*?)^\1```', path.read_text(), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in found]


def anchors(path):
    """What links can name of a page: its headings, as GitHub writes them."""
    text = re.sub(r'^```.*?^```', '', path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links(path):
    """Files, folders with a page of their own, and headings that a page links are there."""
    text = re.sub(r'^```.*?^```', '', path.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r'\]\(([^)\s]+)\)', text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if not re.match(r'\w+:', link):
            file, _, heading = link.partition('#')
            target = (path.parent / file).resolve() if file else path
            assert target.is_file() or (target / 'README.md').is_file(), link
            assert not heading or heading in anchors(target), link


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_tables_end(path):
    """A line of text right below a table would be a row of it."""
    text = re.sub(r'^( *)```.*?^\1```', '', path.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(r'^ *\|.*\n(?! *\||\n).+', text, re.MULTILINE)


@pytest.mark.parametrize('page', ['README.md', 'docs/en/features.md', 'configs/capi/README.md'])
def test_features(page, tmp_path, monkeypatch):
    """What the page shows of features runs, where the first command has been run."""
    (code,) = (code for code in blocks(ROOT / page) if 'get_model(' in code)
    (checkpoint,) = re.findall(r"get_model\('(.*?)'\)", code.split('#')[0])
    (tmp_path / checkpoint).parent.mkdir(parents=True)
    save_model(tmp_path / checkpoint, load_config('capi/small').model.to_dict())
    for image in re.findall(r"'([^']*\.(?:png|jpg))'", code):
        (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (32, 32), (250, 120, 0)).save(tmp_path / image)
    monkeypatch.chdir(tmp_path)
    shown: dict = {}
    exec(code, shown)
    features = shown['features']
    images = len(features.pooled)
    assert [list(layer.patches.shape) for layer in features] == [[images, 64, 96]] * 2
    assert features[0].map().shape == (images, 96, 8, 8)
    assert torch.equal(features.pooled, features[1].patches.mean(dim=1))


def test_the_main_page_is_short():
    text = (ROOT / 'README.md').read_text()
    assert text.count('\n') < 150
    (code,) = (code for code in blocks(ROOT / 'README.md') if 'get_model(' in code)
    assert len([line for line in code.splitlines() if line and not re.match('import|from', line)]) == 3
    assert [code.strip() for code in blocks(ROOT / 'README.md', 'shell')[:2]] == [
        'pip install -e . && python tools/train.py configs/capi/small.py',
        'pip install -e ".[tests]" && pytest',
    ]


def close(value, expected, tolerance=1e-5):
    """Whether the difference is small beside what is expected, all elements together."""
    return (value - expected).norm() <= tolerance * expected.norm()


def test_the_training_step_of_capi():
    """The step on its page, as it is written there, is that of the model: losses, gradients, student and teacher."""
    (code,) = (code for code in blocks(ROOT / 'configs/capi/README.md') if 'def training_step' in code)
    assert len(code.splitlines()) <= 25
    page: dict = {}
    exec(code, page)
    torch.manual_seed(0)
    models = [MODELS.build(capi_config())]
    with torch.no_grad():
        for parameter in models[0].parameters():  # the teacher is another model than the student
            parameter.add_(0.1 * torch.randn_like(parameter))
    models.append(copy.deepcopy(models[0]))
    before = {name: value.detach().clone() for name, value in models[0].named_parameters()}
    gradients = {}
    for name, parameter in models[1].named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(
                lambda parameter, name=name: gradients.update({name: parameter.grad.clone()})
            )
    wrappers = [
        OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5, fused=True))
        for model in models
    ]

    data = batch(images=8)
    losses = page['training_step'](models[0], data['inputs'], data['mask'], wrappers[0].optimizer, momentum=0.7)
    expected = models[1].train_step({**data}, wrappers[1])
    models[1].teacher.update(models[1], 0.7)

    assert set(losses) | {'loss'} == {name for name in expected if name.startswith('loss')}
    assert all(close(value.detach(), expected[name]) for name, value in losses.items())
    trained = {name: parameter for name, parameter in models[0].named_parameters() if parameter.requires_grad}
    assert set(trained) == set(gradients)
    assert all(gradients[name].any() for name in trained)
    assert [name for name in trained if not close(trained[name].grad, gradients[name])] == []
    moved, wanted = ({name: value - before[name] for name, value in m.named_parameters()} for m in models)
    assert [name for name in wanted if not close(moved[name], wanted[name], 1e-3)] == []  # small beside the weights
    assert {name for name in wanted if not wanted[name].any()} == set()


def test_objects_without_labels(tmp_path, monkeypatch):
    """What the page shows of keys, cuts and clusters runs."""
    (code,) = (code for code in blocks(ROOT / 'docs/en/objects.md') if 'get_model(' in code)
    write_images(tmp_path, number=1, size=240)
    (tmp_path / '0.png').rename(tmp_path / 'a.png')
    monkeypatch.chdir(tmp_path)
    shown: dict = {}
    exec(code, shown)
    assert shown['found'].mask.shape == shown['labels'].shape == (14, 14)
    assert shown['labels'].max() == 3
