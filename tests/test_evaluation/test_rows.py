import warnings

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from mmmim.evaluation.probes.rows import Rows, Standardizer
from mmmim.utils import InputError
from tests.toys import generator


@pytest.mark.parametrize('dtype', [np.float16, np.float64])
def test_rows_of_a_file(tmp_path, dtype):
    x = np.random.default_rng(0).normal(size=(25, 4)).astype(dtype)
    np.save(tmp_path / 'x.npy', x)
    rows = Rows(np.load(tmp_path / 'x.npy', mmap_mode='r'), chunk=10)
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # torch's about memory that must not be written to
        chunks = list(rows)
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    assert chunks[0].dtype == (torch.float64 if dtype == np.float64 else torch.float32)
    np.testing.assert_array_equal(torch.cat(chunks), x)
    assert (len(rows), rows.width) == (25, 4)


@pytest.mark.parametrize('kind', ['tensor', 'array'])
def test_rows_by_index_standardised(kind):
    x, index = torch.randn(30, 5, generator=generator()).half(), torch.tensor([3, 29, 3, 11, 0])
    before, scale = x.clone(), Standardizer(x)
    rows = Rows(x, index, scale) if kind == 'tensor' else Rows(x.numpy(), index.numpy(), scale)
    torch.testing.assert_close(torch.cat(list(rows.chunks(2))), scale(x.float())[index])
    torch.testing.assert_close(rows.read(1, 3), scale(x.float())[[29, 3]])
    assert torch.equal(x, before)


def test_rows_are_held_as_they_are_read():
    x, index = torch.randn(30, 5, generator=generator()).half(), torch.tensor([3, 29, 3, 11, 0])
    rows = Rows(x, index, Standardizer(x), chunk=2)
    assert rows.held(budget=5 * 5 * 4 - 1) is rows
    held = rows.held(budget=5 * 5 * 4)
    assert held.features.dtype == torch.float32
    assert torch.equal(held.features, torch.cat(list(rows)))
    assert (held.index, held.scale, held.rows_per_chunk()) == (None, None, 2)
    assert held.held() is held  # nothing is to be done twice


def test_chunks_have_room_for_what_is_wider():
    rows = Rows(torch.zeros(3, 1024))
    assert [rows.rows_per_chunk(width) for width in (0, 500, 4096, 2**30)] == [8192, 8192, 2048, 1]


@pytest.mark.parametrize('x', [torch.zeros(3), torch.zeros(3, 2, dtype=torch.int64), np.zeros((3, 2), np.uint8)])
def test_other_arrays_are_refused(x):
    with pytest.raises(InputError, match='Features are a matrix of floating-point numbers'):
        Rows(x)


@pytest.mark.parametrize('chunk', [None, 1, 7])
def test_standardizer_is_that_of_scikit_learn(chunk):
    x = torch.randn(50, 6, dtype=torch.float64, generator=generator()) * 3 + 1
    x[:, 2] = 0.1  # constant
    queries = torch.randn(7, 6, dtype=torch.float64)
    expected = StandardScaler().fit(x.numpy()).transform(queries.numpy())
    np.testing.assert_allclose(Standardizer(Rows(x, chunk=chunk))(queries), expected)
    # A large mean costs no digits.
    x = x * 1e-3 + 1e6
    scale = Standardizer(Rows(x, chunk=chunk))
    np.testing.assert_allclose(scale.mean, x.numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(scale.std[0], np.std(x[:, 0].numpy() - 1e6), rtol=1e-9)
    assert scale.std[2] == 1
