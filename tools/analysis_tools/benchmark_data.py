#!/usr/bin/env python
"""Measure how many images per second data pipelines deliver on this machine.

All pipelines read the same JPEG files, crop and resize them at random with an antialiased bicubic filter, flip half of
them and hand over batches. They take turns, so that other load on the machine meets all of them.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mmmim.cli.arguments import COUNT, NATURAL, POSITIVE
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors

#: Named in the report.
PACKAGES = ('torch', 'torchvision', 'onedl-mmcv', 'onedl-mmpretrain', 'opencv-python', 'pillow', 'simplejpeg')
REFERENCE, EXACT, FASTEST = 'torchvision v2', 'mmmim, pillow', 'mmmim'


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', metavar='DIR', help='folder of JPEG files (default: crops of two photographs)')
    parser.add_argument('--number', type=COUNT, default=400, help='images per turn (default: %(default)s)')
    parser.add_argument('--repeats', type=COUNT, default=9, help='turns of every pipeline (default: %(default)s)')
    parser.add_argument('--workers', type=NATURAL, default=2, help='data loader workers (default: %(default)s)')
    parser.add_argument('--batch-size', type=COUNT, default=40, help='(default: %(default)s)')
    parser.add_argument('--size', type=COUNT, default=224, help='side of the crops in pixels (default: %(default)s)')
    parser.add_argument(
        '--crop-ratio', type=POSITIVE, nargs=2, default=(0.6, 1.0), metavar=('MIN', 'MAX'), help='(default: 0.6 1.0)'
    )
    return parser.parse_args()


def write_photographs(folder: str, number: int = 200) -> None:
    """Write crops of scikit-learn's photographs, of about 500 x 380 pixels, as JPEG files."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    for i in range(number):
        photograph = photographs[i % len(photographs)]
        sides = int(rng.integers(440, 561)), int(rng.integers(340, 421))
        left, top = (int(rng.integers(0, full - side + 1)) for full, side in zip(photograph.size, sides, strict=True))
        photograph.crop((left, top, left + sides[0], top + sides[1])).save(f'{folder}/{i:04d}.jpg', quality=85)


def data_sets(folder: str, args: argparse.Namespace) -> dict[str, Any]:
    """A data set per pipeline; its samples are ``[3, size, size]`` uint8."""
    from torch.utils.data import Dataset
    from torchvision.io import ImageReadMode
    from torchvision.io import decode_image as read_by_torchvision
    from torchvision.transforms import v2

    from mmmim.registry import DATASETS

    class Inputs(Dataset):
        """The images of an OpenMMLab data set, repeated up to ``args.number``."""

        def __init__(self, kind: str, pipeline: list[dict], seeded: bool = True) -> None:
            config = {'type': kind, 'data_root': folder, 'with_label': False, 'pipeline': pipeline}
            self.dataset = DATASETS.build({'type': 'mmmim.SeededDataset', 'dataset': config} if seeded else config)
            self.dataset.full_init()

        def __len__(self) -> int:
            return args.number

        def __getitem__(self, index: int) -> Any:
            return self.dataset[index % len(self.dataset)]['inputs']

    class Torchvision(Dataset):
        """The same files by torchvision."""

        def __init__(self, paths: list[str]) -> None:
            self.paths = paths
            bicubic = v2.InterpolationMode.BICUBIC
            crop = v2.RandomResizedCrop(args.size, scale=args.crop_ratio, interpolation=bicubic, antialias=True)
            self.transform = v2.Compose([crop, v2.RandomHorizontalFlip()])

        def __len__(self) -> int:
            return args.number

        def __getitem__(self, index: int) -> Any:
            path = self.paths[index % len(self.paths)]
            return self.transform(read_by_torchvision(path, mode=ImageReadMode.RGB))

    crop = {'scale': args.size, 'crop_ratio_range': tuple(args.crop_ratio), 'interpolation': 'bicubic'}
    slow = {'type': 'mmpretrain.RandomResizedCrop', 'backend': 'pillow', **crop}
    end = [{'type': 'mmpretrain.RandomFlip', 'prob': 0.5}, {'type': 'mmpretrain.PackInputs'}]
    fast = {'type': 'mmmim.RandomResizedCrop', **crop}
    own = Inputs('mmmim.ImageFolder', [{'type': 'mmmim.LoadImage'}, fast, *end])
    return {
        'mmpretrain, pillow': Inputs(
            'mmpretrain.CustomDataset', [{'type': 'mmcv.LoadImageFromFile'}, slow, *end], seeded=False
        ),
        REFERENCE: Torchvision([own.dataset.get_data_info(i)['img_path'] for i in range(len(own.dataset))]),
        EXACT: Inputs('mmmim.ImageFolder', [{'type': 'mmmim.LoadImage', 'decoder': 'pillow'}, slow, *end]),
        'mmmim, pillow decoder': Inputs(
            'mmmim.ImageFolder', [{'type': 'mmmim.LoadImage', 'decoder': 'pillow'}, fast, *end]
        ),
        FASTEST: own,
    }


def measure(data: dict[str, Any], args: argparse.Namespace) -> dict[str, list[float]]:
    """Images per second of every pipeline and turn."""
    from torch.utils.data import DataLoader

    from mmmim.utils.workers import outlived_by_parent

    options = {'num_workers': args.workers, 'persistent_workers': args.workers > 0}
    loaders = {name: outlived_by_parent(DataLoader(data[name], args.batch_size, **options)) for name in data}
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for repeat in range(args.repeats + 1):
        for name, loader in loaders.items():
            start = time.perf_counter()
            images = sum(len(batch) for batch in loader)
            if repeat:  # the first turn starts the workers
                rates[name].append(images / (time.perf_counter() - start))
    return rates


def difference(data: dict[str, Any]) -> str:
    """Compare the fast pipeline with Pillow, in grey levels: the same files, crops and flips."""
    number = len(data[FASTEST].dataset)
    errors = [(data[FASTEST][i].int() - data[EXACT][i].int()).abs() for i in range(number)]
    mean = sum(float(error.float().mean()) for error in errors) / number
    worst = max(int(error.max()) for error in errors)
    return f'{FASTEST} - ({EXACT}): at most {worst} grey level(s), {mean:.4f} on average, over {number} images'


def report(rates: dict[str, list[float]], args: argparse.Namespace, files: str) -> None:
    """Print machine, versions, settings and a table."""
    from mmmim.utils.machine import cpu_name, usable_cpus

    versions = []
    for package in PACKAGES:
        try:
            versions.append(f'{package} {version(package)}')
        except PackageNotFoundError:
            versions.append(f'no {package}')
    print(f'{cpu_name()}, {usable_cpus()} cores; Python {platform.python_version()}')
    print(', '.join(versions))
    print(f'{files}; crops of {args.crop_ratio[0]:g} to {args.crop_ratio[1]:g} of the area at {args.size} px')
    print(f'{args.workers} workers, batches of {args.batch_size}, {args.repeats} turns of {args.number} images\n')
    print(f'| {"pipeline":22} | median img/s | best img/s | {"x " + REFERENCE:>16} |')
    print(f'|{"-" * 24}|{"-" * 13}:|{"-" * 11}:|{"-" * 17}:|')
    for name, values in rates.items():
        # Of neighbouring turns: the load of the machine changes more slowly than they alternate.
        ratio = statistics.median(a / b for a, b in zip(values, rates[REFERENCE], strict=True))
        print(f'| {name:22} | {statistics.median(values):12.0f} | {max(values):10.0f} | {ratio:16.2f} |')


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()
    os.environ.setdefault('OMP_NUM_THREADS', '1')  # workers are the parallelism, as in training

    from mmmim.utils import InputError

    for name in ('number', 'repeats', 'batch_size', 'size'):
        if getattr(args, name) < 1:
            raise InputError(f'--{name.replace("_", "-")} {getattr(args, name)}: give 1 or more.')

    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as temporary:
        if args.images is None:
            write_photographs(temporary)
        folder = args.images or temporary
        data = data_sets(folder, args)
        paths = data[REFERENCE].paths
        size = sum(os.path.getsize(path) for path in paths) / len(paths) / 1e3
        rates, error = measure(data, args), difference(data)
    report(rates, args, f'{len(paths)} files of {size:.0f} kB on average')
    print(f'\n{error}')
    if 'simplejpeg' not in sys.modules:
        print('\nDecoded by OpenCV; simplejpeg is not installed: pip install "mmmim[fast]"')


if __name__ == '__main__':
    main()
