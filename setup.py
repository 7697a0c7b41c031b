import atexit
import shutil
import tempfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
#: What a package that is installed without the repository brings along, in mmmim/.mim, where `mim` looks for it too.
RESOURCES = ('configs', 'tools', 'model-index.yml')


class BuildWithResources(build_py):
    """Copies configs and tools into the build, never into the source tree; editable installs read the repository."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._resources():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        resources = [] if self.editable_mode else [str(target) for _, target in self._resources()]
        return [*super().get_outputs(include_bytecode), *resources]

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *(str(source.relative_to(ROOT)) for source, _ in self._resources())]

    def _resources(self) -> list[tuple[Path, Path]]:
        files = [path for name in RESOURCES for path in (ROOT / name, *(ROOT / name).rglob('*'))]
        folder = Path(self.build_lib) / 'mmmim' / '.mim'
        return [(path, folder / path.relative_to(ROOT)) for path in sorted(files) if _is_resource(path)]


def _is_resource(path: Path) -> bool:
    return path.is_file() and '__pycache__' not in path.parts and not path.name.startswith('.')


def requirements(name: str) -> list[str]:
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


def build_folder() -> str:
    """A folder for one build: what an earlier one left in `build` would be packed again, files since removed too."""
    folder = tempfile.mkdtemp(prefix='mmmim_build_')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


EXTRAS = {name: requirements(name) for name in ('extract', 'fast', 'huggingface', 'timm', 'transformers', 'webdataset')}

version: dict[str, str] = {}
exec((ROOT / 'mmmim' / 'version.py').read_text(), version)

setup(
    name='mmmim',
    version=version['__version__'],
    description='Latent masked image modelling on the OpenMMLab stack: CAPI and its relatives',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    # With the folder named, an editable install is found from every working directory, that above the clone included.
    package_dir={'': '.'},
    packages=find_packages(include=['mmmim', 'mmmim.*']),
    package_data={
        'mmmim': [
            'py.typed',
            'datasets/fashion_mnist/*',
            'datasets/classification/*.txt',
            'visualization/templates/*.html',
        ]
    },
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    entry_points={'console_scripts': ['mmmim = mmmim.cli.main:main']},
    cmdclass={'build_py': BuildWithResources},
    options={'build': {'build_base': build_folder()}},
    # The tests need all of them, so that none of them is skipped.
    extras_require={
        **EXTRAS,
        'tests': [*requirements('tests'), *(line for lines in EXTRAS.values() for line in lines)],
    },
)
