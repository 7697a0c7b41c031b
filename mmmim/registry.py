"""One child registry for every root registry of mmengine.

The modules that fill a registry are imported when the registry is first searched. Types in configs carry their
package (``mmmim.ViT``, ``mmpretrain.RandomFlip``, ``mmengine.CheckpointHook``), so that two packages with a class
of the same name never decide silently which one is built.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from mmengine import registry as _roots
from mmengine.registry import Registry

from .utils import InputError
from .utils.internals import introduce_to_mmengine, quiet_imports
from .utils.options import check_options, checks_its_options

quiet_imports()
introduce_to_mmengine('mmmim')


class CheckedRegistry(Registry):
    """A registry whose classes refuse wrong options in one sentence, see :mod:`mmmim.utils.options`."""

    def _register_module(self, module: Any, module_name: Any = None, force: bool = False) -> None:
        if inspect.isclass(module):
            checks_its_options(module)
        super()._register_module(module, module_name, force)

    def build(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """Build what a config names.

        Raises:
            InputError: It has no type, or options that its class does not have or cannot do without.
        """
        if isinstance(cfg, Mapping) and 'type' not in cfg and 'type' not in (kwargs.get('default_args') or {}):
            keys = ', '.join(map(str, cfg)) or 'nothing'
            raise InputError(f'A {self.name} of a config has no type: it is a dict of {keys}.')
        try:
            return super().build(cfg, *args, **kwargs)
        except TypeError:
            if isinstance(cfg, Mapping):
                self._explain(cfg, kwargs.get('default_args') or {})
            raise

    def _explain(self, cfg: Mapping, default_args: Mapping) -> None:
        """Raise an error in words if the options are the reason why a part cannot be made."""
        kind = cfg.get('type', default_args.get('type'))
        found = self.get(kind) if isinstance(kind, str) else kind
        if found is not None:
            options = {key: value for key, value in cfg.items() if key not in ('type', '_scope_')}
            check_options(found, options, getattr(found, '__name__', str(kind)), given=tuple(default_args))


def _child(root: Registry, *locations: str) -> Registry:
    # Of a registry without a location, mmengine would import all modules of the package.
    locations = locations or ('mmmim.registry',)
    return CheckedRegistry(root.name, parent=root, scope='mmmim', locations=list(locations))


RUNNERS = _child(_roots.RUNNERS, 'mmmim.engine')
RUNNER_CONSTRUCTORS = _child(_roots.RUNNER_CONSTRUCTORS)
LOOPS = _child(
    _roots.LOOPS,
    'mmmim.engine',
    'mmmim.engine.fit_test_loop',
    'mmmim.engine.choosing_test_loop',
    'mmmim.engine.corruptions_test_loop',
    'mmmim.engine.label_free_loop',
    'mmmim.engine.propagation_test_loop',
)
HOOKS = _child(_roots.HOOKS, 'mmmim.engine')
STRATEGIES = _child(_roots.STRATEGIES, 'mmmim.engine')
DATASETS = _child(_roots.DATASETS, 'mmmim.datasets')
DATA_SAMPLERS = _child(_roots.DATA_SAMPLERS, 'mmmim.datasets')
TRANSFORMS = _child(_roots.TRANSFORMS, 'mmmim.datasets', 'mmmim.datasets.corruptions')
MODELS = _child(_roots.MODELS, 'mmmim.models', 'mmmim.features', 'mmmim.evaluation.probes.classifier')
MODEL_WRAPPERS = _child(_roots.MODEL_WRAPPERS, 'mmmim.engine')
WEIGHT_INITIALIZERS = _child(_roots.WEIGHT_INITIALIZERS)
OPTIMIZERS = _child(_roots.OPTIMIZERS, 'mmmim.engine')
OPTIM_WRAPPERS = _child(_roots.OPTIM_WRAPPERS, 'mmmim.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(_roots.OPTIM_WRAPPER_CONSTRUCTORS, 'mmmim.engine')
PARAM_SCHEDULERS = _child(_roots.PARAM_SCHEDULERS, 'mmmim.engine')
METRICS = _child(
    _roots.METRICS,
    'mmmim.evaluation.measures.losses',
    'mmmim.evaluation.measures.jaccard',
    'mmmim.evaluation.measures.maps',
    'mmmim.evaluation.measures.calibration',
    'mmmim.evaluation.label_free.scores',
    'mmmim.evaluation.measures.video_objects',
    'mmmim.evaluation.probes.accepted',
    'mmmim.evaluation.probes.head_accuracy',
)
EVALUATOR = _child(_roots.EVALUATOR)
TASK_UTILS = _child(_roots.TASK_UTILS, 'mmmim.datasets')
VISUALIZERS = _child(_roots.VISUALIZERS)
VISBACKENDS = _child(_roots.VISBACKENDS)
LOG_PROCESSORS = _child(_roots.LOG_PROCESSORS)
INFERENCERS = _child(_roots.INFERENCERS)
FUNCTIONS = _child(_roots.FUNCTIONS, 'mmmim.datasets')

#: Masking strategies are task utilities: ``masking=dict(type='mmmim.BlockMasking', ...)``.
MASKINGS = TASK_UTILS
#: Schedules ``(step, total) -> value`` of learning rates and EMA momenta.
SCHEDULES = CheckedRegistry('schedule', scope='mmmim', locations=['mmmim.engine'])
#: Probes of frozen features, fitted by :class:`mmmim.FitTestLoop`, and what :class:`mmmim.LabelFreeTestLoop` finds by.
PROBES = CheckedRegistry(
    'probe',
    scope='mmmim',
    locations=[
        'mmmim.evaluation.probes.fitted',
        'mmmim.evaluation.probes.regression',
        'mmmim.evaluation.label_free.methods',
    ],
)


def build_runner(cfg: Any) -> Any:
    """The runner of a whole config: mmmim's, or that of its ``runner_type``.

    Args:
        cfg: A whole config, mmengine's ``Config``, whose placeholders for an encoder have been filled.
    """
    return RUNNERS.build(cfg) if 'runner_type' in cfg else RUNNERS.get('mmmim.Runner').from_cfg(cfg)


def register_all_modules(init_default_scope: bool = True) -> None:
    """Import everything that registers itself, as the function of this name in other OpenMMLab packages does.

    Building from configs needs no such call. It fills the registries for looking: ``print(mmmim.registry.MODELS)``.

    Args:
        init_default_scope: Whether types without a package are then those of mmmim.
    """
    registries = (value for value in list(globals().values()) if isinstance(value, Registry) and value.scope == 'mmmim')
    for registry in registries:
        registry.import_from_location()
    if init_default_scope:
        _roots.init_default_scope('mmmim')
