"""What arms of spec.py and tuning_spec.py need: a codebook, and the teachers that are trained before."""

_codebook = 'data/fashion_scenes_codebook.pth'
prepare = {
    _codebook: ['tools/misc/fit_patch_codebook.py', 'configs/beit/small.py', _codebook],
    **{
        f'work_dirs/{name}_small/iter_{last}.pth': [
            'tools/train.py',
            f'configs/{name}/small.py',
            '--work-dir',
            f'work_dirs/{name}_small',
        ]
        for name, last in {'capi': 1200, 'pilamim': 400}.items()
    },
}
