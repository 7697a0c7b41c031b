import matplotlib.figure
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from mmmim.utils import InputError
from mmmim.visualization.tsne import draw_tsne, tsne
from tests.toys import blobs, generator


def test_neighbours_by_cosine_stay_neighbours():
    features, labels = blobs(120, 8, 3, seed=0, spread=0.1)
    coordinates = tsne(features, perplexity=10, seed=1)
    assert coordinates.shape == (120, 2)
    coordinates, classes = np.asarray(coordinates), labels.numpy()
    assert KNeighborsClassifier(5).fit(coordinates, classes).score(coordinates, classes) > 0.97
    # The length means nothing; powers of two, so that nothing is rounded.
    lengths = 2.0 ** torch.randint(-8, 8, (len(features), 1), generator=generator(1))
    np.testing.assert_array_equal(tsne(lengths * features, perplexity=10, seed=1), coordinates)


def test_what_cannot_be_shown():
    features, _ = blobs(120, 8, 3, seed=0)
    for perplexity in (0.5, 120, 200):
        with pytest.raises(InputError, match=r'--perplexity .* does not fit 120 images'):
            tsne(features, perplexity)
    with pytest.raises(InputError, match='collapsed'):
        tsne(torch.ones(40, 8))
    features[3, 3] = torch.nan
    with pytest.raises(InputError, match='not finite'):
        tsne(features)


@pytest.mark.parametrize(('number', 'named'), [(1, 0), (2, 2), (20, 20), (21, 16)])
def test_classes_in_the_picture(tmp_path, monkeypatch, number, named):
    figures = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, 'savefig', lambda self, *a, **k: figures.append(self) or save(self, *a, **k)
    )
    labels = np.arange(3 * number) % number
    coordinates = np.random.default_rng(0).normal(size=(len(labels), 2))
    classes = [f'class {i}' for i in range(number)]
    draw_tsne(coordinates, labels, classes, tmp_path / 'a.png', 'Title\nof two lines', 'caption')
    assert Image.open(tmp_path / 'a.png').size[1] > 500
    (figure,) = figures
    dots = figure.axes[0].collections[0]
    assert len(np.unique(dots.get_facecolor(), axis=0)) == number
    # Every dot has the colour of its class, whatever the order they are drawn in.
    colour_of = {}
    for place, colour in zip(dots.get_offsets().data, dots.get_facecolor(), strict=True):
        label = labels[np.flatnonzero((coordinates == place).all(axis=1))[0]]
        assert colour_of.setdefault(label, tuple(colour)) == tuple(colour)
    shown = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    shown += [text.get_text() for ax in figure.axes[1:] for text in ax.get_yticklabels()]
    assert len(shown) == named
    assert {*shown} <= {*classes}
    if named:
        assert {classes[0], classes[-1]} <= {*shown}
