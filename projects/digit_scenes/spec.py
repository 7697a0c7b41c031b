# What tools/misc/compare.py trains and scores for the table of DigitScenes.
title = 'DigitScenes'
seeds = [0, 1, 2]
# Columns of the figure.
figure_scores = ['linear_all', 'linear_miou']

_multi = {
    # What makes any digits.py, of 32 px in patches of 4, one of 64 px in patches of 8.
    'model.backbone.img_size': 64,
    'model.backbone.patch_size': 8,
    'train_dataloader.dataset.dataset.subset': 'multi',
    'train_dataloader.collate_fn.patch_size': 8,
    'test_dataloader.dataset.dataset.subset': 'multi',
    'test_dataloader.collate_fn.patch_size': 8,
}
_crop = {'train_dataloader.dataset.dataset.pipeline.1.scale': 64}
_capi = {**_multi, **_crop}
_mae = {
    **_multi,
    **_crop,
    'model.branches.pixels.target_generator.patch_size': 8,
    'model.branches.pixels.neck.out_dim': 192,
}
_supervised = {
    **_multi,
    'train_dataloader.dataset.dataset.pipeline.2.scale': 64,
    'model.num_classes': 5,
}

subsets = {
    'single': {
        'raw pixels': dict(pixels=4),
        'random init, ViT': dict(config='configs/mae/digits.py', train=False),
        'random init, RoPE ViT': dict(config='configs/capi/digits.py', train=False),
        'MAE': dict(config='configs/mae/digits.py'),
        'CAPI': dict(config='configs/capi/digits.py'),
        'supervised': dict(config='projects/digit_scenes/configs/supervised.py', own_test=True),
    },
    'multi': {
        'raw pixels': dict(pixels=8),
        'random init, ViT': dict(config='configs/mae/digits.py', train=False, options=_mae),
        'random init, RoPE ViT': dict(config='configs/capi/digits.py', train=False, options=_capi),
        'MAE': dict(config='configs/mae/digits.py', options=_mae),
        'CAPI': dict(config='configs/capi/digits.py', options=_capi),
        'supervised': dict(config='projects/digit_scenes/configs/supervised.py', own_test=True, options=_supervised),
    },
}
