# What tools/misc/compare.py trains and scores: table 1 of SemanticMIM (arXiv 2406.10673) on DigitScenes.
title = 'With and without proxies'
seeds = [0, 1, 2]
scores = dict(poolings=['all', 'cls', 'pooled'])
figure_scores = ['linear_all', 'linear_cls', 'linear_pooled', 'linear_miou']

# What the arms of BEiT need.
_codebook = 'data/digit_scenes_codebook.pth'
prepare = {_codebook: ['tools/misc/fit_patch_codebook.py', 'configs/beit/digits.py', _codebook]}

# What patches and proxies attend to, in every block.
_attention = 'tools/visualization/vis_attention.py'
_images = [
    'data/digit_scenes/single/test',
    '--size',
    '32',
    '--layers',
    'all',
    '--query',
    '4',
    '4',
    '--extra-tokens',
    '--out',
]
pictures = {
    f'{{work_dir}}/attention/{arm}/queries.png': [
        _attention,
        f'{{work_dir}}/runs/single/{arm}/seed_0/iter_300.pth',
        *_images,
        f'{{work_dir}}/attention/{arm}',
    ]
    for arm in ('BEiT', 'BEiT_with_proxies', 'MaskFeat', 'MaskFeat_with_proxies')
}

_iterations = {'train_cfg.max_iters': 300}
subsets = {
    'single': {
        'random init': dict(config='configs/maskfeat/digits.py', train=False, options=_iterations),
        'random init, proxies': dict(
            config='configs/semantic_mim/maskfeat_digits.py', train=False, options=_iterations
        ),
        'BEiT': dict(config='configs/beit/digits.py', options=_iterations),
        'BEiT with proxies': dict(config='configs/semantic_mim/beit_digits.py', options=_iterations),
        'MaskFeat': dict(config='configs/maskfeat/digits.py', options=_iterations),
        'MaskFeat with proxies': dict(config='configs/semantic_mim/maskfeat_digits.py', options=_iterations),
    },
}
