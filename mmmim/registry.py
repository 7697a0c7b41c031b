"""One child registry for every root registry of mmengine.

The modules that fill a registry are imported when the registry is first searched. Types in configs carry their
package (``mmmim.ViT``, ``mmpretrain.RandomFlip``, ``mmengine.CheckpointHook``), so that two packages with a class
of the same name never decide silently which one is built.
"""

from mmengine import registry as _roots
from mmengine.registry import Registry


def _child(root: Registry, *locations: str) -> Registry:
    return Registry(root.name, parent=root, scope='mmmim', locations=list(locations))


RUNNERS = _child(_roots.RUNNERS, 'mmmim.engine')
RUNNER_CONSTRUCTORS = _child(_roots.RUNNER_CONSTRUCTORS)
LOOPS = _child(_roots.LOOPS, 'mmmim.engine.fit_test_loop')
HOOKS = _child(_roots.HOOKS, 'mmmim.engine')
STRATEGIES = _child(_roots.STRATEGIES, 'mmmim.engine')
DATASETS = _child(_roots.DATASETS, 'mmmim.datasets')
DATA_SAMPLERS = _child(_roots.DATA_SAMPLERS, 'mmmim.datasets')
TRANSFORMS = _child(_roots.TRANSFORMS, 'mmmim.datasets')
MODELS = _child(_roots.MODELS, 'mmmim.models')
MODEL_WRAPPERS = _child(_roots.MODEL_WRAPPERS, 'mmmim.engine')
WEIGHT_INITIALIZERS = _child(_roots.WEIGHT_INITIALIZERS)
OPTIMIZERS = _child(_roots.OPTIMIZERS, 'mmmim.engine')
OPTIM_WRAPPERS = _child(_roots.OPTIM_WRAPPERS, 'mmmim.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(_roots.OPTIM_WRAPPER_CONSTRUCTORS, 'mmmim.engine')
PARAM_SCHEDULERS = _child(_roots.PARAM_SCHEDULERS, 'mmmim.engine')
METRICS = _child(_roots.METRICS, 'mmmim.evaluation', 'mmmim.evaluation.jaccard')
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
SCHEDULES = Registry('schedule', scope='mmmim', locations=['mmmim.engine'])
#: Probes of frozen features, fitted by :class:`mmmim.FitTestLoop`.
PROBES = Registry('probe', scope='mmmim', locations=['mmmim.evaluation.fitted_probes'])
