import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from sklearn.metrics import jaccard_score

from mmmim.evaluation.measures import dense
from mmmim.evaluation.probes.quick import quick_scores
from mmmim.features.extraction import Features
from mmmim.features.labelled_images import LabelledImages
from mmmim.utils import InputError


def test_mean_iou_is_that_of_scikit_learn():
    rng = torch.Generator().manual_seed(0)
    true = torch.randint(0, 6, (5, 8, 8), generator=rng)
    wrong = torch.randint(0, 6, true.shape, generator=rng)
    predicted = torch.where(torch.rand(true.shape, generator=rng) < 0.6, true, wrong)
    confusion = dense.confusion_matrix(predicted, true, 9)
    expected = jaccard_score(true.flatten(), predicted.flatten(), average='macro')
    assert dense.mean_iou(confusion) == pytest.approx(expected)
    assert dense.pixel_accuracy(confusion) == pytest.approx(float((true == predicted).double().mean()))
    assert confusion[2, 3] == int(((true == 2) & (predicted == 3)).sum())


def test_ignored_labels_that_are_predicted():
    """They are classes of IoU 0, as in CAPI's evaluation; uint8, with a label beyond the classes, part by part."""
    rng = torch.Generator().manual_seed(0)
    true = torch.randint(0, 6, (5, 8, 8), generator=rng)
    wrong = torch.randint(0, 6, true.shape, generator=rng)
    predicted = torch.where(torch.rand(true.shape, generator=rng) < 0.6, true, wrong)
    true[true == 4] = 255
    keep = (true != 0) & (true != 255)
    assert (predicted[keep] == 0).any()
    assert (predicted[keep] == 4).any()
    parts = zip(predicted.byte(), true.byte(), strict=True)
    confusion = torch.stack([dense.confusion_matrix(p, t, 6, (0, 255)) for p, t in parts]).sum(0)
    expected = jaccard_score(true[keep], predicted[keep], average='macro')
    assert dense.mean_iou(confusion) == pytest.approx(expected)
    assert dense.pixel_accuracy(confusion) == pytest.approx(float((true == predicted)[keep].double().mean()))


def test_patch_labels():
    maps = torch.arange(2 * 6 * 9).view(2, 6, 9)
    patches = dense.patch_labels(maps, 3)
    assert patches.shape == (2, 6, 9)
    assert patches[1, 4].tolist() == maps[1, 3:6, 3:6].flatten().tolist()


class Pipeline:
    """Images whose mean tells the class, at 8 px in two sizes of label map values."""

    def __call__(self, info):
        from mmpretrain.structures import DataSample

        label = info['gt_label']
        image = torch.full((3, 8, 8), 50 + 20 * label, dtype=torch.uint8)
        image[0, :4] += 7  # blue of BGR
        maps = np.full((8, 8), 1, dtype=np.uint8)
        maps[:, 4:] = 2 + label
        sample = DataSample().set_gt_label(label)
        sample.set_field(maps, 'gt_seg_map')
        return {'inputs': image, 'data_samples': sample}


def toy_dataset(n, classes=3):
    class Toy(BaseDataset):
        def load_data_list(self):
            return [{'gt_label': i % classes} for i in range(n)]

    return Toy(metainfo={'ignored_labels': (0,)}, pipeline=[Pipeline()])


def extract(images):
    patches = images.float().unfold(2, 4, 4).unfold(3, 4, 4).flatten(4).mean(-1)  # B 3 2 2
    columns = torch.tensor([[0.0, 100.0], [0.0, 100.0]])
    tokens = (patches + columns).flatten(2).transpose(1, 2)
    return Features((tokens,), (tokens[:, :0],), tokens.mean(1), None, None, (2, 2))


def test_labelled_images():
    data = LabelledImages.read(toy_dataset(9), 6)
    assert data.images.shape == (6, 3, 8, 8)
    assert data.images.dtype == torch.uint8
    assert (data.images[:, 2, 0, 0] == data.images[:, 0, 0, 0] + 7).all()  # RGB now
    assert (data.label_maps[:, 0, 4] == 2 + data.labels).all()
    assert data.ignored_labels == (0,)
    again = LabelledImages.read(toy_dataset(9), 6)
    assert torch.equal(data.labels, again.labels)
    assert len(LabelledImages.read(toy_dataset(9)).images) == 9


def test_a_subset_has_enough_images_of_every_class():
    """Of two thousand random images of a thousand classes, votes and regressions could make nothing."""
    train = LabelledImages.read(toy_dataset(400, 10), 60)
    classes, counts = train.labels.unique(return_counts=True)
    assert len(classes) == 3
    assert counts.min() > 10
    assert len(train.images) == 60
    val = LabelledImages.read(toy_dataset(100, 10), 15, classes.tolist())
    assert set(val.labels.tolist()) == set(classes.tolist())
    assert len(val.images) == 15
    few = LabelledImages.read(toy_dataset(100, 10), 500, classes.tolist())
    assert len(few.images) == 30
    assert len(LabelledImages.read(toy_dataset(40, 2), 40).labels.unique()) == 2


def test_colours_that_are_rgb_already():
    plain, turned = LabelledImages.read(toy_dataset(4), bgr=False), LabelledImages.read(toy_dataset(4))
    assert torch.equal(plain.images.flip(1), turned.images)
    assert not torch.equal(plain.images, turned.images)


@pytest.mark.parametrize(('size', 'low'), [(16, 0), (8, -1)])
def test_label_maps_that_do_not_fit_are_refused(size, low):
    data = toy_dataset(3)
    plain = Pipeline()

    def call(info):
        sample = plain(info)
        sample['data_samples'].set_field(np.full((size, size), low, dtype=np.int64), 'gt_seg_map')
        return sample

    data.pipeline.transforms[0] = call
    with pytest.raises(InputError, match=rf'label map of \[{size}, {size}\] with labels from {low} does not fit'):
        LabelledImages.read(data)


def test_features_that_are_not_finite_have_no_score():
    train = LabelledImages.read(toy_dataset(30))

    def broken(images):
        features = extract(images)
        features.patches[0][0, 0, 0] = torch.nan
        features.pooled[:] = torch.inf
        return features

    scores = quick_scores(broken, train, train, linear=('pooled', 'all'), k=3)
    assert np.isnan([scores['linear_pooled'], scores['linear_all']]).all()


def test_quick_scores():
    train, test = LabelledImages.read(toy_dataset(30)), LabelledImages.read(toy_dataset(12))
    scores = quick_scores(extract, train, test, linear=('pooled', 'all'), k=3)
    assert scores == {'knn_pooled': 1.0, 'linear_pooled': 1.0, 'linear_all': 1.0, 'knn_miou': 1.0}
    test.labels = (test.labels + 1) % 3
    test.label_maps = torch.where(test.label_maps > 1, (test.label_maps - 1) % 3 + 2, 1)
    scores = quick_scores(extract, train, test, linear=('pooled',), k=3)
    assert scores['knn_pooled'] == scores['linear_pooled'] == 0
    assert scores['knn_miou'] == pytest.approx(1 / 4)  # the background is still right
    train.labels = None
    assert set(quick_scores(extract, train, test)) == {'knn_miou'}
    train.label_maps = None
    assert quick_scores(extract, train, test) == {}


def test_images_of_different_sizes_are_refused():
    data = toy_dataset(4)
    images = iter([8, 8, 12, 8])
    plain = Pipeline.__call__

    def call(info):
        sample = plain(None, info)
        side = next(images)
        return {**sample, 'inputs': torch.zeros(3, side, side, dtype=torch.uint8)}

    data.pipeline.transforms[0] = call
    with pytest.raises(InputError, match=r'images of one size and got \[3, 8, 8\] and \[3, 12, 12\]'):
        LabelledImages.read(data)
