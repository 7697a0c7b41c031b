# What tools/misc/compare.py trains and scores: tables 1 to 3 of PiLaMIM (Lee et al., 2025) on DigitScenes. The task of
# high level is the class of a digit ('single'), that of low level how many digits there are ('multi').
title = 'Pixels, latents, and both'
seeds = [0, 1, 2]
scores = dict(poolings=['all', 'cls', 'pooled'], rankme=True)
figure_scores = ['linear_all', 'linear_cls', 'linear_pooled', 'rankme_cls']

_iterations = {'train_cfg.max_iters': 300}
_multi = {
    **_iterations,
    # What makes any digits.py, of 32 px in patches of 4, one of 64 px in patches of 8.
    'model.backbone.img_size': 64,
    'model.backbone.patch_size': 8,
    'train_dataloader.dataset.dataset.subset': 'multi',
    'train_dataloader.dataset.dataset.pipeline.1.scale': 64,
    'train_dataloader.collate_fn.patch_size': 8,
    'test_dataloader.dataset.dataset.subset': 'multi',
    'test_dataloader.collate_fn.patch_size': 8,
}
_pixels = {
    **_multi,
    'model.branches.pixels.target_generator.patch_size': 8,
    'model.branches.pixels.neck.out_dim': 192,
}
_no_cls = 'projects/pilamim_comparison/configs/no_cls.py'

subsets = {
    'single': {
        'random init': dict(config='configs/pilamim/digits.py', train=False, options=_iterations),
        'MAE': dict(config='configs/mae/digits.py', options=_iterations),
        'I-JEPA': dict(config='configs/ijepa/digits.py', options=_iterations),
        'PiLaMIM': dict(config='configs/pilamim/digits.py', options=_iterations),
        'PiLaMIM without CLS': dict(config=_no_cls, options=_iterations),
    },
    'multi': {
        'random init': dict(config='configs/pilamim/digits.py', train=False, options=_pixels),
        'MAE': dict(config='configs/mae/digits.py', options=_pixels),
        'I-JEPA': dict(config='configs/ijepa/digits.py', options=_multi),
        'PiLaMIM': dict(config='configs/pilamim/digits.py', options=_pixels),
        'PiLaMIM without CLS': dict(config=_no_cls, options=_pixels),
    },
}
