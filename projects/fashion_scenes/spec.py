# What tools/misc/compare.py trains and scores for the table of FashionScenes: every method on as many images, which are
# two thirds of those of configs/capi/small.py.
_base_ = './prepare.py'

title = 'FashionScenes'
seeds = [0, 1, 2]
# An average of the weights lags behind in trainings of minutes: what was trained is scored.
scores = dict(weights='student', rankme=True)
# Columns of the figure.
figure_scores = ['knn_pooled', 'linear_pooled', 'linear_miou']
# Columns of the tables: in that of all arms, and in that of the arguments of the papers below, of which more is better.
argument_scores = ['knn_cls', 'linear_cls', 'knn_pooled', 'linear_pooled', 'knn_predicted', 'linear_predicted']
argument_scores += ['knn_all', 'linear_all', 'knn_miou', 'linear_miou']
table_scores = [*argument_scores, 'rankme_pooled', 'train_minutes']

_multi = {
    # What makes any small.py, of 32 px in patches of 4, one of 64 px in patches of 8.
    'model.backbone.img_size': 64,
    'model.backbone.patch_size': 8,
    'train_dataloader.dataset.dataset.subset': 'multi',
    'train_dataloader.collate_fn.patch_size': 8,
    'test_dataloader.dataset.dataset.subset': 'multi',
    'test_dataloader.collate_fn.patch_size': 8,
}
_crop = 'train_dataloader.dataset.dataset.pipeline.1.scale'
_latent = {**_multi, _crop: 64}
_pixels = {
    **_latent,
    'model.branches.pixels.target_generator.patch_size': 8,
    'model.branches.pixels.neck.out_dim': 192,
}
_equal = {'train_cfg.max_iters': 800}  # of CAPI, for as many images
_raw = {'model.branches.pixels.target_generator.normalize': False}
_masking = 'train_dataloader.collate_fn.masking'

_configs = 'projects/fashion_scenes/configs'
# Those that are not initialised as MAE's or CAPI's, by how their config's path begins.
_other_encoders = {
    'BEiT': 'beit/',
    'SimMIM': 'simmim/',
    'MaskFeat': 'maskfeat/',
    'I-JEPA': 'ijepa/',
    'Latent MIM': 'latent_mim/',
    'PiLaMIM': 'pilamim/',
    'SemanticMIM on BEiT': 'semantic_mim/beit_',
    'SemanticMIM on MaskFeat': 'semantic_mim/maskfeat_',
    'data2vec 2.0': 'data2vec2/',
}
subsets = {
    'single': {
        'raw pixels': dict(pixels=4),
        'random init, ViT': dict(config='configs/mae/small.py', train=False),
        'random init, RoPE ViT': dict(config='configs/capi/small.py', train=False),
        # Encoders differ in positions, norms and how they are initialised.
        **{
            f'random init, ViT of {method}': dict(config=f'configs/{config}small.py', train=False)
            for method, config in _other_encoders.items()
        },
        'MAE': dict(config='configs/mae/small.py', watch=True),
        'MAE, raw pixels': dict(config='configs/mae/small.py', options=_raw),
        'BEiT': dict(config='configs/beit/small.py', watch=True),
        'MaskFeat': dict(config='configs/maskfeat/small.py', watch=True),
        'I-JEPA': dict(config='configs/ijepa/small.py', watch=True),
        'BootMAE': dict(config='projects/bootmae/configs/small.py', watch=True),
        'Latent MIM 1, naive': dict(config=f'{_configs}/latent_mim_naive.py'),
        'Latent MIM 2, momentum': dict(config=f'{_configs}/latent_mim_momentum.py'),
        'Latent MIM 3, discrimination': dict(config=f'{_configs}/latent_mim_patch_discrimination.py'),
        'Latent MIM 4, less correlation': dict(config=f'{_configs}/latent_mim_correlation.py'),
        'Latent MIM': dict(config='configs/latent_mim/small.py', watch=True),
        'PiLaMIM': dict(config='configs/pilamim/small.py', watch=True),
        'PiLaMIM, released': dict(config=f'{_configs}/pilamim_released.py'),
        'PiLaMIM without CLS': dict(config=f'{_configs}/pilamim_no_cls.py'),
        'SemanticMIM on BEiT': dict(config='configs/semantic_mim/beit_small.py', watch=True),
        'SemanticMIM on MaskFeat': dict(config='configs/semantic_mim/maskfeat_small.py', watch=True),
        'CAPI': dict(config='configs/capi/small.py', options=_equal, watch=True),
        'CAPI, inverse block without roll': dict(
            config='configs/capi/small.py', options={**_equal, f'{_masking}.roll': False}
        ),
        'CAPI, block': dict(
            config='configs/capi/small.py',
            options={**_equal, f'{_masking}.type': 'mmmim.BlockMasking', f'{_masking}.roll': False},
        ),
        'CAPI, random': dict(
            config='configs/capi/small.py',
            options={**_equal, f'{_masking}.type': 'mmmim.UniformMasking', f'{_masking}.roll': False},
        ),
        'CAPI, standard Sinkhorn': dict(
            config='configs/capi/small.py',
            options={**_equal, 'model.branches.capi.target_generator.positional': False},
        ),
        'CAPI with pixels': dict(config=f'{_configs}/capi_pixels.py', options=_equal),
        'supervised': dict(config=f'{_configs}/supervised.py', own_test=True),
        'SimMIM': dict(config='configs/simmim/small.py', watch=True),
        'PixMIM': dict(config='configs/pixmim/small.py', watch=True),
        'MFF': dict(config='configs/mff/small.py', watch=True),
        'CrossMAE': dict(config='configs/crossmae/small.py', watch=True),
        'data2vec': dict(config='configs/data2vec/small.py', watch=True),
        'data2vec 2.0': dict(config='configs/data2vec2/small.py', watch=True),
        'BEiT v2': dict(config='configs/beitv2/small.py', watch=True),
        'ConMIM': dict(config='configs/conmim/small.py', watch=True),
        # One teacher for all seeds.
        'frozen CAPI': dict(config='configs/distillation/small.py', watch=True),
        'MILAN, frozen PiLaMIM': dict(config='configs/distillation/milan_small.py', watch=True),
    },
    'multi': {
        'raw pixels': dict(pixels=8),
        'random init, ViT': dict(config='configs/mae/small.py', train=False, options=_pixels),
        'random init, RoPE ViT': dict(config='configs/capi/small.py', train=False, options=_latent),
        'MAE': dict(config='configs/mae/small.py', options=_pixels),
        'MAE, raw pixels': dict(config='configs/mae/small.py', options={**_pixels, **_raw}),
        'I-JEPA': dict(config='configs/ijepa/small.py', options=_latent),
        # Cells of 10 px with a patch of 8 px in each.
        'Latent MIM': dict(
            config='configs/latent_mim/small.py',
            options={**_multi, _crop: 80, 'train_dataloader.collate_fn.gap': 2},
        ),
        'PiLaMIM': dict(config='configs/pilamim/small.py', options=_pixels),
        'PiLaMIM without CLS': dict(config=f'{_configs}/pilamim_no_cls.py', options=_pixels),
        'CAPI': dict(config='configs/capi/small.py', options={**_equal, **_latent}),
        'supervised': dict(
            config=f'{_configs}/supervised.py',
            own_test=True,
            options={
                **_multi,
                'train_dataloader.dataset.dataset.pipeline.2.scale': 64,
                'model.num_classes': 5,
            },
        ),
    },
}

_single = {
    'Latent MIM: a momentum teacher': ('Latent MIM 2, momentum', 'Latent MIM 1, naive'),
    'Latent MIM: patch discrimination': ('Latent MIM 3, discrimination', 'Latent MIM 2, momentum'),
    'Latent MIM: less correlation': ('Latent MIM 4, less correlation', 'Latent MIM 3, discrimination'),
    'Latent MIM: decoder with visual cues, projector': ('Latent MIM', 'Latent MIM 4, less correlation'),
    'PiLaMIM: a latent target of CLS': ('PiLaMIM', 'PiLaMIM without CLS'),
    'PiLaMIM: better than MAE': ('PiLaMIM', 'MAE, raw pixels'),
    'SemanticMIM: proxies for BEiT': ('SemanticMIM on BEiT', 'BEiT'),
    'SemanticMIM: proxies for MaskFeat': ('SemanticMIM on MaskFeat', 'MaskFeat'),
    'CAPI: the roll': ('CAPI', 'CAPI, inverse block without roll'),
    'CAPI: inverse blocks, not blocks': ('CAPI', 'CAPI, block'),
    'CAPI: inverse blocks, not random': ('CAPI', 'CAPI, random'),
    'CAPI: positional Sinkhorn-Knopp': ('CAPI', 'CAPI, standard Sinkhorn'),
    'beyond the papers: pixels beside CAPI': ('CAPI with pixels', 'CAPI'),
    'beyond the papers: CAPI beside pixels': ('CAPI with pixels', 'MAE'),
}
_counting = {
    'PiLaMIM: a latent target of CLS': ('PiLaMIM', 'PiLaMIM without CLS'),
    'PiLaMIM: better than MAE': ('PiLaMIM', 'MAE, raw pixels'),
    'PiLaMIM: better than I-JEPA': ('PiLaMIM', 'I-JEPA'),
    'PiLaMIM: better than Latent MIM': ('PiLaMIM', 'Latent MIM'),
}
arguments = [
    dict(says=says if subset == 'single' else f'{says} (counting)', subset=subset, better=better, than=than)
    for subset, rows in dict(single=_single, multi=_counting).items()
    for says, (better, than) in rows.items()
]
