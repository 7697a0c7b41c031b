"""Parameter groups from rules on names."""

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.registry import OPTIMIZERS as ROOT_OPTIMIZERS
from torch import nn

from mmmim.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from mmmim.utils import InputError

Rules = Mapping[str, dict | None]


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, rules: Rules, layer_decay: float | None = None
) -> list[dict]:
    """Group trainable parameters by learning rate and weight decay.

    Args:
        model: The model, without a wrapper.
        lr: Base learning rate.
        weight_decay: Base weight decay.
        rules: By a name of your choice, ``dict(match=regex, lr_mult=1, decay_mult=1)``, or None for a rule of a base
            config that does not apply. The first rule found (``re.search``) in a parameter's name decides. Parameters
            that no rule matches have the base values.
        layer_decay: See :func:`layer_lr_mults`; None for the same learning rate in all layers.

    Returns:
        One group per (lr, weight decay), the group with the base values first.

    Raises:
        InputError: A rule has an unknown key or matches no parameter, or the model has no layers that decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    active = {name: rule for name, rule in rules.items() if rule is not None}
    for name, rule in active.items():
        if 'match' not in rule or set(rule) - {'match', 'lr_mult', 'decay_mult'}:
            raise InputError(f'paramwise_cfg.rules.{name} is {rule}: its keys are match, lr_mult and decay_mult.')
    used: set[str] = set()
    layers = {} if layer_decay is None else layer_lr_mults(model, layer_decay)
    for parameter_name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        matching = [name for name, rule in active.items() if re.search(rule['match'], parameter_name)]
        used.update(matching)
        rule = active[matching[0]] if matching else {}
        key = (rule.get('lr_mult', 1.0) * layers.get(parameter_name, 1.0), rule.get('decay_mult', 1.0))
        groups.setdefault(key, []).append(parameter)
    for name, rule in active.items():
        if name not in used:
            raise InputError(
                f'optim_wrapper.paramwise_cfg.rules.{name}: match={rule["match"]!r} matches no trainable parameter: '
                f'set the rule to None or correct the expression.'
            )
    order = sorted(groups, key=lambda key: key != (1.0, 1.0))
    return [{'params': groups[key], 'lr': lr * key[0], 'weight_decay': weight_decay * key[1]} for key in order]


def layer_lr_mults(model: nn.Module, decay: float) -> dict[str, float]:
    """Learning rates that decay from the head to the first layer (BEiT, arXiv 2106.08254; MAE, arXiv 2111.06377).

    Args:
        model: An encoder, or a model whose ``backbone`` is one; it says by ``get_layer_depth`` which layer a parameter
            is in: 0 up to the tokens of the first block, i + 1 for block i, and depth + 1 for all after the last.
        decay: Of one layer.

    Returns:
        ``decay ** (depth + 1 - layer)`` for every parameter, by name.

    Raises:
        InputError: ``decay`` is not in (0, 1], or nothing says which layer a parameter is in.
    """
    if not 0 < decay <= 1:
        raise InputError(f'optim_wrapper.paramwise_cfg.layer_decay must be above 0 and up to 1, not {decay}.')
    encoder: Any
    encoder, prefix = (
        (model, '') if hasattr(model, 'get_layer_depth') else (getattr(model, 'backbone', None), 'backbone.')
    )
    if not hasattr(encoder, 'get_layer_depth'):
        raise InputError(
            f'optim_wrapper.paramwise_cfg.layer_decay needs a backbone with layers, such as mmmim.PretrainedBackbone: '
            f'{type(encoder or model).__name__} has no get_layer_depth. Set layer_decay to None.'
        )
    depths = {name: encoder.get_layer_depth(name, prefix) for name, _ in model.named_parameters()}
    return {name: decay ** (number - 1 - layer) for name, (layer, number) in depths.items()}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RuleOptimWrapperConstructor:
    """Builds the optimiser with few, large parameter groups, which fused optimisers need to be fast.

    Args:
        optim_wrapper_cfg: ``dict(type='mmmim.OptimWrapper', optimizer=dict(type=..., lr=..., weight_decay=...))``.
        paramwise_cfg: ``dict(rules=dict(...), layer_decay=0.9)``, both optional, see :func:`parameter_groups`.

    Raises:
        InputError: ``paramwise_cfg`` has other keys.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.optim_wrapper_cfg = copy.deepcopy(optim_wrapper_cfg)
        options = dict(paramwise_cfg or {})
        self.rules: Rules = options.pop('rules', None) or {}
        self.layer_decay: float | None = options.pop('layer_decay', None)
        if options:
            raise InputError(f'optim_wrapper.paramwise_cfg has {", ".join(options)}: its keys are rules, layer_decay.')

    def __call__(self, model: nn.Module) -> object:
        """Build the wrapper of the optimiser of ``model`` (with or without a data-parallel wrapper)."""
        wrapper = dict(self.optim_wrapper_cfg)
        optimizer = dict(wrapper.pop('optimizer'))
        module = getattr(model, 'module', model)
        groups = parameter_groups(
            module, optimizer['lr'], optimizer.get('weight_decay', 0.0), self.rules, self.layer_decay
        )
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
