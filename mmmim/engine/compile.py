"""The config's ``compile`` key."""

from typing import Any

from mmengine.logging import print_log
from torch import nn

from mmmim.models.layers import blocks_of, compile_blocks
from mmmim.utils import InputError
from mmmim.utils.internals import allow_graphs, is_compiled


def compile_model(model: nn.Module, options: Any) -> None:
    """Compile the blocks of a model, once, as the config says.

    mmengine compiles the whole of ``train_step``: with paths of images, masks, collectives and optimiser, which
    compiles anew in every iteration until torch gives up.

    Args:
        model: A model, with or without a data-parallel wrapper; its blocks are changed in place.
        options: ``cfg.compile``: None or False, True, or a dict of options of ``torch.compile``.

    Raises:
        InputError: The options are none, or the model has no blocks to compile.
    """
    if options is None or options is False:
        return
    if options is not True and not isinstance(options, dict):
        raise InputError(f'compile must be True, False or a dict of options of torch.compile, got {options!r}.')
    blocks = blocks_of(model)
    if not blocks:
        raise InputError(
            f'compile compiles the blocks of a model, and {type(getattr(model, "module", model)).__name__} has no '
            'mmmim.models.layers.TransformerBlock: remove compile from the config.'
        )
    if any(map(is_compiled, blocks)):
        return
    # One graph for every kind of block: encoder and predictor, student and teacher, training and evaluation, fixed and
    # varying sizes. torch's limit of 8 is for one function that compiles again and again.
    allow_graphs(64)
    compile_blocks(model, **({} if options is True else options))
    print_log(f'{len(blocks)} blocks will be compiled in the first iterations.', logger='current')
