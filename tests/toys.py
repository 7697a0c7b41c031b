"""Small models and batches that tests share."""

from dataclasses import replace

import torch

from mmmim.registry import MODELS
from mmmim.structures import PatchMask

DIM, PATCH, GRID = 16, 4, (4, 4)

#: What makes a ViT that of CAPI.
CAPI_STYLE = {
    'positions': 'rope',
    'norm': 'rms',
    'norm_eps': 1e-5,
    'final_affine': False,
    'bias': False,
    'qkv_bias': False,
    'init': 'capi',
}


def capi_config(**options):
    """A CAPI of width 16 for 16 px images in patches of 4."""
    return {
        'type': 'mmmim.MaskedImageModeling',
        'data_preprocessor': {
            'type': 'mmmim.MIMDataPreprocessor',
            'mean': [0.0] * 3,
            'std': [1.0] * 3,
            'bgr_to_rgb': False,
        },
        'backbone': {
            'type': 'mmmim.ViT',
            'img_size': (GRID[0] * PATCH, GRID[1] * PATCH),
            'patch_size': PATCH,
            'embed_dim': DIM,
            'depth': 2,
            'num_heads': 2,
            'num_cls_tokens': 0,
            'num_registers': 4,
            **CAPI_STYLE,
        },
        'branches': {
            'capi': {
                'target_generator': {'type': 'mmmim.OnlineClustering', 'in_dim': DIM, 'num_prototypes': 24},
                'neck': {
                    'type': 'mmmim.CrossAttentionPredictor',
                    'context_dim': DIM,
                    'embed_dim': 8,
                    'depth': 2,
                    'num_heads': 2,
                },
                'head': {'type': 'mmmim.PrototypeHead', 'in_dim': 8, 'num_prototypes': 24},
            }
        },
        'teacher': ['backbone', 'branches.capi.neck', 'branches.capi.head'],
        **options,
    }


def mae_config(normalize=True):
    """A MAE of width 16 for 16 px images in patches of 4."""
    vit = {'embed_dim': DIM, 'depth': 1, 'num_heads': 2}
    neck = {'context_dim': DIM, 'embed_dim': 8, 'depth': 1, 'num_heads': 2, 'out_dim': 3 * PATCH**2, 'grid': GRID}
    return {
        'type': 'mmmim.MaskedImageModeling',
        'backbone': {'type': 'mmmim.ViT', 'img_size': GRID[0] * PATCH, 'patch_size': PATCH, **vit},
        'branches': {
            'pixels': {
                'target_generator': {'type': 'mmmim.PixelTarget', 'patch_size': PATCH, 'normalize': normalize},
                'neck': {'type': 'mmmim.SelfAttentionPredictor', **neck},
                'head': {'type': 'mmmim.RegressionHead'},
            }
        },
    }


def save_model(path, config, **more):
    """Write a checkpoint of a model with random weights, and further entries of the file; returns its path."""
    torch.manual_seed(0)
    state = MODELS.build(config).state_dict()
    torch.save({'state_dict': state, 'mmmim': {'version': 1, 'model': config}, **more}, path)
    return str(path)


def random_mask(images, visible=6, predict=3, blocks=1, per_image=1, seed=0, grid=GRID):
    """Random masks: ``visible`` patches seen, ``blocks`` x ``predict`` others predicted."""
    rng = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(grid[0] * grid[1], generator=rng) for _ in range(images * per_image)])
    return PatchMask(
        visible=order[:, :visible].sort(dim=1).values,
        predict=order[:, visible : visible + blocks * predict].view(-1, blocks, predict),
        image_index=torch.arange(images).repeat_interleave(per_image),
        grid=grid,
    )


def jittered(mask, gap, seed=0):
    """The same masks of patches that lie anywhere in cells with so many pixels more, 0 and the gap included."""
    rng = torch.Generator().manual_seed(seed)
    images = int(mask.image_index.max()) + 1
    return replace(mask, offsets=torch.randint(gap + 1, (images, mask.of_all.visible.shape[1], 2), generator=rng))


def batch(images=8, seed=0, **mask):
    """A batch as the data loader gives it, already normalised."""
    rng = torch.Generator().manual_seed(seed)
    size = (GRID[0] * PATCH, GRID[1] * PATCH)
    return {'inputs': torch.randn(images, 3, *size, generator=rng), 'mask': random_mask(images, seed=seed, **mask)}


def optim_wrapper(model, lr=1e-3, weight_decay=0.1, **options):
    """A fused AdamW in the wrapper that skips non-finite steps."""
    from mmmim.engine import OptimWrapper

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return OptimWrapper(torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True), **options)


def blobs(n, dim, classes, seed, spread=2.0):
    """Points of classes that overlap, and their classes; the centres are the same for all seeds."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(classes, (n,), generator=rng)
    return centres[labels] + spread * torch.randn(n, dim, generator=rng), labels


def generator(seed=0):
    """A generator of random numbers of its own."""
    return torch.Generator().manual_seed(seed)


def as_sets(indices, grid):
    """Indices of patches ``[..., M]`` as sets ``[..., h, w]``."""
    sets = torch.zeros(*indices.shape[:-1], grid[0] * grid[1], dtype=torch.bool)
    return sets.scatter_(-1, indices, True).unflatten(-1, grid)
