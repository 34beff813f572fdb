# make demo    the main job on the embedded data set      make lint    linters and type checkers
# make test    everything CI runs except the linters      make bench   benchmarks
# make clean   remove what these made                    make nightly a longer search for failures
# make docs    docs/language.md and its diagrams
#
# All are safe to repeat; a second run installs nothing. Of the caller's environment only PYTHON
# (default python3, 3.11 or newer) is read here; pip reads its own configuration.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SHELL := /bin/sh

unexport PYTHONPATH PYTHONHOME PYTHONOPTIMIZE PYTHONWARNINGS PYTEST_ADDOPTS VIRTUAL_ENV
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIREMENT PIP_CONSTRAINT

.DELETE_ON_ERROR:
.PHONY: demo test nightly lint bench clean docs

demo: $(VENV)/.demo
	@$(BIN)/tql demo

test: $(VENV)/.test
	@$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

# New random examples, and many more: TESTS=tests/test_fuzz.py for a part. A test may take an hour.
TESTS := tests
nightly: $(VENV)/.test
	@TQL_TEST_PROFILE=nightly $(BIN)/python -m pytest -q -o faulthandler_timeout=7200 $(TESTS)

lint: $(VENV)/.test
	@PYTHON='$(PYTHON)' .ci/run lint

bench: $(VENV)/.bench
	@$(BIN)/python -m benchmarks

docs: $(VENV)/.test
	@$(PIP) -r requirements/docs.txt
	@$(BIN)/python -m scripts.make_language_page

clean:
	rm -rf $(VENV) .venv-ci build dist tqlkit.egg-info .bench .hypothesis .coverage
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# Each stamp is newer than what went into the environment, or is made again.
$(VENV)/.made:
	@'$(PYTHON)' -c 'import sys; sys.version_info >= (3, 11) or sys.exit("tqlkit needs Python 3.11 or newer; try: make PYTHON=python3.11")'
	@'$(PYTHON)' -m venv --clear $(VENV)
	@touch $@

$(VENV)/.demo: requirements/demo.txt pyproject.toml $(VENV)/.made
	@echo 'installing requirements/demo.txt and tqlkit into $(VENV)' >&2
	@$(PIP) -r requirements/demo.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.demo
	@echo 'installing requirements/test.txt into $(VENV)' >&2
	@$(PIP) -r requirements/test.txt
	@touch $@

$(VENV)/.bench: requirements/bench.txt $(VENV)/.test
	@echo 'installing requirements/bench.txt into $(VENV)' >&2
	@$(PIP) -r requirements/bench.txt
	@touch $@
