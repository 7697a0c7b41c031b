# Longer, on the whole of Fashion-MNIST (54 000 training images in data/fashion_mnist, docs/en/dataset_prepare.md): 0.9
# million images seen, 17 times those of spec.py, for tools/misc/compare.py. Scored as there; the curves of the probes
# are in the work folders of the trainings.
title = 'The whole of Fashion-MNIST'
seeds = [0]
scores = dict(weights='student', rankme=True)
figure_scores = ['knn_pooled', 'linear_pooled', 'linear_miou']
table_scores = ['knn_cls', 'linear_cls', 'knn_pooled', 'linear_pooled', 'knn_predicted', 'linear_predicted']
table_scores += ['linear_all', 'knn_miou', 'linear_miou', 'rankme_pooled', 'train_minutes']

_images = ['train_dataloader.dataset.dataset', 'probe_data.train', 'probe_data.val']
_full = {
    **{f'+{images}.source': 'data/fashion_mnist' for images in _images},
    **{f'{images}.data_root': 'data/fashion_scenes_full' for images in _images},
}


def _longer(iterations):
    return {
        **_full,
        'train_cfg.max_iters': iterations,
        'default_hooks.checkpoint.interval': iterations // 10,
        'default_hooks.probe.interval': iterations // 10,
        'default_hooks.health.interval': iterations // 50,
        'default_hooks.logger.interval': iterations // 100,
        'log_processor.window_size': iterations // 100,
    }


subsets = {
    'single': {
        'random init, ViT': dict(config='configs/mae/small.py', train=False),
        'random init, RoPE ViT': dict(config='configs/capi/small.py', train=False),
        'CAPI': dict(config='configs/capi/small.py', options=_longer(14_000), watch=True),
        'Latent MIM': dict(config='configs/latent_mim/small.py', options=_longer(7_000), watch=True),
        'MAE': dict(config='configs/mae/small.py', options=_longer(7_000), watch=True),
    }
}
