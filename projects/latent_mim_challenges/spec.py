# What tools/misc/compare.py trains and scores: the five steps of figure 1 of Latent MIM (arXiv 2407.15837).
title = 'Challenges of Latent MIM'
seeds = [0, 1, 2]
figure_scores = ['linear_all', 'knn_all', 'cosine_pooled']

_configs = 'projects/latent_mim_challenges/configs'
subsets = {
    'single': {
        'random init': dict(config=f'{_configs}/decoder.py', train=False),
        '1 naive': dict(config=f'{_configs}/naive.py'),
        '2 momentum target': dict(config=f'{_configs}/momentum.py'),
        '3 patch discrimination': dict(config=f'{_configs}/patch_discrimination.py'),
        '4 less correlation': dict(config=f'{_configs}/correlation.py'),
        '5 decoder and projector': dict(config=f'{_configs}/decoder.py'),
    }
}
