"""Parameter groups from rules on names."""

import copy
import re

import torch
from mmengine.logging import print_log
from mmengine.registry import OPTIMIZERS as ROOT_OPTIMIZERS
from torch import nn

from mmmim.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from mmmim.utils import InputError


def parameter_groups(model: nn.Module, lr: float, weight_decay: float, rules: list[dict]) -> list[dict]:
    """Group trainable parameters by learning rate and weight decay.

    Args:
        model: The model, without a wrapper.
        lr: Base learning rate.
        weight_decay: Base weight decay.
        rules: ``dict(match=regex, lr_mult=1, decay_mult=1)``; the first rule found (``re.search``) in a parameter's
            name decides. Parameters that no rule matches have the base values.

    Returns:
        One group per (lr, weight decay), the group with the base values first.

    Raises:
        InputError: A rule has an unknown key or matches no parameter.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    used = [False] * len(rules)
    for rule in rules:
        unknown = set(rule) - {'match', 'lr_mult', 'decay_mult'}
        if unknown or 'match' not in rule:
            raise InputError(f'paramwise rule {rule}: keys are match, lr_mult and decay_mult.')
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        matching = [i for i, rule in enumerate(rules) if re.search(rule['match'], name)]
        rule = rules[matching[0]] if matching else {}
        for i in matching:
            used[i] = True
        key = (rule.get('lr_mult', 1.0), rule.get('decay_mult', 1.0))
        groups.setdefault(key, []).append(parameter)
    for rule, hit in zip(rules, used, strict=True):
        if not hit:
            raise InputError(
                f'optim_wrapper.paramwise_cfg.rules: match={rule["match"]!r} matches no trainable parameter: remove '
                'the rule or correct the expression.'
            )
    order = sorted(groups, key=lambda key: key != (1.0, 1.0))
    return [{'params': groups[key], 'lr': lr * key[0], 'weight_decay': weight_decay * key[1]} for key in order]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RuleOptimWrapperConstructor:
    """Builds the optimiser with few, large parameter groups, which fused optimisers need to be fast.

    Args:
        optim_wrapper_cfg: ``dict(type='mmmim.OptimWrapper', optimizer=dict(type=..., lr=..., weight_decay=...))``.
        paramwise_cfg: ``dict(rules=[...])``, see :func:`parameter_groups`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.optim_wrapper_cfg = copy.deepcopy(optim_wrapper_cfg)
        self.rules = list((paramwise_cfg or {}).get('rules', []))

    def __call__(self, model: nn.Module) -> object:
        """Build the wrapper of the optimiser of ``model`` (with or without a data-parallel wrapper)."""
        wrapper = dict(self.optim_wrapper_cfg)
        optimizer = dict(wrapper.pop('optimizer'))
        module = getattr(model, 'module', model)
        groups = parameter_groups(module, optimizer['lr'], optimizer.get('weight_decay', 0.0), self.rules)
        for group in groups:
            count = sum(p.numel() for p in group['params'])
            print_log(
                f'parameter group: lr {group["lr"]:g}, weight decay {group["weight_decay"]:g}: '
                f'{len(group["params"])} tensors, {count:,} parameters',
                logger='current',
            )
        optimizer['params'] = groups
        built: torch.optim.Optimizer = ROOT_OPTIMIZERS.build(optimizer)
        return OPTIM_WRAPPERS.build(wrapper, default_args={'optimizer': built})
