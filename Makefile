# `make` alone lists the targets. Those that need the environment create it first, in $(VENV); an activated conda
# environment of ours (mtg-image-db-...) is used instead.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
CONDA ?= conda

# Inputs and outputs, for example: make build DEVICE=cuda KIND=default_cards
DEVICE = auto
KIND =
CACHE = image_cache
OUT = index_out
PORT = 8000
IMG =
TUNED = tuned
ENCODER = models/cards
# Extra flags for the script, for example: make download ARGS="--limit 200"
ARGS =

ifneq (,$(filter mtg-image-db-%,$(CONDA_DEFAULT_ENV)))
BIN := $(CONDA_PREFIX)/bin
INSTALLED :=
else
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
endif

# Quotes a word for the shell, whatever it contains
quoted = '$(subst ','\'',$(1))'
SIDE_BY_SIDE = -n 2 --dist loadfile --no-loadscope-reorder
# A flag for each variable that was set: the scripts remember the others from the last build
LIST_FLAGS = $(if $(KIND),--kind $(call quoted,$(KIND))) $(if $(filter-out file,$(origin CACHE)),--cache $(call quoted,$(CACHE)))

.DEFAULT_GOAL := help
.NOTPARALLEL: # download, embed and export run in order, whatever -j says
.PHONY: help env demo build refresh build-cpu build-cuda build-mps download embed export query validate serve tune \
	card-encoder \
	conda-cpu conda-gpu conda-mps test test-slow lint prove-kill prove-download prove-list prove-checkpoint \
	prove-embed-kill prove-incremental prove-tune bench-download bench-embed bench-tune bench-validate clean clean-cache

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  Variables: DEVICE=auto|cpu|cuda|mps KIND=unique_artwork CACHE=image_cache OUT=index_out PORT=8000"
	@echo "             ARGS=\"extra flags\" for the script, VENV=.venv PYTHON=python3 PIP_ARGS for pip"

env: $(INSTALLED) ## create the environment in .venv (VENV=DIR for another directory, PIP_ARGS=... for pip)

$(VENV)/.installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "ERROR: Configuration Error: Python >= 3.10 with its venv module is needed" >&2; \
		  echo "  Details: $(PYTHON) is missing, older, or lacks venv" >&2; \
		  echo "  Suggestion: install it (Debian: apt install python3-venv), or name another: make PYTHON=python3.12" >&2; \
		  exit 1; }
	@if [ "$$(uname)" = Linux ] && [ -z "$(PIP_ARGS)" ] && ! command -v nvidia-smi >/dev/null; then \
		echo "No NVIDIA driver found. PyTorch's CPU build is 5 GB smaller; to get it, press Ctrl-C and run" >&2; \
		echo '  make env PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"' >&2; fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -r requirements-dev.txt
	@touch $@

demo: $(INSTALLED) ## run the whole pipeline on a built-in sample, in demo/ (two minutes)
	$(BIN)/python scripts/demo.py $(ARGS)

build: $(INSTALLED) ## download, embed and index, then export: everything (DEVICE=auto|cpu|cuda|mps)
	$(BIN)/python build_mtg_faiss.py --export $(LIST_FLAGS) --out $(call quoted,$(OUT)) \
		--device $(call quoted,$(DEVICE)) $(ARGS)

refresh: $(INSTALLED) ## bring CACHE and OUT up to date: the newest list, new pictures, index, export (for cron)
	$(BIN)/python build_mtg_faiss.py --newest --export $(LIST_FLAGS) --out $(call quoted,$(OUT)) \
		--device $(call quoted,$(DEVICE)) $(ARGS)

build-cpu: override DEVICE := cpu
build-cpu: build ## build on the CPU

build-cuda: override DEVICE := cuda
build-cuda: build ## build on an NVIDIA GPU

build-mps: override DEVICE := mps
build-mps: build ## build on the GPU of a Mac

download: $(INSTALLED) ## step 1: Scryfall's list and pictures -> CACHE
	$(BIN)/python download_images.py $(LIST_FLAGS) $(ARGS)

embed: $(INSTALLED) ## step 2: CACHE -> vectors, metadata, index in OUT (DEVICE=...)
	$(BIN)/python build_embeddings.py $(LIST_FLAGS) --out $(call quoted,$(OUT)) --device $(call quoted,$(DEVICE)) $(ARGS)

export: $(INSTALLED) ## step 3: OUT -> the browser's files, also in OUT
	$(BIN)/python export_for_browser.py --input-dir $(call quoted,$(OUT)) --output-dir $(call quoted,$(OUT)) $(ARGS)

tune: $(INSTALLED) ## tune a model to the pictures in CACHE -> TUNED (half an hour; see docs/tuning.md)
	$(BIN)/python scripts/tune_model.py $(LIST_FLAGS) --out $(call quoted,$(TUNED)) --device $(call quoted,$(DEVICE)) $(ARGS)

# The encoder that comes with the project, from a PyPI package and drawn cards alone. Not the demo's cards: another seed
card-encoder: $(INSTALLED) ## make models/cards anew from drawn cards (45 minutes on 2 cores; ENCODER=models/cards)
	$(BIN)/python scripts/draw_cards.py --out encoder/cards --count 5000 --seed 5
	$(BIN)/python scripts/make_offline_model.py --out encoder/model
	$(BIN)/python scripts/tune_model.py --pictures encoder/cards --table encoder/cards/pictures.csv \
		--model local-dir:encoder/model --out $(call quoted,$(ENCODER)) --held-out 4 --seed 5 --minutes 38 $(ARGS)

query: $(if $(IMG),$(INSTALLED)) ## identify a card: make query IMG=photo.jpg
	@[ -n $(call quoted,$(IMG)) ] || \
		{ echo "ERROR: Invalid Arguments: IMG is required" >&2; \
		  echo "  Details: received no IMG" >&2; \
		  echo "  Suggestion: pass a picture: make query IMG=photo.jpg" >&2; \
		  exit 1; }
	$(BIN)/python query_index.py $(call quoted,$(IMG)) --index $(call quoted,$(OUT)) --device $(call quoted,$(DEVICE)) $(ARGS)

validate: $(INSTALLED) ## check that every picture in CACHE is whole (ARGS=--fix deletes those that are not)
	$(BIN)/python scripts/validate_cache.py --cache $(call quoted,$(CACHE)) $(ARGS)

serve: $(INSTALLED) ## serve OUT on http://127.0.0.1:PORT, for a browser client
	@[ -d $(call quoted,$(OUT)) ] || \
		{ echo "ERROR: Configuration Error: there is nothing to serve" >&2; \
		  echo "  Details: "$(call quoted,$(OUT))" is not a directory" >&2; \
		  echo "  Suggestion: run make build first, or pass the directory: make serve OUT=demo/index_out" >&2; \
		  exit 1; }
	$(BIN)/python -m http.server $(call quoted,$(PORT)) --bind 127.0.0.1 --directory $(call quoted,$(OUT))

HAVE_CONDA = @command -v $(CONDA) >/dev/null || \
	{ echo "ERROR: Configuration Error: $(CONDA) was not found" >&2; \
	  echo "  Details: the PATH has no program of that name" >&2; \
	  echo "  Suggestion: install miniforge, name another program (make conda-cpu CONDA=mamba), or use pip: make env" >&2; \
	  exit 1; }

conda-cpu: ## create or update the conda environment mtg-image-db-cpu
	$(HAVE_CONDA)
	$(CONDA) env update --file environment-cpu.yml --prune

conda-gpu: ## the same for an NVIDIA GPU: mtg-image-db-gpu
	$(HAVE_CONDA)
	$(CONDA) env update --file environment-gpu.yml --prune

conda-mps: ## the same for a Mac: mtg-image-db-mps
	$(HAVE_CONDA)
	$(CONDA) env update --file environment-mps.yml --prune

test: $(INSTALLED) ## run the tests except the slow ones (five minutes)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow" $(ARGS)

test-slow: $(INSTALLED) ## run the slow tests: torchrun, demo, README, small disks, real cards (three minutes)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m slow $(ARGS)

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

prove-kill: $(INSTALLED) ## kill -9 twenty times over 1,050 real cards (three minutes; SEED=N repeats a run)
	$(BIN)/python -m pytest -s tests/prove_kill.py

prove-download: $(INSTALLED) ## download 20,000 pictures from a faulty server; kill -9 30 times (six minutes; SEED=N repeats a run)
	$(BIN)/python -m pytest -s tests/prove_download.py

prove-list: $(INSTALLED) ## read a list of 538,675 cards: time and memory (seven minutes)
	$(BIN)/python -m pytest -s tests/prove_list.py

bench-download: $(INSTALLED) ## files per second with 1, 16, 32 workers, compared with aria2c and img2dataset (two minutes)
	$(BIN)/python -m tests.bench_download

bench-embed: $(INSTALLED) ## embedding compared with the model alone, upstream and a DataLoader (FILES=192 FEW=48 ROUNDS=3; 15 minutes)
	$(BIN)/python -m tests.bench_embed

bench-tune: $(INSTALLED) ## recall on real cut-outs by minutes, number and variety of drawn cards, width (three hours; TABLES=minutes,... FOLDER=one model)
	PYTHONPATH=scripts $(BIN)/python -m tests.bench_tune

bench-validate: $(INSTALLED) ## validate_cache.py compared with what the cores can decode (one minute)
	$(BIN)/python -m tests.bench_validate

prove-tune: $(INSTALLED) ## kill -9 a tuning four times: what is lost, and whether it ends as good (eight minutes; SEED=N repeats a run)
	$(BIN)/python -m pytest -s tests/prove_tune.py

prove-embed-kill: $(INSTALLED) ## kill -9 twenty times while embedding 2,000 faces (six minutes; SEED=N repeats a run)
	$(BIN)/python -m pytest -s tests/prove_embed_kill.py

prove-incremental: $(INSTALLED) ## a second build of 2,000 faces; memory use of 50,000 (nine minutes)
	$(BIN)/python -m pytest -s tests/prove_incremental.py

prove-checkpoint: $(INSTALLED) ## cost of checkpoints, up to 540,000 rows (one minute)
	$(BIN)/python -m pytest -s tests/prove_checkpoint.py

clean: ## remove demo/ and files of tests and tools (never CACHE, OUT or the environment)
	@for kept in $(call quoted,$(CACHE)) $(call quoted,$(OUT)) $(call quoted,$(VENV)); do \
		case "$$kept" in demo|demo/*|./demo|./demo/*) \
			echo "ERROR: Invalid Arguments: clean removes demo/, and CACHE, OUT or VENV is in it" >&2; \
			echo "  Details: received $$kept" >&2; \
			echo "  Suggestion: leave it out to remove demo/ with all that is in it" >&2; \
			exit 1;; esac; done
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find __pycache__ helpers scripts tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

clean-cache: $(INSTALLED) ## delete the pictures and lists in CACHE, and report what was deleted
	$(BIN)/python scripts/clear_cache.py --cache $(call quoted,$(CACHE))
