from contextlib import nullcontext

import pytest
import torch

from mmmim.structures import Context, PatchMask
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError


@pytest.fixture
def mask():
    """Two masks for each of three images, two target blocks each."""
    order = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(i)) for i in range(6)])
    return PatchMask(
        visible=order[:, :4],
        predict=order[:, 4:10].unflatten(1, (2, 3)),
        image_index=torch.arange(3).repeat_interleave(2),
        grid=(3, 4),
        offsets=torch.arange(3 * 12 * 2).view(3, 12, 2),
    )


def test_masks_of_some_images_count_these_images_from_zero(mask):
    some = mask.images(1, 3, 3)
    assert some.num_masks == 4
    assert some.image_index.tolist() == [0, 0, 1, 1]
    assert torch.equal(some.visible, mask.visible[2:])
    assert torch.equal(some.predict, mask.predict[2:])
    assert torch.equal(some.offsets, mask.offsets[1:])


def test_other_views_of_a_mask(mask):
    assert torch.equal(mask.of_predicted.visible, mask.predict.reshape(6, 6))
    assert mask.of_predicted is mask.of_predicted  # so that a teacher knows it again
    assert torch.equal(mask.of_all.visible, torch.arange(12).expand(6, 12))


def test_patches_are_those_of_the_image_of_a_mask(mask):
    tokens = torch.arange(3 * 12).view(3, 12, 1)
    picked = gather_patches(tokens, mask.visible, mask.image_index)
    assert torch.equal(picked.squeeze(-1), 12 * mask.image_index.unsqueeze(1) + mask.visible)
    own = gather_patches(tokens, mask.visible[:3])
    assert torch.equal(own.squeeze(-1), 12 * torch.arange(3).unsqueeze(1) + mask.visible[:3])


def test_pieces_of_a_context_join():
    pieces = [
        Context(torch.full((b, 2, 3), b), torch.full((b, 1, 3), b), (1, 2), None, (torch.full((b, 3, 3), b),), 1)
        for b in (1, 2)
    ]
    whole = Context.cat(pieces)
    assert whole.visible[:, 0, 0].tolist() == whole.hidden[0][:, 0, 0].tolist() == [1, 2, 2]
    assert whole.cls.shape == (3, 1, 3)


@pytest.mark.parametrize(
    ('gap', 'size', 'patch_size', 'fits'),
    [
        (0, (8, 12), 4, True),
        (0, (8, 12), 2, False),
        (0, (16, 24), 4, False),
        (0, (8, 16), 4, False),
        (2, (12, 18), 4, True),
        (2, (8, 12), 4, True),
        (2, (8, 12), 8, False),
    ],
)
def test_masks_of_another_grid_are_refused(gap, size, patch_size, fits):
    indices = torch.arange(6).unsqueeze(0)
    offsets = torch.zeros(1, 6, 2, dtype=torch.int64) if gap else None
    mask = PatchMask(indices[:, :2], indices[:, 2:].unsqueeze(0), torch.zeros(1, dtype=torch.int64), (2, 3), offsets)
    refused = pytest.raises(InputError, match=r'2 x 3 patches, .*patch_size=\d') if not fits else nullcontext()
    with refused:
        mask.check_grid(torch.Size((1, 3, *size)), patch_size)
