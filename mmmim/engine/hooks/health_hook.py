"""prototype"""
from typing import Any
import math
import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmmim.registry import HOOKS
from mmmim.evaluation.health import *

@HOOKS.register_module()
class HealthHook(Hook):
    priority = 'NORMAL'
    def __init__(self, interval=500, images=256):
        self.interval, self.images = interval, images

    def before_train(self, runner):
        self._first = True

    @torch.no_grad()
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if not (self._first or self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)):
            return
        self._first = False
        import time
        t = time.time()
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        modes = [(m, m.training) for m in model.modules()]
        model.eval()
        data = model.data_preprocessor(data_batch, training=False)
        images, mask = data['inputs'], data['mask']
        with runner.optim_wrapper.optim_context(runner.model):
            targets = model.targets(images, mask, differentiable=False)
        v = {}
        for name, b in (('student', model.backbone), ('teacher', getattr(model.teacher, 'backbone', None))):
            if b is None: continue
            tok = torch.cat([b(x).visible for x in images[:self.images].split(model.micro_batch_size or self.images)])
            pooled = tok.mean(1)
            flat = tok.flatten(0, 1)
            patches = flat[torch.linspace(0, len(flat) - 1, min(2048, len(flat))).long()]
            for k, f in (('pooled', pooled), ('patches', patches)):
                v[f'{name}_rankme_{k}'] = rankme(f)
                v[f'{name}_cosine_{k}'] = mean_pairwise_cosine(f)
        for name, t_ in targets.items():
            p = t_.patches.flatten(0, 1)
            v[f'{name}_positional_share'] = positional_share(p, mask.flat_predict().flatten(), mask.grid[0]*mask.grid[1])
            if getattr(model.branches[name].target_generator, 'num_prototypes', None):
                v[f'{name}_target_entropy'] = target_entropy(p)
                v[f'{name}_prototypes_in_use'] = prototypes_in_use(p)
        for m, mode in modes: m.training = mode
        v = {f'health/{k}': x.item() for k, x in v.items()}
        if 'train/grad_norm' in runner.message_hub.log_scalars:
            v['health/grad_norm'] = float(np.nanmean(runner.message_hub.get_scalar('train/grad_norm').data[0][-self.interval:]))
        v['seconds'] = time.time() - t
        print('HEALTH', runner.iter + 1, {k.removeprefix('health/'): round(x, 4) for k, x in v.items()}, flush=True)
