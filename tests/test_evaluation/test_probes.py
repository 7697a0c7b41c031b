import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmpretrain.structures import DataSample

from mmmim.evaluation.probes.quick import quick_scores
from mmmim.features.extraction import Features, LayerFeatures
from mmmim.features.labelled_images import LabelledImages
from mmmim.utils import InputError


def toy_dataset(n, classes=3, side=None, map_side=8, low=1):
    """Images of 8 x 8 pixels whose mean tells the class, and whose right half is labelled with it."""

    def sample(info):
        label = info['gt_label']
        image = torch.full((3, 8, 8), 50 + 20 * label, dtype=torch.uint8)
        image[0, :4] += 7  # blue of BGR
        if side is not None and info['sample_idx'] == 2:
            image = torch.zeros(3, side, side, dtype=torch.uint8)
        maps = np.full((map_side, map_side), low, dtype=np.int64)
        maps[:, map_side // 2 :] = 2 + label
        packed = DataSample().set_gt_label(label)
        packed.set_field(maps, 'gt_seg_map')
        return {'inputs': image, 'data_samples': packed}

    class Toy(BaseDataset):
        def load_data_list(self):
            return [{'gt_label': i % classes} for i in range(n)]

    return Toy(metainfo={'ignored_labels': (0,)}, pipeline=[sample])


def extract(images):
    patches = images.float().unfold(2, 4, 4).unfold(3, 4, 4).flatten(4).mean(-1)  # B 3 2 2
    columns = torch.tensor([[0.0, 100.0], [0.0, 100.0]])
    tokens = (patches + columns).flatten(2).transpose(1, 2)
    return Features([LayerFeatures(tokens, tokens[:, :0], (2, 2))])


def test_labelled_images():
    data, again = (LabelledImages.read(toy_dataset(9), 6) for _ in range(2))
    assert (data.images.shape, data.images.dtype) == ((6, 3, 8, 8), torch.uint8)
    assert (data.images[:, 2, 0, 0] == data.images[:, 0, 0, 0] + 7).all()  # RGB now
    assert (data.label_maps[:, 0, 4] == 2 + data.labels).all()
    assert data.ignored_labels == (0,)
    assert torch.equal(data.labels, again.labels)
    turned, plain = (LabelledImages.read(toy_dataset(9), bgr=bgr) for bgr in (True, False))
    assert len(plain.images) == 9
    assert torch.equal(plain.images.flip(1), turned.images)


def test_a_subset_has_enough_images_of_every_class():
    """Of two thousand random images of a thousand classes, votes and regressions could make nothing."""
    train = LabelledImages.read(toy_dataset(400, 10), 60)
    classes, counts = train.labels.unique(return_counts=True)
    assert (len(train.images), len(classes)) == (60, 3)
    assert counts.min() > 10
    for number, found in ((15, 15), (500, 30)):
        val = LabelledImages.read(toy_dataset(100, 10), number, classes.tolist())
        assert set(val.labels.tolist()) == set(classes.tolist())
        assert len(val.images) == found
    assert len(LabelledImages.read(toy_dataset(40, 2), 40).labels.unique()) == 2


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'map_side': 16}, r'label map of \[16, 16\] with labels from 1 does not fit'),
        ({'side': 12}, r'images of one size and got \[3, .*\] and \[3, '),
    ],
)
def test_images_and_label_maps_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        LabelledImages.read(toy_dataset(4, **options))


def test_quick_scores():
    train, test = LabelledImages.read(toy_dataset(30)), LabelledImages.read(toy_dataset(12))
    scores = quick_scores(extract, train, test, linear=('pooled', 'all'), k=3)
    assert scores == {f'quick_{name}': 1.0 for name in ('knn_pooled', 'linear_pooled', 'linear_all', 'knn_miou')}
    test.labels = (test.labels + 1) % 3
    test.label_maps = torch.where(test.label_maps > 1, (test.label_maps - 1) % 3 + 2, 1)
    scores = quick_scores(extract, train, test, linear=('pooled',), k=3)
    assert scores['quick_knn_pooled'] == scores['quick_linear_pooled'] == 0
    assert scores['quick_knn_miou'] == pytest.approx(1 / 4)  # the background is still right
    train.labels = None
    assert set(quick_scores(extract, train, test)) == {'quick_knn_miou'}
    train.label_maps = None
    assert quick_scores(extract, train, test) == {}


def test_features_that_are_not_finite_have_no_score():
    train = LabelledImages.read(toy_dataset(30))

    def broken(images):
        features = extract(images)
        features.patches[0][0, 0, 0] = torch.nan
        features.pooled[:] = torch.inf
        return features

    scores = quick_scores(broken, train, train, linear=('pooled', 'all'), k=3)
    assert np.isnan([scores['quick_linear_pooled'], scores['quick_linear_all']]).all()
