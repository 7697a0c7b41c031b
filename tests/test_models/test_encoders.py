"""The encoder written out, and images whose patches do not touch each other."""

from dataclasses import replace

import pytest
import torch

from mmmim.models import PixelTarget, ViT
from mmmim.models.layers import PatchEmbed, pick_patches
from mmmim.utils import InputError
from tests.registered import ENCODERS, build
from tests.toys import DIM, GRID, PATCH, jittered, random_mask

SIDES = (GRID[0] * PATCH, GRID[1] * PATCH)


def test_what_enters_the_first_block():
    """With depth 0: tokens of visible patches, and learned tokens with their learned positions."""
    model, mask = build(ENCODERS['learned, proxies']), random_mask(2)
    images = torch.randn(2, 3, *SIDES)
    context, whole = model(images, mask, depth=0), model(images, depth=0)
    index = mask.visible.unsqueeze(-1).expand(-1, -1, DIM)
    torch.testing.assert_close(context.visible, whole.visible.gather(1, index))
    torch.testing.assert_close(context.extra, (model.extra_tokens + model.positions.extra).expand(2, -1, -1))
    # Positions that are learned get gradients on every grid.
    model(torch.randn(2, 3, 24, 8)).visible[..., 0].sum().backward()
    assert model.positions.weight.grad.any(dim=1).all()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'embed_dim': 18, 'num_heads': 2}, 'embed_dim=18'),
        ({'embed_dim': 96, 'num_heads': 5}, 'num_heads=5 does not divide the width 96'),
        ({'img_size': 18, 'patch_size': 4}, 'does not divide an image of 18 x 18'),
        ({'positions': 'rope', 'extra_positions': True, 'num_cls_tokens': 4}, 'no vectors for extra tokens'),
        ({'positions': 'rope', 'num_cls_tokens': 1}, 'multiple of 4'),
        ({'positions': 'none'}, "positions must be one of 'rope', 'sincos', .*, 'relative_shared', got 'none'"),
        ({'qkv_bias': 'kv'}, "qkv_bias must be True, False or 'qv', got 'kv'"),
    ],
)
def test_encoders_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        ViT(**options)


# ------------------------------------------------------------------------------------------- non-contiguous patches


def top_left(mask, group, patch, gap):
    """The image of a patch of a mask, and the pixel of the patch's upper left corner."""
    image = int(mask.image_index[group])
    row, column = divmod(patch, mask.grid[1])
    down, right = mask.offsets[image, patch].tolist()
    return image, row * (PATCH + gap[0]) + down, column * (PATCH + gap[1]) + right


def test_patches_pixel_by_pixel():
    grid, per_image, blocks, gap = (2, 5), 2, 2, (3, 5)
    images = torch.randn(3, 3, grid[0] * (PATCH + gap[0]), grid[1] * (PATCH + gap[1]))
    mask = jittered(random_mask(3, visible=3, predict=2, blocks=blocks, per_image=per_image, grid=grid), min(gap))
    patches = pick_patches(images, PATCH, mask.visible, mask)
    pixels = PixelTarget(PATCH, normalize=False)(images, mask, None, None).patches
    seen = patches.unflatten(2, (3, PATCH, PATCH))
    asked = pixels.unflatten(2, (PATCH, PATCH, 3)).permute(0, 1, 4, 2, 3)
    for found, indices in ((seen, mask.visible), (asked, mask.flat_predict())):
        for g in range(3 * per_image):
            for m, index in enumerate(indices[g].tolist()):
                b, top, left = top_left(mask, g, index, gap)
                assert torch.equal(found[g, m], images[b, :, top : top + PATCH, left : left + PATCH])
    embed = PatchEmbed(PATCH, 5)
    torch.testing.assert_close(embed(images, mask), patches @ embed.weight.flatten(1).T + embed.bias)


def test_an_encoder_of_jittered_patches_is_that_of_the_patches_put_together():
    model, gap = build(ENCODERS['projector']), (2, 2)
    images = torch.randn(3, 3, *(side * (PATCH + 2) for side in GRID))
    mask = jittered(random_mask(3, per_image=2), 2)
    touching = torch.zeros(3, 3, *SIDES)
    for g in range(0, 6, 2):
        for index in range(GRID[0] * GRID[1]):
            b, top, left = top_left(mask, g, index, gap)
            y, x = index // GRID[1] * PATCH, index % GRID[1] * PATCH
            touching[b, :, y : y + PATCH, x : x + PATCH] = images[b, :, top : top + PATCH, left : left + PATCH]
    one, other = model(images, mask), model(touching, replace(mask, offsets=None))
    torch.testing.assert_close(one.visible, other.visible)
    torch.testing.assert_close(one.extra, other.extra)
    assert one.grid == other.grid == GRID
    piece = model(images[1:3], mask.images(1, 3, 3))
    torch.testing.assert_close(piece.visible, one.visible[2:])


def test_images_that_do_not_divide_into_cells():
    mask, size = jittered(random_mask(4), 2), (24, 22)
    with pytest.raises(InputError, match=f'{size[0]} x {size[1]} pixels do not divide into 4 x 4 cells'):
        pick_patches(torch.zeros(4, 3, *size), PATCH, mask.visible, mask)
