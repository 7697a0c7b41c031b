# What contributors call; CONTRIBUTING.md says more. The programs are those of the virtual environment.
FIGURES := $(filter-out docs/figures/diagrams.py,$(wildcard docs/figures/*.py))

.PHONY: help install lint test docs site $(FIGURES)

help:
	@echo 'make install  the package, editable, with what the tests need'
	@echo 'make lint     style, types, layers of imports'
	@echo 'make test     the default tests'
	@echo 'make docs     draw the figures, write the metafiles, check the pages'
	@echo 'make site     the pages as a site, in docs/_build'

install:
	python -m pip install -e ".[tests]"

lint:
	ruff check .
	ruff format --check .
	mypy mmmim
	lint-imports

test:
	pytest

docs: $(FIGURES)
	python tools/misc/make_metafiles.py
	pytest -q -n 0 tests/test_pages.py tests/test_tools/test_metafiles.py

site:
	python -m pip install -e ".[docs]"
	mkdocs build --strict

$(FIGURES):
	python $@
