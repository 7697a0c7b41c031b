#!/usr/bin/env python
"""Measure dense probes on noise in memory-mapped files of float16: k-NN by both distances, logistic regression.

Also the name under which features are cached, of files that are made for it.

With --weighted, measure k-NN of whole images instead, search alone and with DINO's votes, in turns with scikit-learn's
search and, where faiss-cpu is installed, with search and votes by faiss's flat index. With --sweep, CAPI's sweep of
probes: all heads in one computation, beside one head after the other.
Logistic regression is fitted with eight penalties at once; an iteration takes one pass over the data or a few.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmmim.cli.arguments import COUNT
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors

#: Neighbours, as the largest number of CAPI's grid (arXiv 2502.08769, A).
NEIGHBOURS = 30
#: Numbers of neighbours of DINO (arXiv 2104.14294, 4.1).
WEIGHTED = (10, 20, 100, 200)


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('--train', type=COUNT, default=100_000, help='patches to learn from (default: %(default)s)')
    parser.add_argument('--queries', type=COUNT, default=20_000, help='patches to label by k-NN (default: %(default)s)')
    parser.add_argument('--dim', type=COUNT, default=1024, help='width of the features (default: %(default)s)')
    parser.add_argument('--classes', type=COUNT, default=150, help='(default: %(default)s)')
    parser.add_argument('--pixels', type=COUNT, default=256, help='of a patch (default: %(default)s)')
    parser.add_argument('--iterations', type=COUNT, default=5, help='of logistic regression (default: %(default)s)')
    parser.add_argument('--files', type=COUNT, default=20_000, help='of a cache key (default: %(default)s)')
    parser.add_argument('--repeats', type=COUNT, default=3, help='turns of k-NN (default: %(default)s)')
    parser.add_argument('--weighted', action='store_true', help='weighted k-NN among --train images')
    parser.add_argument(
        '--neighbours', type=COUNT, nargs='+', default=WEIGHTED, help='of --weighted (default: 10 20 100 200)'
    )
    parser.add_argument('--sweep', action='store_true', help='10 rates x 3 decays on 4 sources: 120 heads')
    parser.add_argument('--batch', type=COUNT, default=128, help='images of a step of --sweep (default: %(default)s)')
    parser.add_argument('--tokens', type=COUNT, default=196, help='of an image of --sweep (default: %(default)s)')
    parser.add_argument('--threads', type=COUNT, help="threads on a CPU (default: torch's)")
    parser.add_argument('--device', help='default: cuda if there is a GPU')
    return parser.parse_args()


def noise(folder: str, name: str, rows: int, columns: int) -> Any:
    """A memory-mapped file of normal noise in float16."""
    import numpy as np

    path = os.path.join(folder, f'{name}.npy')
    array = np.lib.format.open_memmap(path, mode='w+', dtype=np.float16, shape=(rows, columns))
    rng = np.random.default_rng(0)
    for start in range(0, rows, 8192):
        part = array[start : start + 8192]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
    array.flush()
    return np.load(path, mmap_mode='r')


def timed(function: Callable[[], Any], device: Any, repeats: int) -> float:
    """Median seconds."""
    import torch

    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def cache_keys(folder: str, number: int) -> dict[str, tuple[float, float, int]]:
    """Seconds, FLOPs (none) and files of the name of a cache entry: by every file, and by what tells of changes."""
    from mmmim.features.file_states import files_digest

    images = Path(folder, 'images')
    paths = [str(images / f'{place // 1000}' / f'{place}.jpg') for place in range(number)]
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    parts = {}
    for name, exact in (('every file', True), ('folders and a sample', False)):
        begin = time.perf_counter()
        files_digest(paths, Path(folder, 'states'), exact)
        parts[f'cache key, {name}'] = time.perf_counter() - begin, 0.0, number
    return parts


def measure(args: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Seconds and FLOPs of every part, products of matrices alone, and memory in bytes."""
    import torch

    from mmmim.cli.inputs import pick_device
    from mmmim.cost.step import matmul_peak, peak_memory
    from mmmim.evaluation.probes.knn import nearest_neighbours, vote
    from mmmim.evaluation.probes.lbfgs import minimize
    from mmmim.evaluation.probes.logistic_regression import Objective
    from mmmim.evaluation.probes.rows import Rows, Standardizer

    device = torch.device(pick_device(args.device))
    libraries = peak_memory(torch.device('cpu'))
    files = noise(folder, 'train', args.train, args.dim), noise(folder, 'queries', args.queries, args.dim)
    labels = torch.randint(args.classes, (args.train, args.pixels), dtype=torch.uint8).numpy()
    scale = Standardizer(Rows(files[0], device=device))
    train, queries = (Rows(file, scale=scale, device=device) for file in files)
    parts: dict[str, tuple[float, float, int]] = {}  # seconds, FLOPs, patches
    parts['standardisation'] = timed(lambda: Standardizer(Rows(files[0], device=device)), device, 1), 0, args.train

    near: dict[str, Any] = {}
    products = 2 * args.train * args.queries * args.dim
    for dtype, distances in (
        (torch.float32, ('cosine',)),
        (torch.float32, ('cosine', 'l2')),
        (torch.bfloat16, ('cosine', 'l2')),
    ):

        def search(dtype: Any = dtype, distances: Any = distances) -> None:
            near.update(nearest_neighbours(train, queries, NEIGHBOURS, distances, dtype))

        name = f'k-NN, {" + ".join(distances)}, {str(dtype).removeprefix("torch.")}'
        parts[name] = timed(search, device, args.repeats), products, args.queries
    for k in (10, NEIGHBOURS):
        found = near['cosine'][:, :k]
        seconds = timed(lambda found=found: vote(found, labels, args.classes), device, 1)
        parts[f'votes of {k} for {args.pixels} pixels'] = seconds, 0, args.queries

    penalties = torch.logspace(-6, 5, 8).tolist()
    classes = torch.randint(args.classes, (args.train,))
    objective = Objective(train.held(), classes, args.classes, penalties, distributed=False)
    passes: list[float] = []

    def one_pass(points: Any, which: Any) -> Any:
        start = time.perf_counter()
        result = objective(points, which)
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        passes.append(time.perf_counter() - start)
        return result

    start = torch.zeros(len(penalties), args.classes * (args.dim + 1), device=device)
    begin = time.perf_counter()
    minimum = minimize(one_pass, start, args.iterations, 0.0)
    whole = time.perf_counter() - begin
    flops = 4 * args.train * args.dim * args.classes * len(penalties)
    parts['logistic regression, pass'] = statistics.median(passes), flops, args.train
    iterations = int(minimum.iterations.max())
    parts['logistic regression, iteration'] = whole / iterations, flops * len(passes) / iterations, args.train
    not_held = Objective(train, classes, args.classes, penalties, distributed=False)
    seconds = timed(lambda: not_held(start, torch.arange(len(penalties), device=device)), device, 1)
    parts['logistic regression, pass, rows not held'] = seconds, flops, args.train
    parts |= cache_keys(folder, args.files)
    peaks = {dtype: matmul_peak(device, getattr(torch, dtype)) for dtype in ('float32', 'bfloat16')}
    return {'parts': parts, 'peaks': peaks, 'memory': peak_memory(device), 'libraries': libraries, 'device': device}


def measure_weighted(args: argparse.Namespace) -> str:
    """Seconds of k-NN, search alone and with DINO's votes, of this toolbox and of other libraries in turns.

    The others get features in memory that are normalised already, and an index that is built, on the CPU with as many
    threads. Noise has no neighbours that are near, which exact searches do not see.
    """
    import torch
    from torch.nn.functional import normalize

    from mmmim.cli.inputs import pick_device
    from mmmim.evaluation.probes.knn import nearest_neighbours
    from mmmim.evaluation.probes.weighted_knn import weighted_votes
    from mmmim.utils.tables import markdown_table

    device, rng = torch.device(pick_device(args.device)), torch.Generator().manual_seed(0)
    x, queries = (torch.randn(rows, args.dim, generator=rng) for rows in (args.train, args.queries))
    labels = torch.randint(args.classes, (args.train,), generator=rng)
    own = x.to(device), labels.to(device), queries.to(device)
    unit, asked = (normalize(each).numpy() for each in (x, queries))
    ways: dict[str, Callable[[int], Any]] = {
        'mmmim': lambda k: nearest_neighbours(own[0], own[2], k)['cosine'].cpu().numpy(),
        'mmmim, votes': lambda k: weighted_votes(*own, args.classes, (k,))[k].neighbours.cpu().numpy(),
    }
    for name, search in (('scikit-learn', _scikit_search), ('faiss', _faiss_search)):
        try:
            ways[name] = search(unit, asked, torch.get_num_threads())
        except ImportError:
            continue
    if 'faiss' in ways:
        ways['faiss, votes'] = _faiss_votes(ways['faiss'], labels, args.classes)
    rows, shared = [], {name: 1.0 for name in ways if not name.startswith('mmmim')}
    for k in args.neighbours:
        found: dict[str, Any] = {}
        turns: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.repeats):
            for name, way in ways.items():
                start = time.perf_counter()
                found[name] = way(k)
                turns[name].append(time.perf_counter() - start)
        for name in shared:
            other = found[name][1] if isinstance(found[name], tuple) else found[name]
            shared[name] = min(shared[name], _shared(other, found['mmmim']))
        for name, seconds in turns.items():
            pair = turns['mmmim, votes' if name.endswith('votes') else 'mmmim']
            ratio = statistics.median(one / other for one, other in zip(pair, seconds, strict=True))
            median = statistics.median(seconds)
            rows.append([str(k), name, f'{median:.4f}', f'{args.queries / median:.0f}', f'{ratio:.2f}'])
    return '\n'.join(
        [
            f'{args.train} images, {args.queries} queries, width {args.dim}, {args.classes} classes, on {device.type}, '
            f'{torch.get_num_threads()} threads; medians of {args.repeats} turns',
            '',
            markdown_table(['neighbours', 'search by', 'seconds', 'queries/s', 'mmmim over it'], rows),
            '',
            *(f'neighbours that are those of mmmim, {name}: {share:.2%}' for name, share in shared.items()),
            *([] if 'faiss' in ways else ['faiss: not installed (pip install faiss-cpu)']),
        ]
    )


def _shared(one: Any, other: Any) -> float:
    """Share of the neighbours ``[m, k]`` of one search that another one has found."""
    import numpy as np

    return float(np.mean([np.isin(*pair).mean() for pair in zip(one, other, strict=True)]))


def _scikit_search(unit: Any, asked: Any, threads: int) -> Callable[[int], Any]:
    """Neighbours by scikit-learn; among vectors of length 1 the order of distances is that of cosines."""
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    model = NearestNeighbors(algorithm='brute').fit(unit)

    def run(k: int) -> Any:
        with threadpool_limits(threads):
            return model.kneighbors(asked, k, return_distance=False)

    return run


def _faiss_search(unit: Any, asked: Any, threads: int) -> Callable[[int], Any]:
    """Cosines and neighbours by faiss's exact index of inner products."""
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    return lambda k: index.search(asked, k)


def _faiss_votes(search: Callable[[int], Any], labels: Any, classes: int) -> Callable[[int], Any]:
    """The search, and votes of its cosines as they are, in float32."""
    import torch

    def run(k: int) -> Any:
        cosines, neighbours = search(k)
        weights = (torch.from_numpy(cosines) / 0.07).exp()
        voted = torch.zeros(len(weights), classes).scatter_add_(1, labels[torch.from_numpy(neighbours)], weights)
        return voted, neighbours

    return run


def measure_sweep(args: argparse.Namespace) -> str:
    """Seconds of a step of all heads of CAPI's sweep (arXiv 2502.08769), at once and one after the other.

    Both are the same code on the same features, with 30 heads of each source, or with one.
    """
    import torch

    from mmmim.cli.inputs import pick_device
    from mmmim.engine import HeadAdamW
    from mmmim.evaluation.probes.sweep import ProbeSweep, grid, probe_sources
    from mmmim.evaluation.probes.trained import train_probe

    device = torch.device(pick_device(args.device))
    rates, decays = [a * 10.0**b for b in (-5, -4, -3) for a in (1, 2, 5)] + [1e-2], [5e-4, 1e-3, 5e-2]
    pairs = grid(rates, decays)
    cls, patches = (torch.randn(*size, args.dim, device=device) for size in ((args.batch,), (args.batch, args.tokens)))
    features, labels = probe_sources(cls, patches), torch.randint(args.classes, (args.batch,), device=device)

    def steps(sources: list[str], rates: list[float], decays: list[float]) -> Callable[[], Any]:
        own = {source: features[source] for source in sources}
        sweep = ProbeSweep({source: x.shape[1:] for source, x in own.items()}, args.classes, rates, decays).to(device)
        decaying, free = sweep.decaying()
        groups = [{'params': decaying, 'decays': [decay for _, decay in sweep.grid]}, {'params': free}]
        optimizer = HeadAdamW(groups, [rate * args.batch / 256 for rate, _ in sweep.grid])
        return lambda: list(train_probe(sweep, optimizer, [(own, labels)] * args.iterations, [1.0] * args.iterations))

    seconds: dict[str, float] = {}
    for source in (*features, 'all'):
        together = steps(list(features) if source == 'all' else [source], rates, decays)
        together()
        seconds[source] = timed(together, device, args.repeats) / args.iterations
        del together
    single = dict.fromkeys(features, 0.0)
    for source in features:
        for rate, decay in pairs:
            alone = steps([source], [rate], [decay])
            alone()
            single[source] += timed(alone, device, args.repeats) / args.iterations
    single['all'] = sum(single.values())
    lines = [f'{len(pairs)} heads of each source, batches of {args.batch}, {args.tokens} tokens, width {args.dim}']
    lines += [
        f'{source}: at once {seconds[source]:.4f} s a step, one by one {single[source]:.4f} s, '
        f'ratio {seconds[source] / single[source]:.3f}'
        for source in seconds
    ]
    return '\n'.join(lines)


def report(args: argparse.Namespace, result: dict[str, Any]) -> str:
    """The result as text."""
    import torch

    from mmmim.utils.machine import cpu_name, gigabytes
    from mmmim.utils.tables import markdown_table

    rows = []
    for name, (seconds, flops, patches) in result['parts'].items():
        peak = result['peaks']['bfloat16' if 'bfloat16' in name else 'float32']
        share = f'{flops / seconds / peak:.0%}' if flops else ''
        rows.append([name, f'{seconds:.2f}', f'{patches / seconds:.0f}', share])
    on_gpu = result['device'].type == 'cuda'
    name = torch.cuda.get_device_name(result['device']) if on_gpu else f'CPU ({cpu_name()})'
    threads = '' if on_gpu else f', {torch.get_num_threads()} threads'
    load = f'; load of the machine {os.getloadavg()[0]:.1f}' if hasattr(os, 'getloadavg') else ''
    peaks = ', '.join(f'{peak / 1e9:.0f} GFLOP/s in {dtype}' for dtype, peak in result['peaks'].items())
    what = (
        'allocated' if on_gpu else f'resident (pages of files too), of which libraries {gigabytes(result["libraries"])}'
    )
    return '\n'.join(
        [
            f'{name}{threads}, torch {torch.__version__}{load}',
            f'{args.train} patches to learn from, {args.queries} queries, width {args.dim}, {args.classes} classes, '
            f'{NEIGHBOURS} neighbours, 8 penalties',
            '',
            markdown_table(['part', 'seconds', 'patches/s', 'share of matrix products'], rows),
            '',
            f'products of large matrices: {peaks}',
            f'peak memory: {gigabytes(result["memory"])} {what}',
        ]
    )


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import torch

    from mmmim.utils import InputError

    for name in ('train', 'queries', 'dim', 'classes', 'pixels', 'iterations', 'repeats', 'batch', 'tokens', 'threads'):
        value = getattr(args, name)
        least = (max(args.neighbours) if args.weighted else NEIGHBOURS) if name == 'train' else 1
        if value is not None and value < least:
            raise InputError(f'--{name} {value}: give {least} or more.')
    if args.classes > 256:
        raise InputError(f'--classes {args.classes}: labels are uint8 here, give at most 256.')
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.weighted or args.sweep:
        print(measure_weighted(args) if args.weighted else measure_sweep(args))
        return
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args, folder)
    print(report(args, result))


if __name__ == '__main__':
    main()
