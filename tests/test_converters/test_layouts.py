"""What holds for every layout: the file tells what it is, every weight arrives, and the tools say what they did."""

import inspect
import runpy
import sys
from argparse import Namespace

import pytest
import torch

import mmmim
from mmmim.cli.convert import build_parser, main
from mmmim.converters.registry import CONVERTERS, find_converter
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.test_converters.samples import SAMPLES, WHOLE

EVERY = pytest.mark.parametrize('sample', SAMPLES.values(), ids=SAMPLES)
METHODS = pytest.mark.parametrize('sample', WHOLE.values(), ids=WHOLE)


def convert(sample, weights=None, **options):
    weights = sample.weights() if weights is None else weights
    options = {**sample.options, **options}
    return CONVERTERS[sample.converter].convert(sample.file(weights), 'file.pth', **options)


def test_other_files_are_refused_by_what_they_look_like():
    maskfeat = SAMPLES['semantic_mim, maskfeat'].weights()
    mae = {key: value for key, value in SAMPLES['mae of mmpretrain'].weights().items() if 'attn.qkv' in key}
    for message, file in (
        (r'file\.pth is in none of the layouts .*\(capi, crossmae, data2vec, .*transformers of .*--from NAME',
         {'vit.embeddings.cls_token': torch.zeros(1)}),
        (r'none of the layouts .* Its names are teacher, epoch', {'teacher': {'blocks.0': torch.ones(1)}, 'epoch': 3}),
        ('none of the layouts', {'encoder': {'backbone.blocks.0.attn.qkv.weight': torch.ones(1)}, 'predictor': {}}),
        ('none of the layouts .* It is empty', {}),
        ('is a checkpoint of mmmim already: there is nothing to convert', convert(WHOLE['mae'])),
        (r'several layouts \(mae, semantic_mim\): say which by --from NAME', {'state_dict': maskfeat | mae}),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            find_converter(file, 'file.pth')
    for key in ('student.backbone.registers', 'student_ema.head.x', 'teacher.head.layer.bias'):
        file = {key: torch.zeros(3)}
        with pytest.raises(InputError, match=r"rank_0\.pth is one rank's shard of a training checkpoint"):
            find_converter(file, 'rank_0.pth').convert(file, 'rank_0.pth')


def layout_of(weights, module):
    if hasattr(module, 'LAYOUT'):
        return module.LAYOUT
    return module.AUTHORS if 'cls_token' in weights else module.MMPRETRAIN


@EVERY
def test_every_weight_arrives(sample):
    weights, converted = sample.weights(), convert(sample)
    file = sample.file(weights)
    assert [name for name, converter in CONVERTERS.items() if converter.detect(file)] == [sample.converter]
    state, config = converted['state_dict'], converted['mmmim']['model']
    for branch in config['branches'].values():
        if 'tokenizer' in branch['target_generator']:  # its weights come from a file of their own
            branch['target_generator']['tokenizer'].update(type='mmmim.KMeansTokenizer', untrained=True)
    model = MODELS.build(config)
    own = model.state_dict()
    assert all(key in state or key.startswith(sample.lacks) for key in own)
    assert state.keys() <= own.keys()
    model.load_state_dict(state, strict=not sample.lacks)
    layout = layout_of(weights, CONVERTERS[sample.converter].module)
    for key, value in weights.items():
        found = layout.collect(key, own)
        if key.endswith('pos_embed.pos_embeds'):  # without the row of CLS, which is zero
            assert torch.equal(found, value[1:])
        elif sample.converter != 'mae' or not key.endswith(('pos_embed', 'cls_token', 'mask_token')):
            assert torch.equal(found, value), key
    assert layout.collect(key, {}) is None
    assert layout.collect('encoder.gamma', own) is None


def test_files_in_wrappers_and_in_two_layouts_give_the_same():
    for names in (('latent_mim', 'latent_mim, bare', 'latent_mim, wrapped'), ('mae', 'mae of mmpretrain')):
        first, *rest = [convert(SAMPLES[name], **SAMPLES[names[0]].options) for name in names]
        for other in rest:
            assert first['mmmim'] == other['mmmim']
            assert first['state_dict'].keys() == other['state_dict'].keys()
            assert all(torch.equal(value, other['state_dict'][key]) for key, value in first['state_dict'].items())


# ------------------------------------------------------------------------------------------------------------- tools


@METHODS
def test_options_are_the_arguments_of_the_converter(sample):
    converter = CONVERTERS[sample.converter]
    arguments = set(inspect.signature(converter.module.convert_checkpoint).parameters)
    assert arguments == {'checkpoint', 'source', *converter.options}
    usage = build_parser(converter.name).format_usage()
    flags = {'num_heads': ' [--num-heads', 'decoder_num_heads': '--decoder-num-heads', 'encoder': '--encoder'}
    flags |= {'normalize': '--raw-pixels'}
    for key, flag in flags.items():
        assert (flag in usage) == (key in converter.options)


@EVERY
def test_the_tool_finds_out_and_converts(sample, tmp_path, capsys):
    source, target = tmp_path / 'file.pth', tmp_path / 'mmmim.pth'
    torch.save(sample.file(sample.weights()), source)
    main([str(source), str(target), *sample.words])
    out = capsys.readouterr().out
    assert f'{source}: {CONVERTERS[sample.converter].what} (--from {sample.converter})\n' in out
    assert sample.said in out
    assert f'mmmim.get_model({str(target)!r})' in out
    written = torch.load(target, weights_only=True)
    expected = convert(sample)
    assert written['mmmim'] == expected['mmmim']
    assert all(torch.equal(value, expected['state_dict'][key]) for key, value in written['state_dict'].items())
    assert mmmim.get_model(target).backbone.depth in (2, 3, 4)


@METHODS
def test_every_name_of_the_tool_is_one_converter(sample, tmp_path, monkeypatch, capsys):
    source, tool = tmp_path / 'file.pth', f'{sample.converter}_to_mmmim.py'
    torch.save(sample.file(sample.weights()), source)
    monkeypatch.setattr(sys, 'argv', [tool, str(source), str(tmp_path / 'mmmim.pth'), *sample.words])
    runpy.run_path(str(ROOT / 'tools/model_converters' / tool), run_name='__main__')
    out = capsys.readouterr().out
    assert sample.said in out
    assert '(--from' not in out


def test_a_model_of_raw_pixels(tmp_path, capsys):
    torch.save(WHOLE['mae'].weights(), tmp_path / 'mae.pth')
    main([str(tmp_path / 'mae.pth'), str(tmp_path / 'mmmim.pth'), '--raw-pixels'])
    assert 'with 16 heads, raw pixels' in capsys.readouterr().out


def test_objects_are_read_and_what_a_file_is_can_be_said(tmp_path, capsys):
    sample, source, target = WHOLE['latent_mim'], tmp_path / 'file.pth', tmp_path / 'mmmim.pth'
    # Python objects, as trainings of other programs save them: read on request only.
    torch.save({**sample.file(sample.weights()), 'args': Namespace(lr=1e-3)}, source)
    with pytest.raises(SystemExit, match='2'):
        main([str(source), str(target), *sample.words])
    assert 'trust_checkpoint' in capsys.readouterr().err
    assert not target.exists()
    main([str(source), str(target), *sample.words, '--trust-checkpoint', '--from', 'latent_mim'])
    assert '(--from' not in capsys.readouterr().out
    assert mmmim.get_model(target).backbone.depth == 2
    target.unlink()
    for words, message in (
        (['--from', 'mae'], 'in no known layout of MAE'),
        (['--raw-pixels', '--encoder', 'encoder'], 'error: --encoder, --raw-pixels does not apply to .*(latent_mim)'),
        (['--num-heads', '5'], '5 attention heads do not divide the width 48'),
    ):
        with pytest.raises(SystemExit, match='2'):
            main([str(source), str(target), '--trust-checkpoint', *words])
        assert message.split(' .*')[0] in capsys.readouterr().err
        assert not target.exists()
