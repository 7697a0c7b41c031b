import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import jaccard_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from mmmim.evaluation import dense, knn, logistic_regression
from mmmim.evaluation.probes import LabelledImages, quick_scores
from mmmim.models.features import Features
from mmmim.utils import InputError


def blobs(n, dim, classes, seed, spread=2.0):
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(classes, (n,), generator=rng)
    return centres[labels] + spread * torch.randn(n, dim, generator=rng), labels


@pytest.mark.parametrize('distance', ['cosine', 'l2'])
@pytest.mark.parametrize('k', [1, 4, 30])
def test_knn_is_that_of_scikit_learn(distance, k, monkeypatch):
    monkeypatch.setattr(knn, 'CHUNK', (37, 50))  # many chunks, the last ones smaller than k
    x, y = blobs(330, 12, 5, seed=1)
    queries, _ = blobs(101, 12, 5, seed=2)
    model = KNeighborsClassifier(k, metric='cosine' if distance == 'cosine' else 'euclidean', algorithm='brute')
    model.fit(x.double().numpy(), y.numpy())
    near = knn.nearest_neighbours(x.double(), queries.double(), k, distance)
    expected = model.kneighbors(queries.double().numpy(), return_distance=False)
    assert (near.numpy() == expected).all()
    voted = knn.knn_classify(x.double(), y, queries.double(), 5, k, distance)
    assert (voted.numpy() == model.predict(queries.double().numpy())).all()


def test_nearest_neighbours_inside_one_set():
    x, y = blobs(120, 6, 4, seed=1)
    x[7], x[9] = x[3], x[3]  # copies of each other are each other's neighbours
    cosine = torch.nn.functional.cosine_similarity(x.unsqueeze(0), x.unsqueeze(1), dim=-1)
    nearest = cosine.fill_diagonal_(-2.0).argmax(dim=1)
    y[3] = y[7] = y[9]
    assert knn.leave_one_out_accuracy(x, y) == float((y[nearest] == y).double().mean())
    assert 0.25 < knn.leave_one_out_accuracy(x, y) < 1


def test_ties_of_votes_go_to_the_smallest_class():
    votes = torch.tensor([[3, 1, 1, 3], [2, 2, 0, 4], [4, 3, 2, 1]])
    assert knn.mode(votes, 5).tolist() == [1, 2, 1]


def test_knn_refuses():
    x = torch.randn(5, 3)
    with pytest.raises(InputError, match='k=6 neighbours of 5'):
        knn.nearest_neighbours(x, x, 6)
    with pytest.raises(InputError, match="'manhattan'"):
        knn.nearest_neighbours(x, x, 1, 'manhattan')


@pytest.mark.parametrize('c', [1e-3, 1.0, 100.0])
def test_logistic_regression_is_that_of_scikit_learn(c, monkeypatch):
    monkeypatch.setattr(logistic_regression, 'CHUNK', 64)
    x, y = blobs(300, 10, 4, seed=3, spread=3.0)
    x, y = x.double(), y
    ours = logistic_regression.fit_logistic_regression(x, y, 4, c, max_iter=1000, tolerance=1e-10)
    theirs = LogisticRegression(C=c, max_iter=10_000, tol=1e-12).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(ours[:, :-1], theirs.coef_, atol=2e-4 * abs(theirs.coef_).max())
    intercept = ours[:, -1] - ours[:, -1].mean()
    np.testing.assert_allclose(intercept, theirs.intercept_ - theirs.intercept_.mean(), atol=1e-3)
    queries, _ = blobs(200, 10, 4, seed=4)
    assert (logistic_regression.predict(ours, queries.double()).numpy() == theirs.predict(queries.numpy())).all()
    # From the solution it stays there.
    again = logistic_regression.fit_logistic_regression(x, y, 4, c, max_iter=5, start=ours)
    torch.testing.assert_close(again, ours, rtol=0, atol=1e-3)


def test_standardizer_is_that_of_scikit_learn():
    x = torch.randn(50, 6, dtype=torch.float64) * 3 + 1
    x[:, 2] = 5.0
    queries = torch.randn(7, 6, dtype=torch.float64)
    expected = StandardScaler().fit(x.numpy()).transform(queries.numpy())
    np.testing.assert_allclose(logistic_regression.Standardizer(x)(queries), expected)


def test_mean_iou_is_that_of_scikit_learn():
    rng = torch.Generator().manual_seed(0)
    true = torch.randint(0, 6, (5, 8, 8), generator=rng)
    predicted = torch.where(torch.rand(true.shape, generator=rng) < 0.6, true, torch.randint(0, 6, true.shape))
    expected = jaccard_score(true.flatten(), predicted.flatten(), average='macro')
    assert dense.mean_iou(predicted, true, 9) == pytest.approx(expected)
    keep = (true != 0) & (true != 5)
    labels = sorted({*true[keep].tolist(), *predicted[keep].tolist()})
    expected = jaccard_score(true[keep], predicted[keep], average='macro', labels=labels)
    assert dense.mean_iou(predicted, true, 9, ignored=(0, 5)) == pytest.approx(expected)


def test_patch_labels():
    maps = torch.arange(2 * 6 * 9).view(2, 6, 9)
    patches = dense.patch_labels(maps, 3)
    assert patches.shape == (2, 6, 9)
    assert patches[1, 4].tolist() == maps[1, 3:6, 3:6].flatten().tolist()


def test_dense_knn_votes_per_pixel():
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
    labels = torch.tensor([[1, 2, 0, 3], [1, 0, 2, 0], [2, 2, 1, 0], [5, 5, 5, 5]])
    found = dense.knn_segment(features, labels, torch.tensor([[1.0, 0.05], [0.0, 2.0]]), 6, k=3)
    assert found[0].tolist() == [1, 2, 0, 0]
    assert dense.knn_segment(features, labels, torch.tensor([[0.0, 2.0]]), 6, k=1).tolist() == [[5, 5, 5, 5]]


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
