# One virtual environment, made once from pyproject.toml and constraints.txt and kept until one of them changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test lint wheel-test test-lowest clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(READY) ## run the whole pipeline on embedded real data and tell where the report is
	OMP_NUM_THREADS=1 $(BIN)/adap demo --overwrite

test: lint ## run every check and test
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -n 2

lint: $(READY) ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typed.py
	$(BIN)/lint-imports

wheel-test: $(READY) ## build the wheel, install it in an empty environment and run the main job there
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -m wheel --timeout 1500

# Not in CI: an environment of its own, and half an hour. The floor of torch itself is not tested.
test-lowest: ## run the tests with the lowest versions that pyproject.toml allows; PYTHON=python3.12 is another Python
	rm -rf build/lowest && $(PYTHON) -m venv build/lowest
	build/lowest/bin/python -m pip install -q -c constraints.txt torch
	build/lowest/bin/python tests/lowest.py > build/lowest/pins.txt
	build/lowest/bin/python -m pip install -q -r build/lowest/pins.txt editables
	build/lowest/bin/python -m pip install -q --no-deps --no-build-isolation -e .
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest -W ignore -m "not wheel and not slow" --ignore tests/test_architecture.py --deselect tests/data/test_hf.py --deselect tests/data/test_dataset.py::TestSaved

clean: ## remove the environment and what tools left
	rm -rf .venv build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# torch first and alone: where an index or a wheel folder offers a CPU build, pip takes it.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo "Setting up .venv: a minute or so."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
