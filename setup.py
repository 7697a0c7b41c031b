from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


EXTRAS = {name: requirements(name) for name in ('fast', 'huggingface', 'webdataset')}

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
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    # The tests need all of them, so that none of them is skipped.
    extras_require={
        **EXTRAS,
        'tests': [*requirements('tests'), *(line for lines in EXTRAS.values() for line in lines)],
    },
)
