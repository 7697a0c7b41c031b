"""Parameter groups from rules on names."""

import copy
import inspect
import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.registry import OPTIMIZERS as ROOT_OPTIMIZERS
from torch import nn

from mmmim.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from mmmim.utils import InputError
from mmmim.utils.options import NonNegative, PositiveShare, check_names, check_value

Rules = Mapping[str, dict | None]


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, rules: Rules, layer_decay: float | None = None
) -> list[dict]:
    """Group trainable parameters by learning rate and weight decay.

    Args:
        model: The model, without a wrapper.
        lr: Base learning rate.
        weight_decay: Base weight decay.
        rules: Rules by a name of your choice, ``dict(match=regex, lr_mult=1, decay_mult=1)``, or None for a rule of a
            base config that does not apply. The first rule found (``re.search``) in a parameter's name decides.
            Parameters that no rule matches have the base values.
        layer_decay: Factor of the learning rate from one layer to the one before it, see :func:`layer_lr_mults`; None
            for the same learning rate in all layers.

    Returns:
        One group per (lr, weight decay), the group with the base values first.

    Raises:
        InputError: A rule has an unknown key or matches no parameter, or the model has no layers that decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    active = {name: rule for name, rule in rules.items() if rule is not None}
    check_rules(rules)
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


def check_rules(rules: Rules) -> None:
    """Refuse rules that say nothing.

    Raises:
        InputError: Naming the rule, by its path in a config.
    """
    for name, rule in rules.items():
        key = f'optim_wrapper.paramwise_cfg.rules.{name}'
        check_value(key, rule, dict | None)
        if rule is None:
            continue
        if 'match' not in rule or set(rule) - {'match', 'lr_mult', 'decay_mult'}:
            raise InputError(f'{key} is {dict(rule)}: its keys are match, lr_mult and decay_mult.')
        check_value(f'{key}.match', rule['match'], str)
        for factor in ('lr_mult', 'decay_mult'):
            check_value(f'{key}.{factor}', rule.get(factor, 1.0), NonNegative)
        try:
            re.compile(rule['match'])
        except re.error as error:
            raise InputError(f'{key}.match={rule["match"]!r} is no regular expression: {error}.') from None


def layer_lr_mults(model: nn.Module, decay: float) -> dict[str, float]:
    """Learning rates that decay from the head to the first layer (BEiT, arXiv 2106.08254; MAE, arXiv 2111.06377).

    Args:
        model: An encoder, or a model whose ``backbone`` is one; it says by ``get_layer_depth(name, prefix)`` which
            layer a parameter is in: 0 up to the tokens of the first block, i + 1 for block i, and depth + 1 for all
            after the last.
        decay: Factor of the learning rate from one layer to the one before it.

    Returns:
        ``decay ** (depth + 1 - layer)`` for every parameter, by name.

    Raises:
        InputError: ``decay`` is not in (0, 1], or nothing says which layer a parameter is in.
    """
    check_value('optim_wrapper.paramwise_cfg.layer_decay', decay, PositiveShare)
    encoder: Any
    encoder, prefix = (model, '') if _tells_layers(model) else (getattr(model, 'backbone', None), 'backbone.')
    if not _tells_layers(encoder):
        raise InputError(
            f'optim_wrapper.paramwise_cfg.layer_decay needs a backbone with layers, such as mmmim.PretrainedBackbone: '
            f'{type(encoder or model).__name__} has no get_layer_depth. Set layer_decay to None.'
        )
    depths = {name: encoder.get_layer_depth(name, prefix) for name, _ in model.named_parameters()}
    return {name: decay ** (number - 1 - layer) for name, (layer, number) in depths.items()}


def _tells_layers(module: Any) -> bool:
    """Whether a module says which layer a parameter of any name is in, as encoders do.

    Classifiers of mmpretrain have a method of the same name that takes no prefix and asks their backbone.
    """
    method = getattr(module, 'get_layer_depth', None)
    return method is not None and 'prefix' in inspect.signature(method).parameters


#: Keys of ``paramwise_cfg`` of the constructors of mmengine and mmpretrain.
_HOST_KEYS = (
    'custom_keys',
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'flat_decay_mult',
    'dwconv_decay_mult',
    'dcn_offset_lr_mult',
    'bypass_duplicate',
    'layer_decay_rate',
    'decay_rate',
    'decay_type',
    'num_layers',
)


def _refuse_keys(keys: Collection[str]) -> None:
    """Refuse keys of ``paramwise_cfg`` that it does not have."""
    if any(key in _HOST_KEYS for key in keys):
        raise InputError(
            f'optim_wrapper.paramwise_cfg has {", ".join(keys)}, which constructors of mmengine and mmpretrain know: '
            'the keys of mmmim.RuleOptimWrapperConstructor are rules, such as rules=dict(no_decay=dict('
            "match=r'bias$|norm', decay_mult=0.0)), and layer_decay."
        )
    check_names('optim_wrapper.paramwise_cfg', keys, ('rules', 'layer_decay'), 'mmmim.RuleOptimWrapperConstructor')


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
        _refuse_keys(options)
        if self.layer_decay is not None:
            check_value('optim_wrapper.paramwise_cfg.layer_decay', self.layer_decay, PositiveShare)
        check_rules(self.rules)
        optimizer = self.optim_wrapper_cfg.get('optimizer')
        if not isinstance(optimizer, Mapping) or optimizer.get('lr') is None:
            raise InputError('optim_wrapper.optimizer needs a learning rate: set optim_wrapper.optimizer.lr.')

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
