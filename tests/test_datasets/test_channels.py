"""Models of another number of channels than three, through training, pictures, tools and counts."""

import runpy
import sys
import warnings

import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import Image

import mmmim
from mmmim.apis import FeatureExtractor
from mmmim.cost.flops import count_config
from mmmim.datasets import ImageFolder, SyntheticImages, mask_collate
from mmmim.engine import Runner
from mmmim.features.frozen import FrozenFeatures
from mmmim.features.image_files import encode_files
from mmmim.models.data_preprocessors import MIMDataPreprocessor
from mmmim.models.target_generators import HOGTarget, PixelTarget
from mmmim.visualization.channels import as_rgb, channel_note, to_unit
from mmmim.visualization.feature_pictures import patch_features, picture
from tests.images import tiff
from tests.paths import ROOT
from tests.shrink import shrink
from tests.test_datasets.test_depth import fake_tifffile

VIT = {'type': 'mmmim.ViT', 'img_size': 16, 'patch_size': 4, 'embed_dim': 16, 'depth': 1, 'num_heads': 2}


def write_images(folder, channels, monkeypatch, number=6, size=40):
    """Images of noise: grey, with transparency that is none, or of five bands."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(number):
        pixels = rng.integers(0, 256, (size, size, channels), dtype=np.uint8)
        if channels == 5:
            (folder / f'{i}.tif').write_bytes(tiff(pixels))
        else:
            Image.fromarray(pixels.squeeze()).save(folder / f'{i}.png')
    if channels == 5:
        try:
            import tifffile  # noqa: F401
        except ImportError:
            monkeypatch.setitem(sys.modules, 'tifffile', fake_tifffile(pixels))


def config(name, channels, images, work_dir):
    cfg = shrink(Config.fromfile(ROOT / f'configs/{name}.py'), images, work_dir, pictures=True)
    mean, std = [120.0 + i for i in range(channels)], [60.0] * channels
    cfg.merge_from_dict({'probe_data': None, 'val_cfg': None, 'val_dataloader': None, 'val_evaluator': None})
    cfg.model.backbone.in_channels = channels
    cfg.model.data_preprocessor = dict(type='mmmim.MIMDataPreprocessor', mean=mean, std=std)
    for branch in cfg.model.branches.values():
        kind = {'mmmim.PixelTarget': PixelTarget, 'mmmim.HOGTarget': HOGTarget}.get(branch.target_generator.type)
        if kind is not None:
            branch.target_generator.in_channels = channels
            options = {key: value for key, value in branch.target_generator.items() if key != 'type'}
            branch.neck.out_dim = kind(**options).out_dim
    load, crop, *_ = cfg.train_dataloader.dataset.dataset.pipeline
    load.channels = channels
    crop.type = 'mmmim.RandomResizedCrop'  # Pillow, behind mmpretrain's, knows few numbers of channels
    crop.pop('backend', None)
    cfg.experiment_name = f'{work_dir.name}_{channels}'
    return cfg


@pytest.fixture
def trained(tmp_path, monkeypatch, request):
    name, channels = request.param
    write_images(tmp_path / 'images', channels, monkeypatch)
    cfg = config(name, channels, tmp_path / 'images', tmp_path / 'work')
    assert any(hook['type'] == 'mmmim.PicturesHook' for hook in cfg.custom_hooks)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*broadcast.*')
        Runner.from_cfg(cfg).train()
    return cfg, channels, tmp_path


def tool(path, monkeypatch, *args):
    monkeypatch.setattr('sys.argv', [path, *map(str, args)])
    runpy.run_path(str(ROOT / 'tools' / path), run_name='__main__')


@pytest.mark.parametrize(
    'trained', [('mae/small', 5), pytest.param(('mae/small', 1), marks=pytest.mark.slow)], indirect=True
)
def test_training_pictures_tools_and_counts(trained, monkeypatch, capsys):
    cfg, channels, folder = trained
    for file in ('features.png', 'reconstruction.png', 'curves.png'):
        assert np.asarray(Image.open(folder / 'work' / file).convert('RGB')).std() > 20
    assert 'No pictures' not in (next((folder / 'work').glob('*/*.log'))).read_text()
    checkpoint, images = folder / 'work/iter_1.pth', folder / 'images'
    paths = sorted(map(str, images.iterdir()))

    model = mmmim.get_model(checkpoint)
    assert model.in_channels == channels
    encoded = encode_files(model, paths, batch_size=4)
    assert encoded.index == list(range(6))
    example = patch_features(model, paths[0], 32, -1)
    assert example.image.shape == (32, 32, 3)
    if channels == 1:
        assert (example.image == example.image[..., :1]).all()

    common = ('--device', 'cpu', '--max-images', 2, '--out')
    tool('visualization/vis_pca.py', monkeypatch, images, checkpoint, '--sizes', 32, *common, folder / 'pca')
    tool('visualization/vis_reconstruction.py', monkeypatch, images, checkpoint, *common, folder / 'rec')
    tool('visualization/vis_attention.py', monkeypatch, checkpoint, images, '--size', 32, *common, folder / 'att')
    tool('analysis_tools/attention_distance.py', monkeypatch, checkpoint, images, *common, folder / 'dist')
    tool('analysis_tools/rankme.py', monkeypatch, checkpoint, images, '--workers', 0, '--device', 'cpu')
    assert 'RankMe' in capsys.readouterr().out

    costs = count_config(cfg, 2)
    height, width = costs.inference_size
    embedding = 2 * height * width * channels * cfg.model.backbone.embed_dim  # of two images
    assert next(row.macs for row in costs.inference if row.name.endswith('patch_embed')) == embedding


@pytest.mark.parametrize('trained', [('capi/small', 1), ('semantic_mim/maskfeat_small', 5)], indirect=True)
@pytest.mark.slow
def test_other_methods_train(trained):
    assert (trained[2] / 'work/features.png').exists()


def test_files_of_other_channels_are_refused_or_left_out_by_name(tmp_path, monkeypatch):
    write_images(tmp_path / 'grey', 1, monkeypatch)
    preprocessor = {'type': 'mmmim.MIMDataPreprocessor', 'mean': [120.0] * 4, 'std': [60.0] * 4}
    model = FeatureExtractor({'backbone': {**VIT, 'in_channels': 4}, 'data_preprocessor': preprocessor})
    with pytest.raises(mmmim.utils.InputError, match=r'0\.png: it has 1 channel\(s\), and .* asked for 4'):
        encode_files(model, [str(tmp_path / 'grey/0.png')])


def test_pictures_of_channels():
    assert SyntheticImages(8, channels=5)[0]['inputs'].shape == (5, 8, 8)
    images = torch.arange(5.0).view(5, 1, 1).expand(5, 2, 2)
    assert as_rgb(images)[:, 0, 0].tolist() == [0, 1, 2]
    assert as_rgb(images[:3]) is not None
    assert as_rgb(images[3:])[:, 0, 0].tolist() == [3, 3, 3]
    assert as_rgb(images[4:])[:, 0, 0].tolist() == [4, 4, 4]
    assert channel_note(3) == ''
    assert 'first three' in channel_note(5)
    assert 'grey' in channel_note(1)
    eight, raw = torch.tensor([120.0]), torch.tensor([2000.0])
    values = torch.tensor([0.0, 255, 300, -5]).view(1, 2, 2)
    assert to_unit(values, eight, eight / 2).flatten().tolist() == [0, 1, 1, 0]
    assert to_unit(raw.view(1, 1, 1), raw, raw / 4).item() == 0.5
    mean = torch.tensor([120.0, 116, 104]).view(3, 1, 1)
    preprocessor = type('P', (), {'mean': mean, 'std': mean / 2})
    image = torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8)
    assert np.array_equal(picture(image, preprocessor), image.permute(1, 2, 0).numpy())
    assert np.array_equal(picture(image.float(), preprocessor), image.permute(1, 2, 0).numpy())


def test_a_codebook_of_patches(tmp_path, monkeypatch):
    channels = 4
    write_images(tmp_path / 'images', channels, monkeypatch)
    pipeline = [dict(type='mmmim.LoadImage', channels=channels), dict(type='mmpretrain.PackInputs')]
    dataset = dict(type='mmmim.ImageFolder', data_root=str(tmp_path / 'images'), pipeline=pipeline)
    cfg = Config(
        dict(
            model=dict(backbone=dict(patch_size=8), data_preprocessor=dict(type='mmmim.MIMDataPreprocessor')),
            train_dataloader=dict(dataset=dataset),
        )
    )
    cfg.dump(tmp_path / 'config.py')
    book = tmp_path / 'book.pth'
    tool('misc/fit_patch_codebook.py', monkeypatch, tmp_path / 'config.py', book, '--codes', 4)
    options = {'type': 'mmmim.KMeansTokenizer', 'codebook': str(book), 'num_tokens': 4, 'patch_size': 8}
    tokens = mmmim.registry.MODELS.build({**options, 'in_channels': channels})(torch.rand(2, channels, 16, 16), (2, 2))
    assert tokens.shape == (2, 4)
    with pytest.raises(mmmim.utils.InputError, match='in_channels'):
        mmmim.registry.MODELS.build(options)


def test_raw_values_of_more_than_eight_bits_reach_the_model(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 4096, (40, 40), dtype=np.uint16)).save(tmp_path / f'{i}.png')
    pipeline = [
        dict(type='mmcv.LoadImageFromFile', color_type='unchanged', imdecode_backend='cv2'),
        dict(type='mmmim.RandomResizedCrop', scale=32),
        dict(type='mmpretrain.RandomFlip', prob=0.5),
        dict(type='mmpretrain.PackInputs'),
    ]
    data = ImageFolder(str(tmp_path), pipeline=pipeline)
    batch = mask_collate([data[i] for i in range(4)], dict(type='mmmim.UniformMasking', mask_ratio=0.5), 8)
    assert batch['inputs'].shape == (4, 1, 32, 32)
    assert len(batch['inputs'].unique()) > 1000
    images = MIMDataPreprocessor([2047.5], [1182.0])(batch)['inputs']
    assert images.std() < 2
    with pytest.raises(mmmim.utils.InputError, match='of another depth'):
        MIMDataPreprocessor([120.0], [60.0])(batch)


def test_fitted_protocols_take_any_number_of_channels(tmp_path):
    statistics = {'mean': [120.0] * 5, 'std': [60.0] * 5}
    model = FrozenFeatures(
        dict(type='mmmim.PretrainedBackbone', checkpoint='random', encoder={**VIT, 'in_channels': 5}, out_indices=[-1]),
        data_preprocessor=dict(type='mmmim.ImageListPreprocessor', bgr_to_rgb=True, **statistics),
    )
    images = [torch.randint(0, 256, (5, 16, 16), dtype=torch.uint8) for _ in range(2)]
    (features,), grid = model.extract(images)
    assert features.shape == (2, 16, 16)
    assert grid == (4, 4)
