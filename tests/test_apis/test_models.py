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
    extractor = mmmim.get_model(f'timm:vit_tiny_patch16_224={tmp_path}/model.safetensors')
    images = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    features = extractor(extractor.preprocess(images))
    with torch.no_grad():
        expected = model.forward_features((images / 255 - 0.5) / 0.5)  # mean and std of this model
    torch.testing.assert_close(torch.cat([features[0].extra, features[0].patches], dim=1), expected)


def test_random_weights_and_what_is_wrong(tmp_path):
    torch.manual_seed(0)
    first = mmmim.get_model('timm:vit_tiny_patch16_224=random')
    torch.manual_seed(0)
    again = mmmim.get_model('timm:vit_tiny_patch16_224=random')
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    for source, message in (
        ('vit_tiny_patch16_224=random', 'nor timm:NAME=FILE, mmpretrain:NAME=FILE or huggingface:FOLDER'),
        (
            'timm:vit_tiny_patch16_224',
            'nothing is downloaded: write timm:vit_tiny_patch16_224=FILE',
        ),
        ('mmpretrain:=a.pth', 'names no weights.*mmpretrain:NAME=FILE'),
    ):
        with pytest.raises(InputError, match=message):
            mmmim.get_model(source)
    with pytest.raises(InputError, match='holds one set of weights: leave weights out'):
        mmmim.get_model('timm:vit_tiny_patch16_224=random', weights='ema')
    with pytest.raises(InputError, match=r'none\.safetensors'):
        mmmim.get_model(f'timm:vit_tiny_patch16_224={tmp_path}/none.safetensors')
