"""Scores over images seen of the trainings of full_spec.py, as the probes of the log have them (validation split).

Run from the repository, after compare.py with the same folder::

    python projects/fashion_scenes/full_curves.py WORK_DIR

Writes ``projects/fashion_scenes/full/curves.json`` and ``curves.png``.
"""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from mmengine.config import Config

from mmmim.visualization.curves import read_scalars

FOLDER = Path(__file__).parent
PANELS = {
    'knn_pooled': 'k-NN, average of the patches',
    'linear_pooled': 'linear probe, average of the patches',
    'knn_miou': 'k-NN of patches, mIoU',
}
#: Solid and dashed.
STYLES = {'student': '-', 'teacher': '--'}


def read(work_dir: Path) -> dict[str, dict[str, list[float]]]:
    """Scores by method, each with the ``images`` seen by then."""
    found = {}
    for arm, options in Config.fromfile(FOLDER / 'full_spec.py').subsets.single.items():
        folder = work_dir / 'runs/single' / arm.replace(' ', '_') / 'seed_0'
        if not options.get('watch') or not folder.is_dir():
            continue
        batch = Config.fromfile(options['config']).global_batch_size
        scalars = read_scalars(folder)
        curves = {'images': [int(batch * iteration) for iteration in scalars['probe/student_quick_knn_pooled'][0]]}
        for branch in STYLES:
            for score in PANELS:
                if (name := f'probe/{branch}_quick_{score}') in scalars:
                    curves[f'{branch}_{score}'] = scalars[name][1].round(4).tolist()
        found[arm] = curves
    return found


def draw(found: dict[str, dict[str, list[float]]]) -> Figure:
    """A panel for each score."""
    figure = Figure(figsize=(13, 4), layout='constrained')
    for panel, (score, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for number, (arm, curves) in enumerate(found.items()):
            for branch, style in STYLES.items():
                if values := curves.get(f'{branch}_{score}'):
                    label = arm if branch == 'student' else f'{arm}, teacher'
                    panel.plot(curves['images'], values, style, color=f'C{number}', marker='.', label=label)
        panel.set(title=title, xlabel='images seen')
        panel.xaxis.set_major_formatter(EngFormatter())
        panel.grid(alpha=0.3)
    figure.axes[0].legend()
    return figure


if __name__ == '__main__':
    scores = read(Path(sys.argv[1]))
    (FOLDER / 'full').mkdir(exist_ok=True)
    (FOLDER / 'full/curves.json').write_text(json.dumps(scores, indent=1) + '\n')
    draw(scores).savefig(FOLDER / 'full/curves.png', dpi=80)
