import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from mmmim.evaluation.probes import knn
from mmmim.evaluation.probes.rows import Rows
from mmmim.utils import InputError
from tests.toys import blobs, generator

METRICS = {'cosine': 'cosine', 'l2': 'euclidean'}


@pytest.mark.parametrize(
    ('dtype', 'chunk'), [(torch.float32, None), (torch.float64, (37, 50)), (torch.float32, (101, 7))]
)
def test_knn_is_that_of_scikit_learn(dtype, chunk):  # chunks of 7 are smaller than k
    x, y = blobs(330, 12, 5, seed=1)
    queries, _ = blobs(101, 12, 5, seed=2)
    pixels = torch.stack([y, (y + 1) % 5, torch.randint(5, y.shape)], dim=1)
    near = knn.nearest_neighbours(x.to(dtype), queries.to(dtype), 30, tuple(METRICS), chunk=chunk)
    for distance, metric in METRICS.items():
        ties = 0
        for k in (1, 4, 10, 30):
            model = KNeighborsClassifier(k, metric=metric, algorithm='brute').fit(x.double().numpy(), pixels)
            asked = queries.double().numpy()
            assert (near[distance][:, :k].numpy() == model.kneighbors(asked, return_distance=False)).all()
            voted = knn.vote(near[distance][:, :k], pixels, 5)
            assert (voted.numpy() == model.predict(asked)).all()
            assert torch.equal(knn.vote(near[distance][:, :k], y, 5), voted[:, 0])
            counts = torch.nn.functional.one_hot(y[near[distance][:, :k]], 5).sum(1).sort(dim=1).values
            ties += int((counts[:, -1] == counts[:, -2]).sum())
        assert ties > 20


@pytest.mark.parametrize('chunk', [None, (5, 64), (30, 300)])
def test_equal_entries_come_in_their_order(chunk):
    """Small integers, so that products are exact: neighbours are those of a stable sort in any chunking."""
    rng = generator()
    x = torch.randint(-1, 2, (1000, 4), generator=rng).float()
    queries = torch.randint(-2, 3, (30, 4), generator=rng).float()
    near = knn.nearest_neighbours(x, queries, 12, ('l2',), chunk=chunk)['l2']
    squares = (queries.unsqueeze(1) - x).square().sum(2)
    expected = squares.sort(dim=1, stable=True).indices[:, :12]
    assert (squares.gather(1, expected).diff(dim=1) == 0).any()
    assert torch.equal(near, expected)
    # Four of eight entries are 1 or -1: the norm is 2, so that products are exact when they are divided by it, too.
    signs = (2 * torch.randint(0, 2, (200, 8), generator=rng) - 1) * (torch.rand(200, 8, generator=rng).argsort(1) < 4)
    copies = signs.unique(dim=0)[:50].repeat(3, 1).double()
    near = knn.nearest_neighbours(copies, copies[:50], 3, chunk=(16, 40))['cosine']
    assert torch.equal(near, torch.stack([torch.arange(50) + 50 * i for i in range(3)], dim=1))


@pytest.mark.parametrize('order', ['mixed', 'better later', 'better first', 'equal'])
@pytest.mark.parametrize('chunk', [(40, 1500), (17, 2048), (40, 5000)])
def test_what_later_chunks_are_searched_for_does_not_matter(order, chunk):
    """Few or all groups of a chunk may hold neighbours, of some queries or of all; many entries are equal."""
    rng = generator()
    x = torch.randint(-3, 4, (5000, 3), generator=rng).float()
    queries = torch.randint(-3, 4, (40, 3), generator=rng).float()
    queries[:20] = queries[0]
    if order != 'mixed':
        x = x[(x - queries[0]).square().sum(1).argsort(descending=order == 'better later')]
    if order == 'equal':
        x[:] = x[0]
    near = knn.nearest_neighbours(x, queries, 20, ('l2',), chunk=chunk)['l2']
    squares = (queries.unsqueeze(1) - x).square().sum(2)
    assert torch.equal(near, squares.sort(dim=1, stable=True).indices[:, :20])


def test_products_in_bfloat16():
    x, queries = blobs(300, 64, 5, seed=1)[0], blobs(40, 64, 5, seed=2)[0]
    exact, rounded = (knn.nearest_neighbours(x, queries, 10, tuple(METRICS), dtype) for dtype in (None, torch.bfloat16))
    for distance in METRICS:
        assert 0.5 < (exact[distance] == rounded[distance]).float().mean() < 1
    unit = torch.nn.functional.normalize
    cosine = unit(queries, dim=1) @ unit(x, dim=1).T
    lost = cosine.gather(1, exact['cosine']) - cosine.gather(1, rounded['cosine'])
    assert lost.abs().max() < 0.01


def test_progress_and_rows_on_disk(tmp_path):
    x = blobs(90, 6, 3, seed=0)[0].half()
    np.save(tmp_path / 'x.npy', x.numpy())
    index = np.arange(10, 80, 2)
    rows, calls = Rows(np.load(tmp_path / 'x.npy', mmap_mode='r'), index), []
    near = knn.nearest_neighbours(rows, rows, 4, chunk=(9, 10), report=lambda *done: calls.append(done))
    expected = knn.nearest_neighbours(x.float()[index], x.float()[index], 4)
    assert torch.equal(near['cosine'], expected['cosine'])
    assert calls == [(10, 35), (20, 35), (30, 35), (35, 35)]


def test_what_is_not_a_number_breaks_nothing():
    x, _ = blobs(1000, 4, 2, seed=0)
    clean = knn.nearest_neighbours(x, x[:5], 3)['cosine']
    x[7], x[500] = torch.nan, torch.inf
    near = knn.nearest_neighbours(x, x[:9], 5)['cosine']
    assert (near[:5, :2] == torch.tensor([7, 500])).all()
    assert torch.equal(near[:5, 2:], clean)


def test_leave_one_out_never_counts_a_sample_itself():
    x, y = blobs(120, 6, 4, seed=1)
    x[7], x[9] = x[3], x[3]  # copies of each other are each other's neighbours
    cosine = torch.nn.functional.cosine_similarity(x.unsqueeze(0), x.unsqueeze(1), dim=-1)
    nearest = cosine.fill_diagonal_(-2.0).argmax(dim=1)
    y[3] = y[7] = y[9]
    assert knn.leave_one_out_accuracy(x, y) == float((y[nearest] == y).double().mean())
    # Whoever counts itself is always right.
    assert knn.leave_one_out_accuracy(x[:50].repeat_interleave(2, 0), torch.arange(100)) == 0


@pytest.mark.parametrize('few', [0, 32])  # by counts or by comparisons
def test_ties_of_votes_go_to_the_smallest_class(few, monkeypatch):
    monkeypatch.setattr('mmmim.features.patch_labels.FEW', few)
    votes = torch.tensor([[3, 1, 1, 3], [2, 2, 0, 4], [4, 3, 2, 1]])
    assert knn.mode(votes, 5).tolist() == knn.mode(votes.T, 5, dim=0).tolist() == [1, 2, 1]
    votes = torch.randint(256, (50, 31, 3), dtype=torch.uint8) // 8
    expected = torch.nn.functional.one_hot(votes.long(), 256).sum(1).argmax(-1)
    assert torch.equal(knn.mode(votes, 256, dim=1), expected.to(torch.uint8))
    assert knn.mode(torch.tensor([[70_000, 5, 70_000]]), 100_000).tolist() == [70_000]


def test_votes_of_labels_on_disk(tmp_path, monkeypatch):
    labels = np.random.default_rng(0).integers(0, 4, (40, 9), dtype=np.uint8)
    np.save(tmp_path / 'labels.npy', labels)
    near = torch.randint(40, (23, 5))
    whole = knn.vote(near, torch.from_numpy(labels), 4)
    monkeypatch.setattr(knn, 'VOTES', 100)  # chunks of two queries
    found = knn.vote(near, np.load(tmp_path / 'labels.npy', mmap_mode='r'), 4)
    assert found.dtype == torch.uint8
    assert torch.equal(found, whole)


@pytest.mark.parametrize(
    ('k', 'distances', 'message'),
    [(6, ('cosine',), 'k=6 neighbours of 5'), (0, ('cosine',), 'k=0'), (1, ('cosine', 'manhattan'), "'manhattan'")],
)
def test_refusals(k, distances, message):
    x = torch.randn(5, 3)
    with pytest.raises(InputError, match=message):
        knn.nearest_neighbours(x, x, k, distances)
