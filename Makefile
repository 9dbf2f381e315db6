# `make` alone lists the targets. Those that need the environment make it first, in $(VENV).
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help env demo test lint prove-kill prove-checkpoint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(INSTALLED) ## make the environment in .venv (VENV=DIR for another place, PIP_ARGS=... for pip)

$(INSTALLED): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "ERROR: Configuration Error: Python >= 3.10 with its venv module is needed" >&2; \
		  echo "  Details: $(PYTHON) is not that" >&2; \
		  echo "  Suggestion: install it (Debian: apt install python3-venv), or name another: make PYTHON=python3.12" >&2; \
		  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -r requirements-dev.txt
	@touch $@

demo: $(INSTALLED) ## run the whole pipeline on a built-in sample, in demo/
	$(BIN)/python scripts/demo.py

test: $(INSTALLED) ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

prove-kill: $(INSTALLED) ## kill -9 twenty times over 1,050 real cards (three minutes; SEED=N repeats one)
	$(BIN)/python -m pytest -s tests/prove_kill.py

prove-checkpoint: $(INSTALLED) ## what checkpoints cost, up to 540,000 rows (one minute)
	$(BIN)/python -m pytest -s tests/prove_checkpoint.py

clean: ## remove what demo, tests and tools made (never an image cache of yours)
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
