"""What images a config trains on, and the one key that says so: ``images``.

``images = dict(data_root=..., size=..., channels=..., mean=..., std=..., window=...)`` at the top of a config stands
for everything that has to agree about them: the folder of the training, the channels of the encoder and of targets made
of pixels, the grid of decoders, the loaders of every pipeline and the statistics of the data preprocessor. ``mmmim
stats FOLDER`` measures a folder and prints the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from mmmim.utils import InputError
from mmmim.utils.nested import dicts, walk
from mmmim.utils.options import Count, Positive, check_names, check_value

#: What the key may say.
KEYS = ('data_root', 'size', 'channels', 'mean', 'std', 'window')
#: Target generators whose targets are made of pixels: their width is a multiple of the channels.
_OF_PIXELS = ('mmmim.PixelTarget', 'mmmim.HOGTarget')
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'fit_dataloader', 'probe_data')
_LOAD, _REDUCED = 'mmmim.LoadImage', 'mmmim.LoadReducedCrop'
_CROPS = ('mmmim.RandomResizedCrop', 'mmmim.MAERandomResizedCrop', _REDUCED)
_KEEP = 'keep'
#: Transforms of OpenMMLab that are about colours of eight bits, by the last part of their name.
_COLOURS = frozenset(
    [
        'ColorJitter',
        'RandomGrayscale',
        'Lighting',
        'AutoAugment',
        'RandAugment',
        'AutoContrast',
        'Equalize',
        'Invert',
        'Posterize',
        'Solarize',
        'SolarizeAdd',
        'ColorTransform',
        'Contrast',
        'Brightness',
        'Sharpness',
        'GaussianBlur',
        'PhotoMetricDistortion',
    ]
)
#: And those that work through Pillow, where they say so.
_RESIZES = frozenset(['Resize', 'ResizeEdge', 'RandomResizedCrop', 'RandomResize'])


def training_channels(cfg: Any) -> int:
    """Channels of a config's training images: the encoder's."""
    return cfg.model.get('backbone', {}).get('in_channels', 3)


def training_image_size(cfg: Any) -> tuple[int, int]:
    """Height and width of a config's training images: the encoder's, with room for gaps between patches."""
    size, collate = cfg.model.get('backbone', {}).get('img_size', 224), cfg.train_dataloader.get('collate_fn') or {}
    patch, gap = collate.get('patch_size', 1), collate.get('gap', 0)
    height, width = [size] * 2 if isinstance(size, int) else size
    return (height // patch * (patch + gap), width // patch * (patch + gap)) if gap else (height, width)


def apply_images(cfg: Any) -> None:
    """Write what ``images`` of a config says to all places that it stands for; nothing without the key.

    Args:
        cfg: mmengine's ``Config``, changed in place. What ``images`` does not say stays as it is, but for ``window``,
            which is 'keep' unless it says otherwise: images of more than eight bits keep them. It may be applied again.

    Raises:
        InputError: The key says something that has no meaning, or that the config has no place for.
    """
    images = cfg.get('images')
    if images is None:
        return
    _check(images)
    model = cfg.get('model') or {}
    trains = isinstance(model, Mapping) and 'branches' in model
    channels, window = images.get('channels'), images.get('window', _KEEP)
    if trains:
        if images.get('size') is not None:
            _set_size(cfg, images['size'])
        if channels is not None:
            _set_channels(model, channels)
        _set_statistics(model, images, window)
    for key in _LOADERS:
        for node in dicts(cfg.get(key)):
            options = {'window': window} if channels is None else {'window': window, 'channels': channels}
            if node.get('type') == _LOAD:
                node.update(options)
            elif node.get('type') == _REDUCED:
                node['load'] = {**(node.get('load') or {}), **options}
    if images.get('data_root') is not None:
        _set_folder(cfg, images['data_root'])


def check_transforms(cfg: Any) -> None:
    """Refuse transforms of colours where images are none: of another number of channels, or of more than eight bits.

    Raises:
        InputError: Naming the transform and the remedy.
    """
    for path, pipeline in _pipelines(cfg):
        load = next(
            (each for each in pipeline if isinstance(each, Mapping) and each.get('type') in (_LOAD, _REDUCED)), None
        )
        if load is None:
            continue
        if load['type'] == _REDUCED:
            load = load.get('load') or {}
        channels = load.get('channels', 3)
        deep = load.get('window') == _KEEP and not _eight_bits(cfg.get('model') or {})
        if channels == 3 and not deep:
            continue
        what = f'{channels} channels' if channels != 3 else 'more than eight bits'
        for place, transform in _transforms(pipeline):
            kind = transform.get('type') if isinstance(transform, Mapping) else None
            name = kind.rpartition('.')[2] if isinstance(kind, str) else ''
            where = f'{path}.{place}: {kind}'
            if name in _COLOURS:
                raise InputError(
                    f'{where} is about RGB images of eight bits, and these have {what}: take it out of the pipeline; '
                    'mmmim.RandomResizedCrop and mmpretrain.RandomFlip take any images.'
                )
            if name in _RESIZES and kind not in _CROPS and transform.get('backend') == 'pillow':
                raise InputError(
                    f'{where} resizes by Pillow, which takes RGB images of eight bits, and these have {what}: set '
                    f"{path}.{place}.backend='cv2', or crop by mmmim.RandomResizedCrop."
                )


def _check(images: Any) -> None:
    check_value('images', images, dict)
    check_names('images', images, KEYS, 'The key of the images of a config')
    check_value('images.data_root', images.get('data_root'), str | None)
    for key in ('size', 'channels'):
        check_value(f'images.{key}', images.get(key), Count | None)
    check_value('images.mean', images.get('mean'), tuple[float, ...] | None)
    check_value('images.std', images.get('std'), tuple[Positive, ...] | None)
    mean, std, channels = images.get('mean'), images.get('std'), images.get('channels')
    if (mean is None) != (std is None):
        raise InputError('images has one of mean and std: give both; mmmim stats FOLDER measures them.')
    if mean is not None and (len(mean) != len(std) or (channels is not None and len(mean) not in (1, channels))):
        raise InputError(
            f'images.mean has {len(mean)} value(s) and images.std {len(std)}'
            + (f', and images.channels={channels}' if channels is not None else '')
            + ': give one for each channel; mmmim stats FOLDER measures them.'
        )


def _set_size(cfg: Any, size: int) -> None:
    model, loader = cfg['model'], cfg.get('train_dataloader') or {}
    patch, collate = model['backbone'].get('patch_size', 16), loader.get('collate_fn') or {}
    if size % patch:
        below = size // patch * patch
        raise InputError(
            f'images.size={size} is no multiple of model.backbone.patch_size={patch}: give {below or patch} or '
            f'{below + patch}.'
        )
    side = size // patch
    model['backbone']['img_size'] = size
    for node in dicts(model['branches']):
        if 'grid' in node:
            node['grid'] = (side, side)
    for node in dicts(loader.get('dataset')):
        if node.get('type') in _CROPS or node.get('type') == 'mmpretrain.ResizeEdge':
            node['scale'] = side * (patch + collate.get('gap', 0))
        elif node.get('type') == 'mmpretrain.RandomCrop':
            node['crop_size'] = side * (patch + collate.get('gap', 0))


def _set_channels(model: MutableMapping[str, Any], channels: int) -> None:
    model['backbone']['in_channels'] = channels
    for branch in model['branches'].values():
        generator = branch.get('target_generator') if isinstance(branch, Mapping) else None
        if generator is None:
            continue
        if generator.get('type') in _OF_PIXELS:
            old, neck = generator.get('in_channels', 3), branch.get('neck') or {}
            for node in dicts(neck):  # a neck may hold another one
                if 'out_dim' in node:
                    node['out_dim'] = node['out_dim'] // old * channels
            generator['in_channels'] = channels
        if (generator.get('tokenizer') or {}).get('type') == 'mmmim.KMeansTokenizer':
            generator['tokenizer']['in_channels'] = channels


def _set_statistics(model: MutableMapping[str, Any], images: Mapping[str, Any], window: Any) -> None:
    preprocessor = model.setdefault('data_preprocessor', {'type': 'mmmim.MIMDataPreprocessor'})
    if preprocessor.get('type') == 'mmmim.MIMDataPreprocessor':
        preprocessor['window'] = window
    if images.get('mean') is not None:
        preprocessor['mean'], preprocessor['std'] = list(images['mean']), list(images['std'])
    channels, known = images.get('channels'), len(preprocessor.get('mean', (0, 0, 0)))
    if channels is not None and known not in (1, channels):
        raise InputError(
            f'images.channels={channels}, and mean and std are those of {known} channels: set images.mean and '
            'images.std; mmmim stats FOLDER measures them.'
        )


def _set_folder(cfg: Any, folder: str) -> None:
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    while isinstance(dataset.get('dataset'), Mapping):
        dataset = dataset['dataset']
    if dataset.get('type') != 'mmmim.ImageFolder':
        raise InputError(
            f'images.data_root is the folder of a mmmim.ImageFolder, and train_dataloader has a {dataset.get("type")}: '
            'leave images.data_root out, and set what that data set takes.'
        )
    dataset['data_root'] = folder


def _eight_bits(model: Any) -> bool:
    """Whether the statistics of a model are those of values from 0 to 255."""
    preprocessor = model.get('data_preprocessor') or {} if isinstance(model, Mapping) else {}
    mean, std = preprocessor.get('mean'), preprocessor.get('std')
    if not (isinstance(mean, list | tuple) and isinstance(std, list | tuple) and mean and std):
        return True  # ImageNet's, or a placeholder
    return 1 < max(std) <= 128 and min(mean) >= 0 and max(mean) <= 255


def _transforms(pipeline: Any) -> Iterator[tuple[str, Any]]:
    """Transforms and their places, those inside of others included."""
    for index, transform in enumerate(pipeline):
        yield f'{index}', transform
        inner = transform.get('transforms') if isinstance(transform, Mapping) else None
        if isinstance(inner, list | tuple):
            yield from ((f'{index}.transforms.{place}', each) for place, each in _transforms(inner))


def _pipelines(cfg: Any) -> Iterator[tuple[str, list]]:
    parts = {key: cfg.get(key) for key in _LOADERS}
    return (
        (path, node) for path, node in walk(parts) if path.rpartition('.')[2] == 'pipeline' and isinstance(node, list)
    )
