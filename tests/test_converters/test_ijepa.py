import pytest
import torch
from mmengine import Config

import mmmim
from mmmim.cli.convert import main
from mmmim.converters.ijepa import PARTS, convert_checkpoint
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.test_converters import samples
from tests.test_converters.samples import ijepa_file

DIM = 48


@pytest.fixture
def weights():
    """``encoder.*``, ``predictor.*`` and ``target_encoder.*``."""
    return samples.ijepa()


def convert(weights, **options):
    return convert_checkpoint(ijepa_file(weights), 'file.pth.tar', **{'num_heads': 4, **options})


@pytest.mark.parametrize(
    ('which', 'name', 'array'), [('target_encoder', 'ema', 'target_full'), ('encoder', 'student', 'encoder_full')]
)
def test_one_encoder_alone(weights, which, name, array, tmp_path, capsys):
    source, target = tmp_path / 'IN1K.pth.tar', tmp_path / 'mmmim.pth'
    # The other tables are not even read.
    torch.save({which: ijepa_file(weights)[which]}, source)
    main([str(source), str(target), '--num-heads', '4', '--encoder', which])
    assert f'{which} alone: for features only' in capsys.readouterr().out
    converted = torch.load(target)
    assert converted['mmmim']['weights'] == name
    assert {key.split('.')[0] for key in converted['state_dict']} == {'backbone'}
    neck = converted['mmmim']['model']['branches']['latent']['neck']
    assert (neck['embed_dim'], neck['depth'], neck['context_dim']) == (384, 12, DIM)
    images, expected = (torch.tensor(samples.recorded('ijepa')[key]) for key in ('images', array))
    torch.testing.assert_close(mmmim.get_model(target)(images).patches[0], expected, rtol=1e-5, atol=1e-5)


def test_the_model_is_that_of_the_config(weights):
    """But for sizes."""
    sizes = {'img_size', 'patch_size', 'embed_dim', 'depth', 'num_heads', 'in_dim', 'context_dim', 'out_dim', 'grid'}
    one = Config.fromfile(ROOT / 'configs/ijepa/vitb16.py').model.to_dict()
    other = convert(weights)['mmmim']['model']
    assert one['teacher'] == other['teacher']
    parts = [{**model['branches']['latent'], 'backbone': model['backbone']} for model in (one, other)]
    for key in ('target_generator', 'neck', 'head', 'backbone'):
        ours, theirs = (part[key] for part in parts)
        assert {k: v for k, v in ours.items() if k not in sizes} == {k: theirs[k] for k in ours if k not in sizes}


def test_a_table_that_drifted_is_taken_from_the_file(weights):
    key = 'target_encoder.pos_embed'
    drifted = weights[key] + 2e-4 * torch.randn(weights[key].shape).clamp(-1, 1)
    state = convert(weights | {key: drifted})['state_dict']
    assert torch.equal(state['teacher.backbone.positions.weight'], drifted[0])
    assert torch.equal(state['backbone.positions.weight'], weights['encoder.pos_embed'][0])


@pytest.mark.parametrize('part', PARTS)
def test_other_positions_are_refused(weights, part):
    key = f'{part}.predictor_pos_embed' if part == 'predictor' else f'{part}.pos_embed'
    table = weights[key]
    rows_first = table.unflatten(1, (8, 8)).transpose(1, 2).flatten(1, 2)

    def refused(message, wrong):
        with pytest.raises(InputError, match=message):
            convert(weights | {key: wrong})

    for wrong in (rows_first, table.flip(2), torch.randn_like(table), table + 0.01, table * float('nan')):
        refused(f'{key} differs by .* from the fixed positions of I-JEPA', wrong)
    refused('has positions of 65 patches, which are no square', torch.zeros(1, 65, table.shape[2]))
    refused(rf'{key} has the shape \[64, \d+\], not \[1, N, D\]', table[0])
