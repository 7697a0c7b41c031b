"""A training recipe for another number of iterations and another batch: the settings that belong together, as one.

The rules, and where they are from:

- **Learning rate**: times ``sqrt(B'/B)``, the square-root rule of Adam (Malladi et al. 2022, arXiv 2205.10287), or
  times ``B'/B``, the linear rule (Goyal et al. 2017, arXiv 1706.02677; MAE's recipes use it with AdamW). The number of
  iterations does not change it, and the betas stay, which the first paper would scale as well (our reading). Parameter
  groups are multiples of the rate and follow.
- **Warm-up**: the same share of the run, but at least ``2 / (1 - beta2)`` iterations (Ma & Yarats 2021, arXiv
  1910.04209). The momentum warms up as long (our reading). A schedule without a warm-up stays without.
- **EMA momentum**: the teacher follows a student that moves by about the learning rate per step, so one minus the
  momentum is scaled as the rate is. CAPI (arXiv 2502.08769, table 6) sets the two equal; for other ratios this is our
  reading. The averaging window ``1 / (1 - momentum)`` is at most 5 % of the run, or the config's own share where that
  is greater (our reading): this only lowers it.
- **Shapes of schedules** are shares of the run and stay, so the clustering of CAPI, whose rate is a multiple, follows.
- **Prototypes** stay, with a note where a batch has fewer images than there are prototypes: CAPI has as many of one as
  of the other.
- **Intervals** of validation and hooks (checkpoints and the like) that are longer than the run become a quarter of it.
- **Weight decay, betas and temperatures** stay.
"""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmmim.utils import InputError

#: Longest averaging window of the teacher, as a share of the run.
EMA_WINDOW = 0.05
#: Arguments of schedules that are values of it; all others are shares of the run.
_VALUES = ('start', 'base', 'final', 'value')
_MOMENTUM = 'default_hooks.target_ema.momentum'
_WIDTH = 120


@dataclass(frozen=True)
class Change:
    """A setting that changes.

    Attributes:
        key: Dotted key of the setting in the config.
        old: Value before the change, or the default where the config does not set it.
        new: The scaled value.
        reason: The rule, for people.
    """

    key: str
    old: Any
    new: Any
    reason: str


@dataclass
class ScaledRecipe:
    """What changes, and what people should know besides."""

    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def change(self, key: str, old: Any, new: Any, reason: str) -> None:
        """Record a change, if it is one."""
        if new != old:
            self.changes.append(Change(key, old, new, reason))


def scale_recipe(
    cfg: Mapping[str, Any],
    find_schedule: Callable[[str], Callable[..., float] | None],
    iters: int | None = None,
    batch: int | None = None,
    lr_rule: str = 'sqrt',
) -> ScaledRecipe:
    """Scale a recipe; the rules are those of the module.

    Args:
        cfg: A pre-training config.
        find_schedule: Gives the function of a schedule by its name, None for an unknown one: ``SCHEDULES.get``.
        iters: Number of iterations; by default the config's.
        batch: Images per iteration over all GPUs; by default the config's.
        lr_rule: ``'sqrt'`` or ``'linear'``.

    Returns:
        Changes and notes.

    Raises:
        InputError: The config lacks a setting or has one of an unknown kind, or the run is too short.
    """
    if iters is None and batch is None:
        raise InputError('There is nothing to scale to: give --iters, --batch or both.')
    old_iters = _whole_number(cfg, 'train_cfg.max_iters', 'the length of the run in iterations')
    old_batch = _whole_number(cfg, 'global_batch_size', 'the images of an iteration over all GPUs')
    iters, batch = (old_iters if iters is None else iters), (old_batch if batch is None else batch)
    for name, value in (('--iters', iters), ('--batch', batch)):
        if value < 1:
            raise InputError(f'{name} must be at least 1, not {value}.')

    recipe = ScaledRecipe()
    images, old_images = iters * batch, old_iters * old_batch
    recipe.notes.append(f'Images seen: {_spaced(old_images)} -> {_spaced(images)} (x {images / old_images:.4g}).')
    recipe.change('train_cfg.max_iters', old_iters, iters, 'As asked for.')
    recipe.change('global_batch_size', old_batch, batch, 'As asked for; over all GPUs.')
    _scale_intervals(recipe, cfg, iters)
    if batch != old_batch:
        _follow_batch(recipe, cfg, batch)
    ratio = _scale_lr(recipe, cfg, batch / old_batch, lr_rule)
    _scale_warmup(recipe, cfg, find_schedule, iters)
    if _get(cfg, _MOMENTUM) is not None:
        _scale_momentum(recipe, cfg, find_schedule, ratio, iters, old_iters)
    _note_clustering(recipe, cfg, batch)
    recipe.notes.append(
        'Schedules are in shares of the run: their shapes stay. So do weight decay, betas and temperatures, which do '
        'not depend on the length or on the batch (our reading).'
    )
    return recipe


def _scale_intervals(recipe: ScaledRecipe, cfg: Mapping[str, Any], iters: int) -> None:
    keys = ['train_cfg.val_interval']
    for name in _get(cfg, 'default_hooks') or {}:
        by_epoch = _get(cfg, f'default_hooks.{name}.by_epoch')
        # The checkpoints of mmengine are the only ones that count epochs unless told otherwise.
        if not (name == 'checkpoint' if by_epoch is None else by_epoch):
            keys.append(f'default_hooks.{name}.interval')
    for key in keys:
        interval = _get(cfg, key)
        if isinstance(interval, int) and interval > iters:
            recipe.change(key, interval, max(1, iters // 4), 'Longer than the run: a quarter of it.')


def _follow_batch(recipe: ScaledRecipe, cfg: Mapping[str, Any], batch: int) -> None:
    per_process = _get(cfg, 'train_dataloader.batch_size')
    recipe.change('train_dataloader.batch_size', per_process, None, 'Follows from global_batch_size.')
    base = _get(cfg, 'auto_scale_lr.base_batch_size')
    if base is not None:
        recipe.change('auto_scale_lr.base_batch_size', base, batch, 'The batch that the learning rate here is for.')


def _scale_lr(recipe: ScaledRecipe, cfg: Mapping[str, Any], factor: float, rule: str) -> float:
    """Returns the factor of the learning rate."""
    key = 'optim_wrapper.optimizer.lr'
    lr = _get(cfg, key)
    if not isinstance(lr, (int, float)) or lr <= 0:
        raise InputError(f'The config has {key}={lr!r}: it must be a number above 0, the rate that is scaled.')
    kind = str(_get(cfg, 'optim_wrapper.optimizer.type'))
    if rule == 'sqrt' and factor != 1 and not _is_adam(kind):
        raise InputError(f'The square-root rule is for Adam, and the optimiser is {kind}: give --lr-rule linear.')
    if rule == 'sqrt':
        ratio = math.sqrt(factor)
        reason = (
            f"x sqrt(B'/B) = {ratio:.4g}, the square-root rule of Adam (Malladi et al. 2022, arXiv 2205.10287), with "
            'the betas as they are (our reading).'
        )
    else:
        ratio = factor
        reason = f"x B'/B = {ratio:.4g}, the linear rule (Goyal et al. 2017, arXiv 1706.02677)."
    recipe.change(key, lr, _rounded(lr * ratio, lr), reason)
    rules = (_get(cfg, 'optim_wrapper.paramwise_cfg.rules') or {}).values()
    multiples = [
        f'{rule["lr_mult"]:g} ({rule["match"]})' for rule in rules if rule is not None and rule.get('lr_mult', 1) != 1
    ]
    if multiples:
        recipe.notes.append(
            f'Parameter groups are multiples of the learning rate, on its schedule, and follow: {", ".join(multiples)}.'
        )
    return ratio


def _scale_warmup(
    recipe: ScaledRecipe,
    cfg: Mapping[str, Any],
    find_schedule: Callable[[str], Callable[..., float] | None],
    iters: int,
) -> None:
    scheduler = _scheduler_key(cfg)
    for end in ('begin', 'end'):
        if _get(cfg, f'{scheduler}.{end}'):
            raise InputError(f'{scheduler}.{end} ties the schedule to iterations: remove it, to span the whole run.')
    schedule = f'{scheduler}.schedule'
    options = {schedule: _options(cfg, schedule, find_schedule)}
    if _get(cfg, _MOMENTUM) is not None:
        options[_MOMENTUM] = _options(cfg, _MOMENTUM, find_schedule)
    beta2 = _beta2(cfg)
    if beta2 is None:
        return
    least = math.ceil(round(2 / (1 - beta2), 6))
    asked = f'{_spaced(least)} iterations = 2 / (1 - beta2) with beta2 = {beta2} (Ma & Yarats 2021, arXiv 1910.04209)'
    for key, values in options.items():
        old = values.get('warmup_ratio') or 0
        if old and int(iters * old) < least:
            name = f'{key}.warmup_ratio'
            if 2 * least > iters:
                raise InputError(
                    f'{name}: Adam needs a warm-up of {asked}, more than half of a run of {_spaced(iters)}. Give '
                    f'--iters {2 * least} or more, or lower the second of optim_wrapper.optimizer.betas in the config.'
                )
            reason = f'A warm-up of at least {asked}'
            reason += '; the momentum warms up as long (our reading).' if key == _MOMENTUM else '.'
            recipe.change(name, old, _share(least, iters), reason)
    if not options[schedule].get('warmup_ratio'):
        recipe.notes.append(f'The learning rate has no warm-up, and none is added. Advised for Adam: {asked}.')


def _scheduler_key(cfg: Mapping[str, Any]) -> str:
    """Where the scheduler of the learning rate is: alone, or by name among others."""
    scheduler = _get(cfg, 'param_scheduler')
    named = {'param_scheduler': scheduler}
    if isinstance(scheduler, Mapping) and 'type' not in scheduler:
        named = {f'param_scheduler.{name}': one for name, one in scheduler.items()}
    for key in named:
        if _get(cfg, f'{key}.type') in ('mmmim.ScheduleLR', 'ScheduleLR'):
            return key
    kind = _get(cfg, 'param_scheduler.type') or scheduler
    raise InputError(
        f'The config has param_scheduler={kind!r}, which cannot be scaled: write it as one '
        "dict(type='mmmim.ScheduleLR', by_epoch=False, schedule=...), or as a dict of such by name."
    )


def _scale_momentum(
    recipe: ScaledRecipe,
    cfg: Mapping[str, Any],
    find_schedule: Callable[[str], Callable[..., float] | None],
    ratio: float,
    iters: int,
    old_iters: int,
) -> None:
    constant = isinstance(_get(cfg, _MOMENTUM), int | float)
    for name, old in _options(cfg, _MOMENTUM, find_schedule).items():
        if name not in _VALUES or not isinstance(old, (int, float)) or not 0 < old < 1:
            continue
        rate = (1 - old) * ratio
        window = max(EMA_WINDOW, 1 / ((1 - old) * old_iters))
        shortest = 1 / (window * iters)
        if rate >= shortest:
            reason = (
                f"1 - momentum x {ratio:.4g}, as the learning rate: the teacher follows the student's steps (CAPI: 1 - "
                'momentum = lr; the ratio kept for others is our reading).'
            )
        else:
            reason = (
                f'A window 1 / (1 - momentum) of {1 / rate:.4g} iterations would be {100 / rate / iters:.3g} % of the '
                f'run: at most {100 * window:.3g} % (our reading).'
            )
        new = max(0.0, round(1 - _rounded(max(rate, shortest), 1 - old), 12))
        recipe.change(_MOMENTUM if constant else f'{_MOMENTUM}.{name}', old, new, reason)


def _note_clustering(recipe: ScaledRecipe, cfg: Mapping[str, Any], batch: int) -> None:
    branches = _get(cfg, 'model.branches') or {}
    for name in branches:
        branch = f'model.branches.{name}'
        number = _get(cfg, f'{branch}.target_generator.num_prototypes')
        positional = _get(cfg, f'{branch}.target_generator.positional') is not False
        if isinstance(number, int) and positional and batch < number:
            recipe.notes.append(
                f'Sinkhorn-Knopp balances {_spaced(number)} prototypes over the images of a batch at each position, '
                f'and {_spaced(batch)} images cannot use all of them. CAPI has as many prototypes as images (16 384). '
                f'To lower them, set {branch}.target_generator.num_prototypes and {branch}.head.num_prototypes to '
                f'{batch} or so; they are left as they are, because fewer prototypes cost quality too (CAPI, table 1: '
                '16 384 prototypes 29.1 mIoU, 1 024 14.9; not run here).'
            )


def _options(
    cfg: Mapping[str, Any], key: str, find_schedule: Callable[[str], Callable[..., float] | None]
) -> dict[str, Any]:
    """Arguments of the schedule at ``key``, with the defaults of its function; of a number that of a constant one."""
    if isinstance(_get(cfg, key), int | float):
        return {'value': _get(cfg, key)}
    kind = _get(cfg, f'{key}.type')
    function = find_schedule(kind) if isinstance(kind, str) else None
    if function is None:
        raise InputError(
            f'The config has {key}.type={kind!r}, which is no schedule: use one of mmmim.engine.schedules, such as '
            'mmmim.truncated_cosine, or register yours in SCHEDULES.'
        )
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | dict(_get(cfg, key))


def _is_adam(kind: str) -> bool:
    return 'adam' in kind.lower()


def _beta2(cfg: Mapping[str, Any]) -> float | None:
    """Adam's second beta, by default torch's; None for other optimisers."""
    betas = _get(cfg, 'optim_wrapper.optimizer.betas')
    if betas is None:
        return 0.999 if _is_adam(str(_get(cfg, 'optim_wrapper.optimizer.type'))) else None
    if not isinstance(betas, Sequence) or len(betas) != 2 or not 0 <= betas[1] < 1:
        raise InputError(f'optim_wrapper.optimizer.betas must be two numbers in [0, 1), not {betas!r}.')
    return float(betas[1])


def _whole_number(cfg: Mapping[str, Any], key: str, meaning: str) -> int:
    value = _get(cfg, key)
    if value is None:
        raise InputError(f'The config has no {key}, {meaning}: add it, so that there is something to scale from.')
    if not isinstance(value, int) or value < 1:
        raise InputError(f'{key}, {meaning}, must be a whole number above 0, not {value!r}.')
    return value


def _get(cfg: Any, key: str) -> Any:
    """The value at a dotted key, None where there is none."""
    for part in key.split('.'):
        cfg = cfg.get(part) if isinstance(cfg, Mapping) else None
    return cfg


def _rounded(new: float, old: float) -> float:
    # Four digits are plenty for a rule of thumb; what did not change keeps all of its own.
    return old if math.isclose(new, old, rel_tol=1e-9) else float(f'{new:.4g}')


def _share(part: int, total: int) -> float:
    """The smallest share in millionths with ``int(total * share) >= part``, which is how schedules round."""
    millionths = math.ceil(1e6 * part / total)
    while int(total * (millionths / 1e6)) < part:
        millionths += 1
    return millionths / 1e6


def _spaced(number: int) -> str:
    return f'{number:,}'.replace(',', ' ')


def render(recipe: ScaledRecipe, base: str, title: str) -> str:
    """The text of a config with the changes on top of another one.

    Args:
        recipe: The changes and notes of :func:`scale_recipe`.
        base: Path of the config that was scaled, absolute or relative to where the text will be.
        title: First line of the text.
    """
    lines = list(_comment(title))
    for note in recipe.notes:
        lines += ['#', *_comment(note)]
    lines += [f'_base_ = {base!r}']
    tree: dict[str, Any] = {}
    for change in recipe.changes:
        *parents, name = change.key.split('.')
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = change
    for name, node in tree.items():
        lines += ['', *_assignment(name, node)]
    return '\n'.join(lines) + '\n'


def _assignment(name: str, node: Change | dict[str, Any], depth: int = 0) -> Iterator[str]:
    indent, end, equals = '    ' * depth, ',' * (depth > 0), '=' if depth else ' = '
    if isinstance(node, Change):
        yield from _comment(f'{node.old!r} -> {node.new!r}. {node.reason}', indent)
        yield f'{indent}{name}{equals}{node.new!r}{end}'
    else:
        yield f'{indent}{name}{equals}dict('
        for key, child in node.items():
            yield from _assignment(key, child, depth + 1)
        yield f'{indent}){end}'


def _comment(text: str, indent: str = '') -> list[str]:
    start = f'{indent}# '
    return textwrap.wrap(
        text, _WIDTH, initial_indent=start, subsequent_indent=start, break_long_words=False, break_on_hyphens=False
    )
