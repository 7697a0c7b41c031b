import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
#: What a package that is installed without the repository brings along, in mmmim/.mim, where `mim` looks for it too.
RESOURCES = ('configs', 'tools', 'projects/example_project', 'model-index.yml')
#: The address of the repository, `https://HOST/OWNER/NAME`, that a release is built for; a clone cannot know it.
REPOSITORY = os.environ.get('MMMIM_REPOSITORY', '').rstrip('/')


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
    return path.is_file() and '__pycache__' not in path.parts and path.name[0] != '.' and path.suffix != '.png'


def description() -> str:
    """The main page, for where the repository is not.

    Its links to files lead to the repository as it was at this version. A build that is not told where that is leaves
    the words of links and pictures without them.
    """
    version = re.search("__version__ = '(.*)'", (ROOT / 'mmmim/version.py').read_text())[1]

    def absolute(kind: str, words: str, path: str, as_it_was: str) -> str:
        if re.match(r'\w+:', path):
            return as_it_was
        return as_it_was.replace(path, f'{REPOSITORY}/{kind}/v{version}/{path}') if REPOSITORY else words

    text = (ROOT / 'README.md').read_text()
    text = re.sub(r'<img src="([^"]+)".*?alt="([^"]*)"/>', lambda tag: absolute('raw', tag[2], tag[1], tag[0]), text)
    return re.sub(r'\[([^\]]+)\]\(([^)\s]+)\)', lambda link: absolute('blob', link[1], link[2], link[0]), text)


def build_folder() -> str:
    """A folder for one build: what an earlier one left in `build` would be packed again, files since removed too."""
    folder = tempfile.mkdtemp(prefix='mmmim_build_')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


# All that does not depend on the build stands in pyproject.toml.
setup(
    long_description=description(),
    long_description_content_type='text/markdown',
    project_urls={'Repository': REPOSITORY, 'Changes': f'{REPOSITORY}/blob/main/CHANGELOG.md'} if REPOSITORY else {},
    cmdclass={'build_py': BuildWithResources},
    options={'build': {'build_base': build_folder()}},
)
