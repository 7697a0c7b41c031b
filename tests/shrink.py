"""One function that makes any pre-training config of the repository small enough for a test."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import Config
from PIL import Image

#: Largest value of an option in a shrunk model.
CAPS = {
    'depth': 2,
    'embed_dim': 48,
    'context_dim': 48,
    'in_dim': 48,
    'hidden_dim': 48,
    'num_heads': 2,
    'num_registers': 4,
    'num_prototypes': 32,
    'num_tokens': 32,
    'num_visible': 20,
    'min_keep': 8,
    'chunk_positions': 16,
}
PATCHES_PER_SIDE = 8


def cap(node: Any) -> None:
    """Cap options in place, at any depth."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    for child in children:
        cap(child)
    if isinstance(node, dict):
        for key, most in CAPS.items():
            if isinstance(node.get(key), int):
                node[key] = min(node[key], most)
        if isinstance(node.get('layers'), (list, tuple)):
            node['layers'] = sorted({layer % CAPS['depth'] for layer in node['layers']})
        if isinstance(node.get('early_layer'), int):  # before the last block
            node['early_layer'] = min(node['early_layer'], CAPS['depth'] - 2)
        for key in ('mlp_dims', 'projector_dims'):
            if key in node:
                node[key] = tuple(min(width, CAPS['embed_dim']) for width in node[key])


def write_images(folder: Any, number: int = 8, size: int = 40) -> None:
    """A flat folder of noise images."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(folder / f'{i}.png')


def untrained_teacher(generator: Any) -> None:
    """Give a target generator a small teacher of random weights in the place of one of a file."""
    sizes = {'img_size': 32, 'patch_size': 4, 'embed_dim': generator.in_dim, 'depth': 2, 'num_heads': 2}
    generator.pop('encoder', None)  # with which it would be merged
    generator.update(checkpoint='random', encoder={'type': 'mmmim.ViT', **sizes}, projected=False)


def without_files(model: Any) -> Any:
    """A copy of a model's config whose tokenizers and teachers have random weights instead of those of a file."""
    model = copy.deepcopy(model)
    for branch in model.branches.values():
        if 'tokenizer' in branch.target_generator:
            branch.target_generator.tokenizer.untrained = True
        if branch.target_generator.type == 'mmmim.FrozenTarget':
            untrained_teacher(branch.target_generator)
    return model


def _shrink_tokenizer(branch: Any, folder: Path | None) -> None:
    """A tokenizer of few tokens, with a codebook that is written to a folder or with random weights."""
    tokenizer = branch.target_generator.tokenizer
    if tokenizer.type == 'mmmim.KMeansTokenizer' and folder is None:
        tokenizer.untrained = True
    elif tokenizer.type == 'mmmim.KMeansTokenizer':
        tokenizer.codebook = str(folder / 'codebook.pth')
        size = (tokenizer.num_tokens, 3 * tokenizer.patch_size**2)
        centres = torch.randn(size, generator=torch.Generator().manual_seed(0))
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({'centres': centres, 'patch_size': tokenizer.patch_size}, tokenizer.codebook)
    elif tokenizer.type == 'mmmim.VQKDTokenizer':
        arch = {'embed_dims': 16, 'num_layers': 1, 'num_heads': 2, 'feedforward_channels': 32}
        tokenizer.update(untrained=True, arch=arch, grid=(PATCHES_PER_SIDE, PATCHES_PER_SIDE))
    else:
        tokenizer.update(untrained=True, hidden_dim=8)
    branch.neck.out_dim = tokenizer.num_tokens


def shrink_model(model: Any, folder: Path | None = None) -> None:
    """Cap the widths and depths of a model's config in place.

    Tokenizers need no file of the user's: their codebook is written to ``folder``, or random without one.
    """
    cap(model)
    if model.backbone.get('name') == 'mmpretrain:SwinTransformer':
        arch = {'embed_dims': CAPS['embed_dim'] // 8, 'depths': [1, 1, 1, 2], 'num_heads': [1, 1, 2, 2]}
        model.backbone.update(arch=arch, window_size=2)
    for branch in model.branches.values():
        if branch.target_generator.type == 'mmmim.LatentTarget' and branch.neck.get('out_dim'):
            branch.neck.out_dim = branch.target_generator.in_dim
        if branch.target_generator.type == 'mmmim.FrozenTarget':
            branch.neck.out_dim = branch.target_generator.in_dim
            untrained_teacher(branch.target_generator)
        if 'tokenizer' in branch.target_generator:
            _shrink_tokenizer(branch, folder)


def shrink(cfg: Config, images: Any, work_dir: Any, pictures: bool = False) -> Config:
    """A config of the same parts that takes one step on a CPU in a second.

    Widths, depths and the batch are capped; images of ``images`` (a folder) replace the data set's, at 8 x 8 patches
    of the config's own patch size, and tokenizers need no file of the user's.
    """
    cfg = cfg.copy()
    shrink_model(cfg.model, Path(work_dir))
    loader = cfg.train_dataloader
    cap(loader.collate_fn)
    loader.update(batch_size=4, num_workers=0)
    if 'global_batch_size' in cfg:
        cfg.global_batch_size, loader['batch_size'] = 4, None
    if cfg.model.get('micro_batch_size'):
        cfg.model.micro_batch_size = 2
    dataset = loader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    for transform in dataset.pipeline:
        for key in ('scale', 'crop_size'):
            if key in transform:
                transform[key] = PATCHES_PER_SIDE * (loader.collate_fn.patch_size + loader.collate_fn.get('gap', 0))
    dataset.update(type='mmmim.ImageFolder', data_root=str(images))
    for key in ('subset', 'split'):
        dataset.pop(key, None)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = cfg.probe_data = None
    if not pictures:  # drawing takes longer than the step
        drawing = ('mmmim.CurvesHook', 'mmmim.PicturesHook')
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'] not in drawing]
    cfg.train_cfg.max_iters = 1
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir = str(work_dir)
    return cfg
