"""Tools that look at images with the weights of a file: what they draw and measure, where it goes, every error."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mmmim
from mmmim.datasets.masking import UniformMasking
from mmmim.datasets.squares import read_square, read_stretched
from mmmim.evaluation.label_free.clusters import PatchTree
from mmmim.evaluation.measures.rankme import rankme
from mmmim.features.attention_maps import attention_distance, attention_maps
from mmmim.models.functional import low_pass
from mmmim.structures import Prediction
from mmmim.visualization.pca import pca_components
from mmmim.visualization.reconstruction import Reconstructor
from tests.toys import DIM, capi_config, mae_config, save_model

PCA, TSNE, RECONSTRUCTION = (f'visualization/vis_{name}' for name in ('pca', 'tsne', 'reconstruction'))
ATTENTION, CLUSTERS, NEIGHBOURS = (f'visualization/vis_{name}' for name in ('attention', 'clusters', 'neighbours'))
DISTANCE, RANKME = 'analysis_tools/attention_distance', 'analysis_tools/rankme'
#: Arguments that suffice.
TOOLS = {
    PCA: ['images', 'a.pth', '--sizes', '16'],
    TSNE: ['a.pth', 'images', '--perplexity', '1', '--workers', '0'],
    RECONSTRUCTION: ['images', 'mae.pth'],
    ATTENTION: ['a.pth', 'images'],
    DISTANCE: ['a.pth', 'images'],
    RANKME: ['a.pth', 'classes', '--workers', '0'],
    CLUSTERS: ['images', 'a.pth', '--size', '16'],
    NEIGHBOURS: ['images', 'a.pth', '--size', '16'],
}
#: Those that write several pictures.
SEVERAL = (PCA, RANKME, NEIGHBOURS)


def write_image(rng, path, size=(20, 24), **channel):
    pixels = rng.integers(0, 60 if channel else 256, (*size, 3), dtype=np.uint8)
    for index in channel.values():
        pixels[..., index] += 180
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """Three wide images; classes 'blue', 'green', 'red' of eight, told by their colours, and a broken file; models.

    ``a.pth`` is a CAPI, ``plain.pth`` one without registers, ``cls.pth`` one with CLS; ``mae.pth`` predicts pixels.
    """
    folder, rng = tmp_path_factory.mktemp('prepared'), np.random.default_rng(0)
    for i in range(3):
        write_image(rng, folder / f'images/{i}.png', (20, 24 + i))
    for index, name in enumerate(('red', 'green', 'blue')):
        for i in range(8):
            write_image(rng, folder / f'classes/{name}/{i}.png', channel=index)
    for path in ('bad.png', 'classes/green/00.png'):
        (folder / path).write_text('no image')
    for name, registers, cls in (('a', 4, 0), ('plain', 0, 0), ('cls', 3, 1)):
        config = capi_config()
        config['backbone'] |= {'num_registers': registers, 'num_cls_tokens': cls}
        save_model(folder / f'{name}.pth', config)
    save_model(folder / 'mae.pth', mae_config())
    (folder / 'empty').mkdir()
    return folder


@pytest.fixture
def folder(prepared, tmp_path, monkeypatch):
    """The current folder, a copy of what is prepared."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pictures(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def preprocessed(model, images):
    return model.preprocess(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))


@pytest.mark.parametrize('mode', ['image', 'both'])
def test_pca(folder, tool, mode):
    sizes = ('--sizes', 33, 32) if mode == 'both' else ('--sizes', 16)
    args = ('images', 'a.pth', *sizes, '--channels', 2, '--mode', mode, '--out', 'out', '--device', 'cpu')
    output = tool(PCA, *args)
    assert '[3/3]' in output
    first = pictures(folder / 'out')
    assert set(first) == {'resolutions.png', 'channels.png'}
    if mode == 'both':
        assert 'does not divide 33: 32 pixels instead' in output
        tool(PCA, 'images', 'capi/small', *args[2:])  # random weights, another picture
        assert pictures(folder / 'out') != first
        tool(PCA, *args)
        assert pictures(folder / 'out') == first


def test_tsne(folder, tool):
    out = folder / 'new/a.png'
    args = ('a.pth', 'classes', '--perplexity', 4, '--workers', 0, '--device', 'cpu', '--out', out)
    output = tool(TSNE, *args)
    assert '1 of 25 images left out' in output
    assert 't-SNE of 24 features' in output
    with np.load(out.with_suffix('.npz')) as data:
        first = {name: data[name] for name in data.files}
    assert [*first['classes']] == ['blue', 'green', 'red']
    assert first['coordinates'].shape == (24, 2)
    assert [Path(path).parent.name for path in first['paths']] == [*first['classes'][first['labels']]]
    nearest = np.linalg.norm(first['coordinates'][:, None] - first['coordinates'], axis=-1)
    np.fill_diagonal(nearest, np.inf)
    assert (first['labels'][nearest.argmin(axis=1)] == first['labels']).mean() > 0.9
    picture = out.read_bytes()
    tool(TSNE, *args)
    assert out.read_bytes() == picture

    tool(TSNE, *args, '--classes', 'red', 'blue', '--max-per-class', 6, '--pool', 'max')
    with np.load(out.with_suffix('.npz')) as data:
        assert [*data['classes']] == ['red', 'blue']
        assert np.bincount(data['labels']).tolist() == [6, 6]
    tool(TSNE, 'a.pth', 'classes/red', *args[2:])  # a folder without classes
    with np.load(out.with_suffix('.npz')) as data:
        assert [*data['classes']] == ['red']


def test_reconstruction(folder, tool):
    assert '[3/3]' in tool(RECONSTRUCTION, 'images', 'mae.pth', '--mask-ratio', 0.5, '--out', 'out')
    assert (folder / 'out/reconstruction.png').read_bytes()[:4] == b'\x89PNG'


@pytest.mark.parametrize('normalize', [True, False])
def test_a_perfect_prediction_is_the_image(tmp_path, normalize):
    """The way back from targets to colours undoes the way there."""
    model = Reconstructor.from_checkpoint(save_model(tmp_path / 'a.pth', mae_config(normalize)))
    images = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    mask = UniformMasking(0.75)(2, (4, 4), torch.Generator().manual_seed(0))
    targets = model.branch.target_generator(model.preprocessor.normalize(images), mask, None, model.backbone)
    real = model.branch.neck.forward
    pictures = model(images, mask)
    assert not torch.allclose(pictures['pasted'], pictures['original'], atol=0.1)

    def perfect(context, mask):
        prediction = real(context, mask)
        prediction.patches = targets.patches
        return prediction

    model.branch.neck.forward = perfect
    pictures = model(images, mask)
    expected = images.permute(0, 2, 3, 1) / 255
    shown = torch.zeros(2, 16).scatter(1, mask.visible, 1.0)
    shown = shown.view(2, 4, 4, 1).repeat_interleave(4, 1).repeat_interleave(4, 2).expand(-1, -1, -1, 3).bool()
    grey = torch.full_like(expected, 0.5)
    torch.testing.assert_close(pictures['original'], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(pictures['pasted'], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(pictures['masked'], torch.where(shown, expected, grey), rtol=0, atol=1e-6)
    torch.testing.assert_close(pictures['predicted'], torch.where(shown, grey, expected), rtol=0, atol=1e-5)


def test_a_perfect_prediction_of_low_frequencies(tmp_path, monkeypatch):
    """What is predicted are patches of the filtered image, and so is what is shown; what is visible is not filtered."""
    config = mae_config(True)
    config['branches']['pixels']['target_generator']['low_pass'] = 3
    model = Reconstructor.from_checkpoint(save_model(tmp_path / 'a.pth', config))
    images = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    mask = UniformMasking(0.75)(2, (4, 4), torch.Generator().manual_seed(0))
    targets = model.branch.target_generator(model.preprocessor.normalize(images), mask, None, model.backbone)
    monkeypatch.setattr(model.branch.neck, 'forward', lambda context, mask: Prediction(targets.patches))
    shown = torch.zeros(2, 16).scatter(1, mask.visible, 1.0)
    shown = shown.view(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3).bool()
    filtered = low_pass(images / 255, 3).clamp(0, 1)
    expected = torch.where(shown, images / 255, filtered).permute(0, 2, 3, 1)
    torch.testing.assert_close(model(images, mask)['pasted'], expected, rtol=0, atol=1e-5)


def test_attention(folder, tool, monkeypatch):
    import mmmim.visualization.attention as module

    drawn, draw = {}, module.draw_attention

    def noted(examples, queries, layers, path, title, signed=False):
        drawn[path.split('/')[-1]] = (examples, [query.name for query in queries], layers, signed)
        draw(examples, queries, layers, path, title, signed)

    monkeypatch.setattr(module, 'draw_attention', noted)
    args = ('a.pth', '--size', 17, '--out', 'out', '--device', 'cpu', 'images/0.png', 'images/1.png')
    queries = ('--query', 0, 3, '--query', 2, 1, '--extra-tokens', '--averaged', 'images')
    output = tool(ATTENTION, *args, '--layers', 'all', *queries)
    assert 'does not divide 17: 16 pixels instead' in output
    assert '[3/3] images' in output
    assert '20 tokens of 16 px in 2 heads: 0.00 GB for a block.' in output
    assert set(pictures(folder / 'out')) == set(drawn)
    registers = [f'register {i}' for i in (1, 2, 3, 4)]
    assert {name: picture[1:] for name, picture in drawn.items()} == {
        'queries.png': (['patch 0, 3', 'patch 2, 1'], [0, 1], False),
        'extra_tokens.png': (registers, [0, 1], False),
        'averaged.png': (registers, [0, 1], False),
    }

    # What is drawn is what the encoder attends to, of the stretched image.
    extractor = mmmim.get_model('a.pth')
    images = [read_stretched(f'images/{i}.png', 16) for i in range(3)]
    maps = torch.stack(attention_maps(extractor.backbone, preprocessed(extractor, images), [0, 1]), dim=1)
    maps = maps.mean(dim=2)  # B layers L L
    (_, image, of_first), _ = drawn['queries.png'][0]
    assert np.array_equal(image, images[0])
    torch.testing.assert_close(of_first[:, 0].flatten(-2), maps[0][:, [4 + 3, 4 + 9], 4:])
    torch.testing.assert_close(drawn['extra_tokens.png'][0][1][2][:, 0].flatten(-2), maps[1][:, :4, 4:])
    torch.testing.assert_close(drawn['averaged.png'][0][0][2][:, 0].flatten(-2), maps.mean(dim=0)[:, :4, 4:])

    tool(ATTENTION, *args, '--heads', 'each', '--subtract-extra', '--layers', -1, 1)
    examples, queries, layers, signed = drawn['queries.png']
    assert (queries, layers, signed) == (['patch 2, 2'], [1], True)
    assert examples[0][2].shape == (1, 2, 1, 4, 4)
    assert examples[0][2].min() < 0


def test_attention_of_other_libraries(folder, tool, monkeypatch):
    """CLS of a model of timm with registers, and the mean of all patches; of that, the patches with most of it."""
    import mmmim.visualization.attention as module

    drawn = {}
    monkeypatch.setattr(module, 'draw_attention', lambda examples, queries, *rest: drawn.update({rest[1]: examples}))
    encoder, options = 'timm:vit_small_patch14_reg4_dinov2=random', ('--size', 56, '--device', 'cpu')
    tool(ATTENTION, encoder, *options, '--extra-tokens', '--mean', '--out', 'out', 'images/0.png')
    torch.manual_seed(0)
    extractor = mmmim.get_model(encoder)
    image = read_stretched('images/0.png', 56)
    (maps,) = attention_maps(extractor.backbone, preprocessed(extractor, [image]), [-1])
    expected = maps[0].mean(dim=0)
    (_, _, extra) = drawn['out/extra_tokens.png'][0]
    torch.testing.assert_close(extra[0, 0].flatten(-2), expected[:5, 5:])
    (_, _, mean) = drawn['out/queries.png'][0]
    torch.testing.assert_close(mean[0, 0, 0].flatten(), expected[5:, 5:].mean(dim=0))
    tool(ATTENTION, encoder, *options, '--mean', '--mass', 0.5, '--out', 'out', 'images/0.png')
    (_, _, most) = drawn['out/queries.png'][0]
    kept = most > 0
    assert torch.equal(most[kept], mean[kept])
    assert mean[kept].sum() / mean.sum() > 0.5
    assert (mean[kept].sum() - mean[kept].min()) / mean.sum() <= 0.5


def test_clusters(folder, tool, monkeypatch):
    import mmmim.visualization.patch_clusters as module

    drawn = {}
    monkeypatch.setattr(module, 'draw_image_table', lambda rows, *rest: drawn.update(rows=rows, rest=rest))
    args = ('images', 'a.pth', '--size', 33, '--device', 'cpu', '--out', 'out')
    output = tool(CLUSTERS, *args, '--clusters', 2, 5, '--heights', 0.4)
    assert 'does not divide 33: 32 pixels instead' in output
    path, columns, names, *_ = drawn['rest']
    assert columns == ['input', '2 clusters', '5 clusters', 'height 0.4']
    assert (path, names) == ('out/clusters.png', ['0.png', '1.png', '2.png'])
    extractor = mmmim.get_model('a.pth')
    images = [read_square(f'images/{i}.png', 32) for i in range(3)]
    features = extractor(preprocessed(extractor, images)).patches[0]
    for (image, two, *_), expected, patches in zip(drawn['rows'], images, features, strict=True):
        assert np.array_equal(image, expected)
        labels = PatchTree(patches.numpy(), (8, 8)).cut(2)
        # The colours of a cluster lie over the grey image: what is left of them tells it.
        blue = two[2::4, 2::4].astype(int)[..., 2] - two[2::4, 2::4].astype(int)[..., 0]
        assert np.array_equal(blue < 0, labels == 1)
    tool(CLUSTERS, *args)
    assert drawn['rest'][1] == ['input', '2 clusters', '4 clusters', '8 clusters']
    tool(CLUSTERS, *args, '--heights', 1, 2, '--linkage', 'average')
    assert drawn['rest'][1] == ['input', 'height 1', 'height 2']


def test_neighbours(folder, tool):
    args = ('images', 'a.pth', '--size', 16, '--device', 'cpu', '--out', 'out')
    tool(NEIGHBOURS, *args, '--query', 0, 3, '--nearest', 5, '--shares', 0.1, 0.5)
    assert set(pictures(folder / 'out')) == {'neighbourhoods.png', 'nearest.png', 'nearest.json'}
    rows = json.loads((folder / 'out/nearest.json').read_text())
    extractor = mmmim.get_model('a.pth')
    images = [read_square(f'images/{i}.png', 16) for i in range(3)]
    features = torch.nn.functional.normalize(extractor(preprocessed(extractor, images)).patches[0], dim=-1)
    for i, row in enumerate(rows):
        assert (row['image'], row['patch']) == (f'images/{i}.png', [0, 3])
        expected = {}
        for j in {0, 1, 2} - {i}:
            similarity, patch = (features[j] @ features[i, 3]).max(dim=0)
            expected[f'images/{j}.png'] = (list(divmod(patch.item(), 4)), pytest.approx(similarity.item(), abs=1e-5))
        assert {each['image']: (each['patch'], each['similarity']) for each in row['nearest']} == expected
        assert row['nearest'][0]['similarity'] >= row['nearest'][1]['similarity']
    first = pictures(folder / 'out')
    tool(NEIGHBOURS, *args, '--queries', 2)  # random ones, the same every time
    random = pictures(folder / 'out')
    assert random['nearest.json'] != first['nearest.json']
    assert len(json.loads(random['nearest.json'])) == 6
    tool(NEIGHBOURS, *args, '--queries', 2)
    assert pictures(folder / 'out') == random
    tool(NEIGHBOURS, 'images/0.png', *args[1:-1], 'alone')
    assert set(pictures(folder / 'alone')) == {'neighbourhoods.png'}


def test_patches_of_an_image_in_the_plane(folder, tool):
    out = folder / 'new/a.png'
    args = ('a.pth', 'images/0.png', '--clusters', 3, '--size', 32, '--perplexity', 5, '--device', 'cpu', '--out', out)
    tool(TSNE, *args)
    with np.load(out.with_suffix('.npz')) as data:
        found = {name: data[name] for name in data.files}
    extractor = mmmim.get_model('a.pth')
    features = extractor(preprocessed(extractor, [read_square('images/0.png', 32)])).patches[0][0]
    assert np.array_equal(found['labels'], PatchTree(features.numpy(), (8, 8)).cut(3))
    assert found['coordinates'].shape == (64, 2)
    np.testing.assert_allclose(found['components'], pca_components(features, 2), atol=1e-4)
    assert Image.open(out).size[0] > 1000


def test_attention_distance(folder, tool):
    output = tool(DISTANCE, 'a.pth', 'images', '--batch', 2, '--out', 'out', '--device', 'cpu')
    result = json.loads((folder / 'out/attention_distance.json').read_text())
    extractor = mmmim.get_model('a.pth')
    images = [read_square(f'images/{i}.png', 16) for i in range(3)]
    maps = attention_maps(extractor.backbone, preprocessed(extractor, images), [0, 1])
    expected = [attention_distance(one, (4, 4), 4, 4).mean(dim=0) for one in maps]
    torch.testing.assert_close(torch.tensor(result['distance']), torch.stack(expected))
    assert np.allclose(result['mean'], np.mean(result['distance'], axis=1))
    assert (result['images'], result['size'], result['patch_size']) == (3, 16, 4)
    assert '[2/2] batches' in output
    assert '| block | mean | head 0 | head 1 |' in output
    assert all(f' {value:.1f} ' in output for row in result['distance'] for value in row)


def test_rankme(folder, tool):
    args = ('--workers', 0, '--device', 'cpu', '--out-dir', 'out/new')
    output = tool(RANKME, 'cls.pth', 'classes', *args, '--batch-size', 7)
    assert '1 of 25 images left out, for example: cannot read image classes/green/00.png' in output
    written = json.loads((folder / 'out/new/rankme.json').read_text())
    assert written['about']['unreadable'] == 1
    assert list(written['poolings']) == ['cls', 'pooled']
    model = mmmim.get_model('cls.pth')
    images = [read_square(path, 16) for path in sorted(folder.glob('classes/*/[0-9].png'))]
    features = model(preprocessed(model, images))
    for name, row in written['poolings'].items():
        expected = pytest.approx(rankme(features.pool(name)).item(), rel=1e-4)
        assert row == {'rankme': expected, 'images': 24, 'width': DIM}
        assert f'| {row["rankme"]:.2f} |' in ' '.join(output.split())
    table = (folder / 'out/new/rankme.md').read_text()
    assert table.startswith('cls.pth, auto weights, on classes at 16 px\n\n| pooling ')
    assert table.count('\n| ') == 3

    few = ('--pool', 'top3', 'pooled', '--weights', 'student', '--max-images', 7)
    output = tool(RANKME, 'cls.pth', 'classes/red', *few, *args)
    assert f'pooled: 7 images are fewer than the width {DIM}, and RankMe is at most 7.' in output
    rows = json.loads((folder / 'out/new/rankme.json').read_text())['poolings']
    assert list(rows) == ['top3', 'pooled']
    assert all(1 < row['rankme'] <= 7.001 and row['images'] == 7 for row in rows.values())


@pytest.mark.parametrize(
    ('name', 'args', 'message'),
    [
        (PCA, 'images/none.png a.pth', 'There is no image file or folder images/none.png'),
        (PCA, 'images bad.png a.pth --sizes 16', 'cannot read image bad.png'),
        (PCA, 'images none.pth', 'The checkpoint none.pth does not exist'),
        (PCA, 'images capi/none', 'capi/none is no checkpoint'),
        (PCA, 'images a.pth --sizes 16 --layer 2', 'There is no block 2 in an encoder of 2'),
        (PCA, 'images a.pth --sizes 8 --mode image --out out', '4 patches with features of width 16'),
        (PCA, 'images a.pth --device none', '--device none cannot be used'),
        (PCA, 'images a.pth --out new/x.png', 'resolutions.png and channels.png are written: give a folder'),
        (TSNE, 'a.pth none', 'There is no folder none'),
        (TSNE, 'a.pth classes --classes rid', 'There is no class folder rid with images in classes. Did you mean red'),
        (TSNE, 'a.pth classes --pool cls', 'The model has no feature cls: choose from pooled, predicted'),
        (TSNE, 'a.pth classes --perplexity 24 --workers 0', '--perplexity 24 does not fit 24 images'),
        (TSNE, 'a.pth classes --out a.npz', '--out a.npz: give a file that ends in .png'),
        (RECONSTRUCTION, 'images a.pth', 'none of its branches (capi) has the target generator mmmim.PixelTarget'),
        (RECONSTRUCTION, 'images mae.pth --mask-ratio 1', 'must be a finite number above 0 and below 1, not 1.0.'),
        (TSNE, 'a.pth images --clusters 2', '--clusters shows the patches of one image, and images is a folder'),
        (TSNE, 'a.pth images/0.png --clusters 2 --pool cls', '--clusters shows the patches of one image: leave --pool'),
        (TSNE, 'a.pth images/0.png --clusters 2', '--perplexity 30 does not fit 16 patches'),
        (CLUSTERS, 'images a.pth --clusters 0', 'argument --clusters: it must be a whole number of at least 1, not 0'),
        (CLUSTERS, 'images timm:vit_tiny=cls.pth', 'has no model vit_tiny. Did you mean'),
        (CLUSTERS, 'images timm:vit_tiny_patch16_224', 'names no weights, and nothing is downloaded: write timm:vit_'),
        (RECONSTRUCTION, 'images timm:vit_tiny_patch16_224=cls.pth', 'is an encoder of timm, which predicts no pixels'),
        (
            NEIGHBOURS,
            'images a.pth --size 16 --query 4 0',
            'There is no patch in row 4 and column 0: the image has 4 x',
        ),
        (NEIGHBOURS, 'images a.pth --shares 2', 'argument --shares: it must be'),
        (ATTENTION, 'a.pth images --mass 0.6 --subtract-extra', '--mass is of attention, and --subtract-extra shows'),
        (ATTENTION, 'timm:vit_tiny_patch16_224=a.pth images --weights ema', 'holds one set of weights'),
        (ATTENTION, 'a.pth', 'Nothing to look at: give IMAGES, or --averaged FOLDER'),
        (ATTENTION, 'a.pth images --query 4 0', 'There is no patch in row 4 and column 0: the image has 4 x 4'),
        (ATTENTION, 'a.pth images --layers all 1', "--layers all 1: give numbers of blocks, or 'all' alone"),
        (ATTENTION, 'a.pth empty', 'No images in empty'),
        (ATTENTION, 'plain.pth images --extra-tokens', 'The encoder has no extra tokens'),
        (ATTENTION, 'a.pth images --size 200000', 'The attention of 2500000004 tokens of 200000 px needs'),
        (ATTENTION, 'a.pth images --extra-tokens --query 0 0 --out x.png', 'queries.png and extra_tokens.png are'),
        (DISTANCE, 'a.pth images --batch 0', '--batch must be at least 1, got 0'),
        (RANKME, 'a.pth bad.png', 'None of the 1 images can be read'),
        (RANKME, 'a.pth images --pool mean', "There is no feature 'mean'"),
    ],
)
def test_errors(folder, tool, name, args, message):
    error = tool(name, *args.split(), code=2)
    assert message in error
    assert 'error: ' in error
    assert not Path('work_dirs').exists()
    assert not Path('new').exists()


@pytest.mark.parametrize('name', TOOLS)
def test_where_results_go(name, folder, tool):
    """A name of a picture is never a folder, and nothing is computed where a file is in the place of a folder."""
    (folder / 'taken').touch()
    one = name not in SEVERAL
    option = '--out-dir' if name == RANKME else '--out'
    error = tool(name, *TOOLS[name], option, 'taken/x/y.png' if one else 'taken/x/y', code=2)
    assert 'is a file, not a folder: give another name' in error
    if one:
        tool(name, *TOOLS[name], option, 'new/x.png')
        assert Image.open(folder / 'new/x.png').size[0] > 10
        assert {path.name for path in (folder / 'new').iterdir()} <= {'x.png', 'x.npz', 'x.json'}
