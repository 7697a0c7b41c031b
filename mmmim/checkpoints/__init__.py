"""Files of weights: reading, checking and writing them."""

from .files import save_checkpoint_file
from .reader import load_checkpoint_file, trusting
from .state_dict import check_state_dict, check_values, load_state_dict, weights_of

__all__ = [
    'check_state_dict',
    'check_values',
    'load_checkpoint_file',
    'load_state_dict',
    'save_checkpoint_file',
    'trusting',
    'weights_of',
]
