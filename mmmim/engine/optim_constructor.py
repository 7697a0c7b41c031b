"""Parameter groups from rules on names."""

import copy
import re
from collections.abc import Mapping

import torch
from mmengine.logging import print_log
from mmengine.registry import OPTIMIZERS as ROOT_OPTIMIZERS
from torch import nn

from mmmim.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from mmmim.utils import InputError

Rules = Mapping[str, dict | None]


def parameter_groups(model: nn.Module, lr: float, weight_decay: float, rules: Rules) -> list[dict]:
    """Group trainable parameters by learning rate and weight decay.

    Args:
        model: The model, without a wrapper.
        lr: Base learning rate.
        weight_decay: Base weight decay.
        rules: By a name of your choice, ``dict(match=regex, lr_mult=1, decay_mult=1)``, or None for a rule of a base
            config that does not apply. The first rule found (``re.search``) in a parameter's name decides. Parameters
            that no rule matches have the base values.

    Returns:
        One group per (lr, weight decay), the group with the base values first.

    Raises:
        InputError: A rule has an unknown key or matches no parameter.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    active = {name: rule for name, rule in rules.items() if rule is not None}
    for name, rule in active.items():
        if 'match' not in rule or set(rule) - {'match', 'lr_mult', 'decay_mult'}:
            raise InputError(f'paramwise_cfg.rules.{name} is {rule}: its keys are match, lr_mult and decay_mult.')
    used: set[str] = set()
    for parameter_name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        matching = [name for name, rule in active.items() if re.search(rule['match'], parameter_name)]
        used.update(matching)
        rule = active[matching[0]] if matching else {}
        key = (rule.get('lr_mult', 1.0), rule.get('decay_mult', 1.0))
        groups.setdefault(key, []).append(parameter)
    for name, rule in active.items():
        if name not in used:
            raise InputError(
                f'optim_wrapper.paramwise_cfg.rules.{name}: match={rule["match"]!r} matches no trainable parameter: '
                f'set the rule to None or correct the expression.'
            )
    order = sorted(groups, key=lambda key: key != (1.0, 1.0))
    return [{'params': groups[key], 'lr': lr * key[0], 'weight_decay': weight_decay * key[1]} for key in order]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RuleOptimWrapperConstructor:
    """Builds the optimiser with few, large parameter groups, which fused optimisers need to be fast.

    Args:
        optim_wrapper_cfg: ``dict(type='mmmim.OptimWrapper', optimizer=dict(type=..., lr=..., weight_decay=...))``.
        paramwise_cfg: ``dict(rules=dict(...))``, see :func:`parameter_groups`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.optim_wrapper_cfg = copy.deepcopy(optim_wrapper_cfg)
        self.rules = dict((paramwise_cfg or {}).get('rules') or {})

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
