"""Fitted protocols on the encoder of a training, while it trains."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from torch.distributed.tensor import DTensor

from mmmim.apis.downstream import EncoderInMemory
from mmmim.checkpoints.pretrained import TEACHER, select_weights
from mmmim.models.stored import pooling_necks
from mmmim.registry import LOOPS
from mmmim.utils import InputError
from mmmim.utils.plain import to_plain

from .ddp import bare_model, main_process_decides
from .protocols import ProtocolResult, protocol_config, protocol_name, run_protocol

#: What ``--weights`` calls them, and both sets.
Weights = Literal['auto', 'ema', 'student', 'both']


class TrainingProtocols:
    """Runs fitted protocols on the encoder of a training, as ``mmmim test`` would on its checkpoint.

    Nothing stays on the disk: features lie in a folder of the run's log while its protocols last, which share them.
    The random weights beside evaluations without labels are left out, since they are the same every time.

    Args:
        names: Names or files, see :func:`mmmim.engine.protocols.protocol_config`.
        weights: 'ema', 'student', 'both', or 'auto': the EMA teacher's where there are any.

    Raises:
        InputError: There is no such protocol, it trains a head, or two have one name.
    """

    def __init__(self, names: Sequence[str], weights: Weights) -> None:
        self.configs = {protocol_name(name): protocol_config(name) for name in names}
        self.weights = weights
        if len(self.configs) < len(names):
            raise InputError(
                f'Two of the protocols {", ".join(names)} have one name: give each a file name of its own.'
            )
        for cfg in self.configs.values():
            _quieten(cfg)

    def tested(self, runner: Any) -> list[str]:
        """Whose weights are tested: 'student', 'teacher', or both."""
        has_teacher = 'backbone' in getattr(getattr(bare_model(runner), 'teacher', None), 'parts', ())
        if self.weights in ('auto', 'both'):
            return ['student'] * (self.weights == 'both' or not has_teacher) + ['teacher'] * has_teacher
        return ['teacher' if self.weights == 'ema' else 'student']

    def run(self, runner: Any, tested: Sequence[str]) -> Iterator[tuple[str, str, ProtocolResult]]:
        """Run every protocol; all processes of a training call it together.

        Args:
            runner: The runner of the training.
            tested: 'student', 'teacher' or both, one after the other: what :meth:`tested` gives, or a part of it.

        Yields:
            Name of the protocol, 'student' or 'teacher', and what the protocol says.

        Raises:
            InputError: As of :func:`mmmim.engine.protocols.run_protocol`.
        """
        for name in tested:
            encoder = _encoder(runner, 'ema' if name == 'teacher' else 'student')
            with _folder(runner) as folder:  # of one encoder: the next one's features are other ones
                for protocol, cfg in self.configs.items():
                    cfg.work_dir = os.path.join(folder, protocol)
                    cfg.launcher, cfg.env_cfg = runner.launcher, runner.cfg.get('env_cfg', {})
                    if 'cache' in cfg.test_cfg:
                        cfg.test_cfg.cache.folder = os.path.join(folder, 'features')
                    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):  # lines of progress
                        result = run_protocol(cfg, encoder)
                    yield protocol, name, result


def _quieten(cfg: Any) -> None:
    """Leave out of a protocol what changes none of its scores: pictures, and what is the same every time."""
    from .fit_test_loop import FitTestLoop
    from .label_free_loop import LabelFreeTestLoop

    cfg.log_level = 'WARNING'
    cfg.custom_hooks = []
    cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'pictures': None}
    kind = LOOPS.get(cfg.test_cfg.type) if isinstance(cfg.test_cfg.type, str) else cfg.test_cfg.type
    if issubclass(kind, LabelFreeTestLoop):
        cfg.test_cfg.random = False
    elif issubclass(kind, FitTestLoop):
        cfg.test_cfg.setdefault('cache', {})


def _encoder(runner: Any, weights: str) -> EncoderInMemory:
    """The encoder of a training, and what sums its images up; whole where it is divided among the processes."""
    config = to_plain(runner.model_cfg())
    parts = ('backbone.', *(prefix for prefix, _ in pooling_necks(config)))
    state = {
        name: value.full_tensor() if isinstance(value, DTensor) else value
        for name, value in bare_model(runner).state_dict().items()
        if name.startswith((*parts, *(TEACHER + part for part in parts)))
        and name.startswith(TEACHER) == (weights == 'ema')
    }
    return EncoderInMemory(config, select_weights(state, weights))


@contextlib.contextmanager
def _folder(runner: Any) -> Iterator[str]:
    """A folder for all processes, made and removed by the first one."""
    with contextlib.ExitStack() as stack:

        def make() -> str:
            try:
                return stack.enter_context(tempfile.TemporaryDirectory(prefix='protocols_', dir=runner.log_dir))
            except OSError as error:
                raise InputError(f'{runner.log_dir} cannot be written: {(error.strerror or "").lower()}.') from error

        yield main_process_decides(make)
