"""Every reach into private parts of mmengine and torch, one function each, with its reason.

What is private may change with any version: when something breaks after an update, it is here. Methods that a subclass
overrides, and attributes that a subclass has of its base class, stay in the subclass.

Importing this module is cheap: the libraries are imported where they are needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Imports.


def quiet_imports() -> None:
    """Keep libraries from printing what a user can do nothing about when they are imported.

    ``print_log`` of mmengine prints what is given for debugging, when there is no logger: that mmpretrain and mmseg
    come without a data set of their maintainer. And mmcv warns that it was built without operators that nothing here
    uses.
    """
    import logging
    import warnings

    import mmengine.logging as theirs

    original = theirs.print_log

    def print_log(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
        if logger is not None or level > logging.DEBUG:
            original(msg, logger, level)

    theirs.print_log = print_log
    warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')


def introduce_to_mmengine(package: str) -> None:
    """Let ``mmengine.hub`` and ``_base_ = ['package::file.py']`` find the configs of a package.

    mmengine knows the packages of its maintainer by a table, and has no other way to name one.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE[package] = package


def import_torchvision() -> None:
    """Import torchvision without the compiler of torch: half a second and 100 MB in every process that loads images.

    One of its operators imports a function of ``torch._dynamo`` that it needs when it is called. It gets one that
    imports the compiler then. Where the compiler or torchvision have been imported before, nothing is done.
    """
    import sys
    from importlib import import_module
    from types import ModuleType

    name = 'torch._dynamo.utils'
    if 'torch._dynamo' in sys.modules or 'torchvision' in sys.modules:
        return

    class Later(ModuleType):
        def __getattr__(self, attribute: str) -> Any:
            if attribute.startswith('__'):
                raise AttributeError(attribute)
            return lambda *args, **kwargs: getattr(import_module(name), attribute)(*args, **kwargs)

    package, utils = ModuleType('torch._dynamo'), Later(name)
    package.__path__ = []  # a package
    sys.modules.update({package.__name__: package, name: utils})
    try:
        import torchvision  # noqa: F401
    finally:
        for each in (package.__name__, name):
            sys.modules.pop(each, None)


# Configs.


def config_dict(cfg: Any) -> Any:
    """The dict of an mmengine ``Config``, to be changed in place; what is no ``Config`` is given back.

    Its public methods copy it or set single keys.
    """
    return getattr(cfg, '_cfg_dict', cfg)


def base_configs(path: str) -> Iterator[str]:
    """Files of the direct bases of a config file; mmengine says only what all of them together are.

    Those whose path is written with a placeholder of mmengine are left out.
    """
    from mmengine.config import Config

    for base in Config._get_base_files(path):
        if '{{' not in base:
            yield Config._get_cfg_path(base, path)[0]


def parse_value(text: str) -> Any:
    """A number, a truth value, None or a text, as mmengine's ``--cfg-options`` reads it, which splits words itself."""
    from mmengine.config import DictAction

    return DictAction._parse_int_float_bool(text)


def parse_values(text: str) -> Any:
    """A list or tuple of :func:`parse_value`; ``AssertionError`` where brackets do not match."""
    from mmengine.config import DictAction

    return DictAction._parse_iterable(text)


# Instances that mmengine keeps for the whole process: loggers, message hubs, visualizers, default scopes.


@contextmanager
def own_instances() -> Iterator[None]:
    """Let a runner inside have instances of its own, which are closed and forgotten afterwards.

    The current instance is the one that was made last, of whichever runner, and there is no public way to remove one.
    """
    from mmengine.logging import MMLogger
    from mmengine.utils import ManagerMixin
    from mmengine.visualization import Visualizer

    def classes(kind: Any) -> Iterator[Any]:
        yield kind
        for each in kind.__subclasses__():
            yield from classes(each)

    before = {kind: kind._instance_dict for kind in classes(ManagerMixin)}
    for kind in before:
        kind._instance_dict = OrderedDict()
    try:
        yield
    finally:
        for kind in dict.fromkeys(classes(ManagerMixin)):  # also those that were imported inside
            for instance in kind._instance_dict.values():
                if isinstance(instance, MMLogger):
                    for handler in instance.handlers:
                        handler.close()
                elif isinstance(instance, Visualizer):
                    instance.close()
            kind._instance_dict = before.get(kind, OrderedDict())


# Registries.


def registry_of(root: Any, scope: str) -> Any:
    """The registry of a package below another one; None where there is none.

    mmengine's public search imports what a name says.
    """
    return root._search_child(scope)


# Files of weights.


@contextmanager
def replaced_loader(read: Callable[..., Any]) -> Iterator[None]:
    """Let mmengine read checkpoints by ``read`` inside: its loaders cannot be unregistered, and some run pickles."""
    from mmengine.runner import CheckpointLoader

    schemes = CheckpointLoader._schemes
    CheckpointLoader._schemes = OrderedDict({'': read})
    try:
        yield
    finally:
        CheckpointLoader._schemes = schemes


def module_versions(weights: Any) -> Any:
    """The versions of modules that ``Module.state_dict()`` keeps in an attribute of the dict; None where it has none.

    Load hooks of torch adapt older weights by them, and a plain copy loses them.
    """
    return getattr(weights, '_metadata', None)


def set_module_versions(weights: Any, versions: Any) -> None:
    """Give a copy of a state dict the versions of :func:`module_versions`, unless they are None."""
    if versions is not None:
        weights._metadata = versions


def notes_initialisation(module: Any) -> bool:
    """Whether mmengine is noting how the parameters of a module are initialised; only then it takes a note."""
    return hasattr(module, '_params_init_info')


@contextmanager
def quiet_initialisation(module: Any) -> Iterator[None]:
    """Initialise an mmengine module inside without several lines of log for every parameter, which has no switch."""
    module._dump_init_info = lambda: None
    try:
        yield
    finally:
        del module._dump_init_info


# The runner.


def built_loops(runner: Any) -> dict[str, Any]:
    """The loops of a runner, by mode, as they are: the public properties would build those that are configs yet."""
    return {mode: getattr(runner, f'_{mode}_loop', None) for mode in ('train', 'val', 'test')}


def resumes(runner: Any) -> Any:
    """What a runner was told about resuming: True, False or 'auto'; mmengine does not tell it."""
    return runner._resume


def loaded_from(runner: Any) -> str | None:
    """The file that a runner was told to load; mmengine does not tell it."""
    return runner._load_from


def randomness(runner: Any) -> dict[str, Any]:
    """The seed and its settings that a runner was made with; only the seed is public."""
    return dict(runner._randomness_cfg)


def set_position(loop: Any, epoch: int, iteration: int) -> None:
    """Let a training loop of mmengine go on from an epoch and iteration, which are read-only."""
    loop._epoch, loop._iter = epoch, iteration


def end_workers(runner: Any) -> None:
    """End the processes of a runner's data loaders, which torch and mmengine keep for the next round.

    A runner lies in cycles of references: the garbage collector would close the queues of the processes before they are
    told to end, and torch then waits for each of them for 5 seconds.
    """
    for loop in built_loops(runner).values():
        for name in ('dataloader', 'dataloader_iterator'):
            holder: Any = getattr(loop, name, None)
            if hasattr(getattr(holder, '_iterator', None), '_workers'):
                holder._iterator = None


def is_resumed(hub: Any, key: str) -> bool:
    """Whether an entry of a message hub is saved in checkpoints: only the hub's own ``state_dict`` knows."""
    return hub._resumed_keys.get(key, False)


def save_step(hook: Any, runner: Any, step: int, meta: dict[str, Any]) -> None:
    """Let a checkpoint hook save now, as it does at its interval, with its deletion of old files."""
    hook._save_checkpoint_with_step(runner, step, meta=meta)


def trackers(visualizer: Any) -> Mapping[str, Any]:
    """The backends of a visualizer by name; mmengine gives them one by one to those who know their names."""
    return visualizer._vis_backends


def accumulated_batches(optim_wrapper: Any) -> int:
    """How many batches an optimiser wrapper accumulates gradients of; mmengine does not tell it."""
    return getattr(optim_wrapper, '_accumulative_counts', 1)


# Optimisers, compilation, tensors.


def overflow_flags(scaler: Any, optimizer: Any) -> Iterator[Any]:
    """The tensors by which a gradient scaler knows that a step is skipped, which other processes must agree on."""
    yield from scaler._found_inf_per_device(optimizer).values()


def foreach(operation: str) -> Callable[..., Any]:
    """An operation on a list of tensors in few kernels, such as ``'lerp_'``; torch has no public name for them."""
    import torch

    return getattr(torch, f'_foreach_{operation}')


def is_compiled(module: Any) -> bool:
    """Whether ``Module.compile`` was called, which torch does not tell."""
    return module._compiled_call_impl is not None


def allow_graphs(number: int) -> None:
    """Let torch.compile make so many graphs of a function, at least; the setting has no public module."""
    import torch

    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, number)


def fake_tensors() -> Any:
    """The mode in which tensors have shapes and no memory, and a model can run all the same: public to torch only."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode(allow_non_fake_inputs=True)


def register_pytree(kind: type, flatten: Callable[[Any], Any], unflatten: Callable[[Any, Any], Any]) -> None:
    """Let models return a class of ours under torch.export, whose public function takes dataclasses only.

    Args:
        kind: A class of mmmim.
        flatten: Gives for an object the list of its values, and a tuple of numbers about it.
        unflatten: Makes an object of the two.
    """
    from torch.utils import _pytree

    _pytree.register_pytree_node(
        kind,
        flatten,
        unflatten,
        serialized_type_name=f'{kind.__module__}.{kind.__qualname__}',
        to_dumpable_context=list,
        from_dumpable_context=tuple,
    )


# Processes.


def intercept_launcher(started: Callable[[Any], None], stopped: Callable[[int, Any], None]) -> None:
    """Make torchrun tell of each process that it starts, and leave signals to us: it would end all within 30 seconds.

    Args:
        started: Called with the ``Popen`` of each process.
        stopped: The handler of signals that ask to stop.
    """
    import torch.distributed.elastic.multiprocessing.api as api
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

    start = SubprocessHandler._popen

    def popen(self: Any, *args: Any) -> Any:
        process = start(self, *args)
        started(process)
        return process

    SubprocessHandler._popen = popen
    api._terminate_process_handler = stopped
