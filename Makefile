# `make` alone lists the targets. Each does its own set-up: a virtual environment in .venv, made once.
# To use an environment of your own instead: make test VENV=/path/to/env (with everything installed in it).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench docs viewer phantom-checkpoint soak clean

export PYTHON
VENV ?= .venv
export PATH := $(abspath $(VENV))/bin:$(PATH)
export VIRTUAL_ENV := $(abspath $(VENV))
# Modules are compiled once and kept: each of the tests' processes would compile all of torch again.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | while IFS=$$'\t' read -r name text; do \
	    printf '  make %-20s %s\n' "$$name" "$$text"; done

setup: ## make .venv, unless it is current
ifeq ($(VENV),.venv)
	@PATH="$(subst $(abspath $(VENV))/bin:,,$(PATH))" scripts/setup.sh
endif

demo: setup ## raw phantom sections to a report in ./demo (4 to 8 minutes; run again, it skips what is done)
	@scripts/demo.sh

test: setup ## all checks and tests (20 to 25 minutes on two cores)
	@scripts/test.sh

lint: setup ## format and mend what ruff can, then the checks without the tests
	@ruff format .
	@ruff check --fix .
	@mypy
	@lint-imports

bench: setup ## benchmarks: ratios against named baselines
	@python -m tests.benchmarks

docs: setup ## documentation in docs/_build/html; warnings are errors
	@python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs: $(CURDIR)/docs/_build/html/index.html"

viewer: ## build the page of `teramind-data view` into its package (needs node 20 and npm, nothing else)
	@cd packages/teramind-data/viewer && npm ci && npm run build

phantom-checkpoint: setup ## train the phantom checkpoint that teramind-model ships (2 to 3 hours; resumes)
	@scripts/phantom-checkpoint.sh

soak: setup ## the slow tests: hundreds of random kills and restarts
	@python -m pytest -m soak --override-ini addopts="--import-mode=importlib --strict-markers"

clean: ## remove the demo, builds and caches; .venv stays
	rm -rf demo build docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find packages tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
