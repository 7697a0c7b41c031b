"""Models of other libraries by their names."""

import pytest
import timm
import torch
from safetensors.torch import save_file

import mmmim
from mmmim.utils import InputError


def test_a_model_of_timm_with_the_weights_of_a_file(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model('vit_tiny_patch16_224', num_classes=0).eval()
    save_file(model.state_dict(), tmp_path / 'model.safetensors')
    extractor = mmmim.get_model(tmp_path / 'model.safetensors', encoder='timm:vit_tiny_patch16_224')
    images = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    features = extractor(extractor.preprocess(images))
    with torch.no_grad():
        expected = model.forward_features((images / 255 - 0.5) / 0.5)  # mean and std of this model
    torch.testing.assert_close(torch.cat([features[0].extra, features[0].patches], dim=1), expected)


def test_random_weights_and_what_is_wrong(tmp_path):
    torch.manual_seed(0)
    first = mmmim.get_model('random', encoder='timm:vit_tiny_patch16_224')
    torch.manual_seed(0)
    again = mmmim.get_model('random', encoder='timm:vit_tiny_patch16_224')
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    with pytest.raises(InputError, match='write timm:NAME, mmpretrain:NAME or huggingface:FOLDER'):
        mmmim.get_model('random', encoder='vit_tiny_patch16_224')
    with pytest.raises(InputError, match='holds one set of weights: leave weights out'):
        mmmim.get_model('random', weights='ema', encoder='timm:vit_tiny_patch16_224')
    with pytest.raises(InputError, match=r'none\.safetensors'):
        mmmim.get_model(tmp_path / 'none.safetensors', encoder='timm:vit_tiny_patch16_224')
