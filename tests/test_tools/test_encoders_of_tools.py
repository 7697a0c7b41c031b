"""Every picture and every analysis of an encoder takes one of another library, by the same word."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from mmmim.apis.downstream import pretrained_facts
from mmmim.models.backbones.libraries import encoder_config
from tests.paths import ROOT
from tests.toys import mae_config, save_model

#: One of every kind: plain and with registers, relative positions, rotary ones, positions of one size of images.
ENCODERS = {
    'mmpretrain, DeiT': 'mmpretrain:deit-tiny_4xb256_in1k=random',
    'mmpretrain, MoCo v3': 'mmpretrain:mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k=random',
    'timm, registers': 'timm:test_vit2=random',
}
FOLDERS = {
    'Hugging Face, DINOv2': ('Dinov2', {}),
    'Hugging Face, registers': ('Dinov2WithRegisters', {'num_register_tokens': 2}),
    'Hugging Face, BEiT': ('Beit', {'use_relative_position_bias': True, 'intermediate_size': 64}),
}
NAME = 'timm:test_vit'
ENCODER = f'{NAME}=vit.safetensors'
FEW = ('+fit_dataloader.dataset.indices=[0,1,2,8997,8998,8999]', '+test_dataloader.dataset.indices=6')
#: Arguments that suffice, and a file that is written.
TOOLS = {
    'visualization/vis_attention': ([ENCODER, 'images', '--out', 'out'], 'queries.png'),
    'visualization/vis_clusters': (['images', ENCODER, '--size', '64', '--out', 'out'], 'clusters.png'),
    'visualization/vis_neighbours': (['images', ENCODER, '--size', '64', '--out', 'out'], 'nearest.json'),
    'visualization/vis_pca': (['images', ENCODER, '--sizes', '160', '--channels', '2', '--out', 'out'], 'channels.png'),
    'visualization/vis_tsne': (
        [ENCODER, 'images', '--perplexity', '1', '--workers', '0', '--out', 'out/a.png'],
        'a.png',
    ),
    'analysis_tools/attention_distance': ([ENCODER, 'images', '--out', 'out'], 'attention_distance.json'),
    'analysis_tools/rankme': ([ENCODER, 'images', '--workers', '0', '--out-dir', 'out'], 'rankme.json'),
    'analysis_tools/layer_sweep': (
        [
            str(ROOT / 'configs/eval/cls_knn_fashion.py'),
            '--pretrained',
            ENCODER,
            '--work-dir',
            'out',
            '--cfg-options',
            'test_cfg.probe.k=[1]',
            *FEW,
        ],
        'layer_sweep.json',
    ),
    'analysis_tools/score_fashion_scenes': (
        [ENCODER, '--pool', 'cls', '--out', 'out/a.json'],
        'a.json',
    ),
    'analysis_tools/score_protocols': (
        [ENCODER, '--suite', 'suite.py', '--work-dir', 'out', '--out', 'out/a.json'],
        'a.json',
    ),
    'analysis_tools/repeat': (
        [str(ROOT / 'configs/eval/cls_fewshot_fashion.py'), '--pretrained', ENCODER, '--work-dir', 'out'],
        'repeat.json',
    ),
}
#: Those that need more of a model than its encoder, or look at no model.
OTHERS = {
    'visualization/vis_reconstruction',
    *(f'analysis_tools/benchmark_{name}' for name in ('data', 'plain', 'probes', 'threads', 'train', 'variants')),
    *(f'analysis_tools/{name}' for name in ('check_parity', 'expected', 'get_flops', 'plot_curves')),
    'analysis_tools/replay_nonfinite',
}
SUITE = f"""
options = dict([pair.split('=', 1) for pair in {FEW!r}] + [('test_cfg.probe.k', '[1]')])
protocols = dict(
    knn=dict(title='a', measures='b', config='eval/cls_knn_fashion', score='k_1/accuracy/top1', options=options)
)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, fashion_scenes):
    """The current folder, with images, the weights of a ViT of timm and FashionScenes."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path('images').mkdir()
    Path('data').mkdir()
    Path('data/fashion_scenes').symlink_to(fashion_scenes)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(f'images/{i}.png')
    torch.manual_seed(0)
    save_file(timm.create_model('test_vit', num_classes=0).state_dict(), 'vit.safetensors')
    Path('suite.py').write_text(SUITE)
    save_model('mae.pth', mae_config())
    return tmp_path


def test_every_tool_is_known():
    found = {f'{folder}/{path.stem}' for folder in ('visualization', 'analysis_tools') for path in
             (ROOT / 'tools' / folder).glob('*.py')}  # fmt: skip
    assert found == {*TOOLS, *OTHERS}


@pytest.mark.parametrize('name', TOOLS)
def test_a_file_of_timm(name, folder, tool, monkeypatch):
    from mmmim.evaluation.probes import fashion_scenes as probes

    def score(extract, *args):  # the probes themselves take minutes
        return {'width': extract(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).cls.shape[1]}

    monkeypatch.setattr(probes, 'score', score)
    words, file = TOOLS[name]
    if name.endswith('repeat'):  # hands the word on to trainings, which take it as the others do
        from mmmim.comparison import repeats

        commands = []
        monkeypatch.setattr(repeats, 'run_command', lambda command, folder: commands.append(command))
        with pytest.raises(Exception):  # noqa: B017, PT011  (nothing was trained)
            tool(name, *words)
        assert ENCODER in commands[0]
        return
    tool(name, *words)
    assert (folder / 'out' / file).stat().st_size


#: The pictures and analyses that figures of papers are made with.
OF_FIGURES = ['vis_attention', 'vis_pca', 'vis_tsne', 'attention_distance', 'rankme']


@pytest.mark.parametrize('kind', [*ENCODERS, *FOLDERS])
@pytest.mark.parametrize('name', [name for name in TOOLS if name.rpartition('/')[2] in OF_FIGURES])
def test_encoders_of_every_library(name, kind, folder, tool):
    encoder = ENCODERS.get(kind)
    if encoder is None:
        transformers = pytest.importorskip('transformers')
        model, options = FOLDERS[kind]
        sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=160, patch_size=16)
        config = getattr(transformers, f'{model}Config')(**sizes, **options)
        getattr(transformers, f'{model}Model')(config).save_pretrained('model')
        encoder = 'huggingface:model'
    words, file = TOOLS[name]
    tool(name, *(encoder if word == ENCODER else word for word in words))
    assert (folder / 'out' / file).stat().st_size


def test_what_predicts_no_pixels_is_refused(folder, tool):
    reconstruction = 'visualization/vis_reconstruction'
    error = tool(reconstruction, 'images', ENCODER, '--out', 'out', code=2)
    assert f'{ENCODER} is an encoder of timm, which predicts no pixels' in error
    for checkpoint in ('mae.pth', 'mae/small'):  # of random weights, too
        tool(reconstruction, 'images', checkpoint, '--out', f'{Path(checkpoint).stem}.png')
        assert (folder / f'{Path(checkpoint).stem}.png').stat().st_size


def test_the_word_is_the_file_and_the_option(folder):
    """``--pretrained timm:NAME=FILE`` is ``--pretrained FILE --encoder timm:NAME``."""
    for file, weights in (('vit.safetensors', 'vit.safetensors'), ('random', 'random')):
        facts = pretrained_facts(f'{NAME}={file}')
        assert facts == pretrained_facts(file, encoder=encoder_config(NAME))
        assert (facts.checkpoint, facts.encoder['name']) == (weights, 'test_vit')
