"""Files of models' authors under the names that timm has for the same weights."""

import torch
from torch import Tensor

#: In files of CLIP's authors (arXiv 2103.00020), what the names of the pictures' encoder begin with.
_CLIP = 'visual.'
#: Parts of their names and those of timm, in the order in which they are replaced.
_CLIP_NAMES = {
    'conv1.': 'patch_embed.proj.',
    'transformer.resblocks.': 'blocks.',
    'ln_pre.': 'norm_pre.',
    'ln_post.': 'norm.',
    'ln_': 'norm',
    'attn.in_proj_': 'attn.qkv.',
    'attn.out_proj.': 'attn.proj.',
    'mlp.c_fc.': 'mlp.fc1.',
    'mlp.c_proj.': 'mlp.fc2.',
}


def of_authors(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a file under timm's names; those that have them already as they are.

    Args:
        state: Weights of the file.
        own: Weights of the model that is to have them.
    """
    return _of_clip(state, own) if f'{_CLIP}class_embedding' in state else _of_dinov2(state, own)


def _of_clip(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the layout of CLIP's authors; of the encoder of texts nothing is taken.

    Their projection is timm's last linear layer without its bias; it is left out where the model has none.
    """
    found = {}
    for key, value in state.items():
        if key.startswith(_CLIP):
            name = key.removeprefix(_CLIP)
            for theirs, ours in _CLIP_NAMES.items():
                name = name.replace(theirs, ours)
            found[name] = value
    found['cls_token'] = found.pop('class_embedding')[None, None]
    if 'positional_embedding' in found:
        found['pos_embed'] = found.pop('positional_embedding')[None]
    if 'proj' in found:
        found['head.weight'] = found.pop('proj').t()
        found['head.bias'] = torch.zeros(len(found['head.weight']))
    return found


def _of_dinov2(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the layout of DINOv2's authors (arXiv 2304.07193) under timm's names; others as they are.

    Their mask token is of the pre-training: it is left out. Registers have no position in either; in timm's models with
    registers the CLS token has none of its own, so that of the file is added to it.
    """
    if 'mask_token' not in state or 'mask_token' in own:
        return state
    state = {key: value for key, value in state.items() if key != 'mask_token'}
    if 'register_tokens' in state and {'cls_token', 'pos_embed'} <= set(state):
        state['reg_token'] = state.pop('register_tokens')
        state['cls_token'] = state['cls_token'] + state['pos_embed'][:, :1]
        state['pos_embed'] = state['pos_embed'][:, 1:]
    fused = {'.mlp.w12.': '.mlp.fc1.', '.mlp.w3.': '.mlp.fc2.'}
    for theirs, ours in fused.items():
        state = {key.replace(theirs, ours): value for key, value in state.items()}
    return state
