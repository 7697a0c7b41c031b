"""Seeded mutations: of bytes, of archives with checksums that fit, and of what a checkpoint holds."""

import copy
import io
import math
import random
import struct
import tarfile
import zipfile
from contextlib import suppress

import torch

#: What a hostile file might name: where it would be called, imported, opened or deleted, something is seen.
HOSTILE = [
    {'type': 'os.system', 'command': 'touch marker'},
    {'type': 'os.remove', 'path': 'secret.pth'},
    {'type': 'os.mkdir', 'path': 'marker'},
    {'type': 'subprocess.run', 'args': ['touch', 'marker']},
    {'type': 'subprocess.Popen', 'args': 'touch marker', 'shell': True},
    {'type': 'builtins.open', 'file': 'marker', 'mode': 'w'},
    {'type': 'builtins.exec', 'source': 'open("marker", "w")'},
    {'type': 'builtins.eval', 'source': 'open("marker", "w")'},
    {'type': 'shutil.rmtree', 'path': 'home'},
    {'type': 'runpy.run_path', 'path_name': 'evil_module.py'},
    {'type': 'runpy.run_module', 'mod_name': 'evil_module'},
    {'type': 'importlib.import_module', 'name': 'evil_module'},
    {'type': 'evil_module.Evil'},
    {'type': 'evil_module'},
    {'type': 'antigravity.webbrowser'},
    {'type': 'turtledemo.clock.main'},
    {'type': 'pickle.loads', 'data': b"cos\nsystem\n(S'touch marker'\ntR."},
    {'type': 'torch.load', 'f': 'secret.pth', 'weights_only': False},
    {'type': 'torch.hub.load', 'repo_or_dir': '.', 'model': 'evil', 'source': 'local'},
    {'type': 'numpy.load', 'file': 'secret.npy', 'allow_pickle': True},
    {'type': 'socket.create_connection', 'address': ('127.0.0.1', 9)},
    {'type': 'ctypes.CDLL', 'name': 'libc.so.6'},
    {'type': 'mmengine.Config.fromfile', 'filename': 'evil_module.py'},
    {'type': 'mmengine.fileio.load', 'file': 'secret.pkl'},
    {'type': 'mmengine.runner.load_checkpoint', 'filename': 'secret.pth'},
    {'type': 'mmengine.LinearLR', 'start_factor': 0.1},
    {'type': 'mmengine.CheckpointHook'},
    {'type': 'mmpretrain.get_model', 'model': 'secret.pth'},
    {'type': 'mmpretrain.HuggingFaceClassifier', 'model_name': 'secret'},
    {'type': 'mmpretrain.TIMMBackbone', 'model_name': 'vit_tiny_patch16_224', 'checkpoint_path': 'secret.pth'},
    {'type': 'mmmim.get_model', 'source': 'secret.pth'},
    {'type': 'mmmim.checkpoints.save_checkpoint_file', 'obj': 1, 'path': 'marker'},
    {'type': 'mmmim.PretrainedBackbone', 'checkpoint': 'secret.pth'},
    {'type': 'mmmim.TimmEncoder', 'name': 'vit_tiny_patch16_224', 'weights': 'secret.pth'},
    {'type': 'mmmim.KMeansTokenizer', 'codebook': 'secret.pth', 'num_tokens': 4, 'patch_size': 4},
    {'type': 'mmmim.RandomResizedCrop', 'scale': 16},
    {'type': 'mmmim.Runner', 'work_dir': 'marker'},
    {'type': 'Pretrained', 'checkpoint': 'secret.pth'},
    {'type': 'mmengine.PretrainedInit', 'checkpoint': 'secret.pth'},
    {'type': 'ReLU'},
    {'type': 'mmengine.ReLU', 'inplace': 'os.system'},
]
#: Keys with a meaning of their own somewhere in the stack.
KEYS = ('type', 'init_cfg', '_scope_', '_base_', '_delete_', 'custom_imports', 'act_cfg', 'norm_cfg', 'checkpoint')
KEYS += ('pretrained', 'weights', 'teacher', 'branches', 'best_ckpt', 'work_dir', 'load_from', 'params', 'step')
_WORDS = ('', 'x' * 5000, '../secret.pth', 'secret.pth', '/dev/zero', 'mmmim.ViT', 'a\nb', '\udcff', '${HOME}', 'nan')
_NUMBERS = (0, -1, 1, 2**31, 2**63, 2**200, 10**6, 0.5, -0.0, math.nan, math.inf, 1e308, True, None, 1 + 2j)


def flip(data: bytes, rng: random.Random) -> bytes:
    """A few changes of bytes: flips, cuts, insertions, repetitions, zeros, lengths that are too large."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, length = rng.randrange(len(out) + 1), rng.choice((1, 2, 4, 8, 64, 512))
        kind = rng.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at : at + length if rng.random() < 0.5 else len(out)]
        elif kind == 2:
            out[at:at] = rng.randbytes(length)
        elif kind == 3:
            out[at:at] = out[at : at + length] * rng.choice((1, 3))
        elif kind == 4:
            out[at : at + length] = bytes(len(out[at : at + length]))
        elif kind == 5:
            out[at : at + 4] = struct.pack('<I', rng.choice((0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0)))
        elif kind == 6 and at < len(out):
            out[at] = rng.randrange(256)
    return bytes(out)


def rezip(data: bytes, rng: random.Random) -> bytes:
    """Changes inside the members of a zip file, whose checksums fit; members twice, missing, exchanged or renamed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at, other = rng.randrange(len(members)), rng.randrange(len(members))
    name, content = members[at]
    kind = rng.randrange(8)
    if kind < 4 or not content:
        members[at] = (name, flip(content, rng))
    elif kind == 4:
        members.append((name, flip(content, rng)))
    elif kind == 5:
        del members[at]
    elif kind == 6:
        members[at], members[other] = (name, members[other][1]), (members[other][0], content)
    else:
        members[at] = (rng.choice(('../marker', '/tmp/marker', 'a\\b', name.upper(), f'{name}/x')), content)
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as file:
        for name, content in members:
            file.writestr(name, content)
    return out.getvalue()


def retar(data: bytes, rng: random.Random) -> bytes:
    """Members of a tar file that are links, devices or folders, of hostile names or sizes that are not theirs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as source, tarfile.open(fileobj=out, mode='w') as target:
        infos = source.getmembers()
        chosen = rng.randrange(len(infos))
        for i, info in enumerate(infos):
            content = source.extractfile(info).read()
            if i == chosen:
                kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)
                info.type = rng.choice((*kinds, *[tarfile.REGTYPE] * 5))
                info.linkname = rng.choice(('secret.pth', '/etc/passwd', '../../secret.pth'))
                info.name = rng.choice((info.name, '../marker.png', '/tmp/marker.png', f'{"d/" * 90}a.png', 'a\nb.png'))
                content = flip(content, rng) if rng.random() < 0.5 else content
                info.size = len(content) if info.type == tarfile.REGTYPE else rng.choice((0, len(content)))
            target.addfile(info, io.BytesIO(content))
    return flip(out.getvalue(), rng) if rng.random() < 0.3 else out.getvalue()


def restructure(value: object, rng: random.Random) -> object:
    """A copy of nested data with one to three places that hold something else."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return value
        node, key = rng.choice(places)
        kind = rng.randrange(10)
        if kind < 4:
            node[key] = _something(rng)
        elif kind == 4 and isinstance(node, dict):
            node[rng.choice(KEYS)] = _something(rng)
        elif kind == 5:
            del node[key]
        elif kind == 6:
            other, at = rng.choice(places)
            with suppress(KeyError, IndexError, TypeError):
                node[key], other[at] = other[at], node[key]
        elif kind == 7 and isinstance(node, dict):
            node[rng.choice((0, None, True, 3.5, ('a',), b'x', 'a.b', ''))] = node[key]
        elif kind == 8 and isinstance(node.get(key) if isinstance(node, dict) else node[key], torch.Tensor):
            node[key] = _tensor(node[key], rng)
        else:
            node[key] = [node[key]] if rng.random() < 0.5 else {'type': node[key]}
    return value


def _places(value: object, depth: int = 0) -> object:
    """Every container that can be changed, with a key of it."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(children):
        yield value, key
        if depth < 12:
            yield from _places(child, depth + 1)


def _something(rng: random.Random) -> object:
    kind = rng.randrange(8)
    if kind < 3:
        return copy.deepcopy(rng.choice(HOSTILE))
    if kind == 3:
        return rng.choice(_NUMBERS)
    if kind == 4:
        return rng.choice(_WORDS)
    if kind == 5:
        return rng.choice(([], {}, (), b'x' * 9, [[]] * 3, {'type': None}, {'type': ['a']}, [1, 'a', None]))
    if kind == 6:
        nested: object = 1
        for _ in range(rng.choice((3, 60, 300))):
            nested = {'type': 'mmmim.ViT', 'a': nested} if rng.random() < 0.5 else [nested]
        return nested
    return torch.zeros(rng.choice(((), (1,), (2, 2), (0, 5))))


def _tensor(tensor: torch.Tensor, rng: random.Random) -> object:
    """Another shape, another type, values that are no numbers, or storage that is not there."""
    return rng.choice(
        (
            lambda: tensor.flatten()[:1].clone(),
            lambda: tensor.unsqueeze(0),
            lambda: tensor.to(torch.complex64),
            lambda: tensor.to(torch.int64),
            lambda: tensor.to(torch.float64),
            lambda: torch.full_like(tensor, math.nan, dtype=torch.float32),
            lambda: tensor.flatten()[:0],
            lambda: torch.zeros(1).expand(10**6, 1000),
            lambda: tensor.to('meta'),
            lambda: tensor.to_sparse() if tensor.ndim else tensor,
            lambda: tensor.tolist(),
        )
    )()
