# The runs that the small recipes were chosen by, for tools/misc/compare.py: one seed, the validation split.
_base_ = './prepare.py'

title = 'FashionScenes: how the small recipes were chosen'
seeds = [0]
scores = dict(weights='student', poolings=['pooled', 'cls', 'predicted'])
figure_scores = ['linear_pooled', 'knn_pooled']

_recipes = {
    'MAE': 'configs/mae/small.py',
    'BEiT': 'configs/beit/small.py',
    'MaskFeat': 'configs/maskfeat/small.py',
    'I-JEPA': 'configs/ijepa/small.py',
    'BootMAE': 'projects/bootmae/configs/small.py',
    'Latent MIM': 'configs/latent_mim/small.py',
    'PiLaMIM': 'configs/pilamim/small.py',
    'SemanticMIM on BEiT': 'configs/semantic_mim/beit_small.py',
    'SemanticMIM on MaskFeat': 'configs/semantic_mim/maskfeat_small.py',
    'SimMIM': 'configs/simmim/small.py',
    'PixMIM': 'configs/pixmim/small.py',
    'MFF': 'configs/mff/small.py',
    'CrossMAE': 'configs/crossmae/small.py',
    'data2vec': 'configs/data2vec/small.py',
    'data2vec 2.0': 'configs/data2vec2/small.py',
    'BEiT v2': 'configs/beitv2/small.py',
    'ConMIM': 'configs/conmim/small.py',
    'frozen CAPI': 'configs/distillation/small.py',
    'MILAN, frozen PiLaMIM': 'configs/distillation/milan_small.py',
}

# What a recipe has changed since its rate was chosen.
_before = {'data2vec': {'default_hooks.target_ema.momentum.value': 0.99}}

# A teacher that is made for half a million iterations is slow for 400.
_momentum = {
    'I-JEPA': ('configs/ijepa/small.py', 1e-3, 'start'),
    'Latent MIM': ('configs/latent_mim/small.py', 1e-3, 'start'),
    'PiLaMIM': ('configs/pilamim/small.py', 4e-3, 'start'),
    'BootMAE': ('projects/bootmae/configs/small.py', 4e-3, 'start'),
    'data2vec': ('configs/data2vec/small.py', 4e-3, 'value'),
    'data2vec 2.0': ('configs/data2vec2/small.py', 4e-3, 'start'),
    'ConMIM': ('configs/conmim/small.py', 4e-3, 'start'),
}

# CAPI's has more parts. Its batches are half as large, and the momentum of what is changed is 0.98.
_capi = 'model.branches.capi'
_crop = 'train_dataloader.dataset.dataset.pipeline.1.crop_ratio_range'
_start = {'train_cfg.max_iters': 800, 'default_hooks.target_ema.momentum.base': 0.98}
_capi_changes = {
    'recipe': {},
    '128 prototypes': {f'{_capi}.target_generator.num_prototypes': 128, f'{_capi}.head.num_prototypes': 128},
    'lr 1.5e-3': {'optim_wrapper.optimizer.lr': 1.5e-3},
    'lr 6e-3': {'optim_wrapper.optimizer.lr': 6e-3},
    'momentum 0.95': {'default_hooks.target_ema.momentum.base': 0.95},
    'momentum 0.99': {'default_hooks.target_ema.momentum.base': 0.99},
    'a fifth predicted': {'train_dataloader.collate_fn.masking.predict_ratio': 0.2},
    'mask 0.5': {'train_dataloader.collate_fn.masking.mask_ratio': 0.5},
    'crops (0.6, 1)': {_crop: (0.6, 1.0)},
    'batch 128': {
        'global_batch_size': 128,
        'train_cfg.max_iters': 400,
        'default_hooks.checkpoint.interval': 400,
        'optim_wrapper.optimizer.lr': 4e-3,
    },
    'predictor of 1 block': {f'{_capi}.neck.depth': 1},
}

subsets = {
    'single': {
        f'{method}, lr {rate:g}': dict(
            config=config, options={'optim_wrapper.optimizer.lr': rate, **_before.get(method, {})}
        )
        for method, config in _recipes.items()
        for rate in (1e-3, 2e-3, 4e-3)
    }
    | {
        f'I-JEPA, lr {rate:g}': dict(config='configs/ijepa/small.py', options={'optim_wrapper.optimizer.lr': rate})
        for rate in (1.25e-4, 2.5e-4, 5e-4)  # its best rate was the least
    }
    | {
        f'{method}, momentum from 0.98': dict(
            config=config,
            options={'optim_wrapper.optimizer.lr': rate, f'default_hooks.target_ema.momentum.{key}': 0.98},
        )
        for method, (config, rate, key) in _momentum.items()
    }
    | {
        f'CAPI, {name}': dict(config='configs/capi/small.py', options={**_start, **change})
        for name, change in _capi_changes.items()
    }
}
