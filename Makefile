# `make` alone lists the targets. The environment is VENV if you name one, else the one that is activated (a virtualenv,
# or conda's other than its base), else .venv. Targets that need .venv or VENV create it first; into an activated one
# only `make env` and `make audit` install.
PYTHON ?= python3
ACTIVE := $(if $(filter undefined,$(origin VENV)),$(or $(VIRTUAL_ENV),$(if $(filter-out base,$(CONDA_DEFAULT_ENV)),$(CONDA_PREFIX))))
VENV ?= .venv
PIP_ARGS ?=
CONDA ?= conda

# Inputs and outputs, for example: make build DEVICE=cuda KIND=default_cards
DEVICE = auto
KIND =
CACHE = image_cache
OUT = index_out
HOST = 127.0.0.1
PORT = 8000
IMG =
TUNED = tuned
ENCODER = models/cards
# Extra flags for the script, for example: make download ARGS="--limit 200"
ARGS =

# A word for the shell, whatever it contains. A leading ~/ is the home directory: zsh leaves it to us in CACHE=~/cards
quoted = '$(subst ','\'',$(subst <start>,,$(subst <start>~/,$(HOME)/,<start>$(1))))'
comma = ,
# A file name for make itself, whose names end at a blank
escaped = $(subst $() ,\ ,$(1))

# One that was deleted is not meant, and .venv is ours, activated or not
ACTIVE := $(if $(ACTIVE),$(shell python=$(call quoted,$(ACTIVE)); [ -x "$$python/bin/python" ] && \
	! [ "$$python" -ef .venv ] && printf %s "$$python"))
ifneq (,$(ACTIVE))
BIN := $(ACTIVE)/bin
INSTALLED :=
else
BIN := $(VENV)/bin
INSTALLED := $(call escaped,$(VENV)/.installed)
endif
GENERATED = docs/commands.md
SIDE_BY_SIDE = -n 2 --dist loadfile --no-loadscope-reorder
RUN = $(call quoted,$(BIN)/python)
# A flag for each variable that was set: the scripts remember the others from the last build
LIST_FLAGS = $(if $(KIND),--kind $(call quoted,$(KIND))) $(if $(filter-out file,$(origin CACHE)),--cache $(call quoted,$(CACHE)))

.DEFAULT_GOAL := help
.NOTPARALLEL: # download, embed and export run in order, whatever -j says
.PHONY: help env doctor demo build refresh build-cpu build-cuda build-mps download embed export query validate serve vendor tune \
	evaluate card-encoder \
	conda-cpu conda-gpu conda-mps test test-slow coverage docs lint lint-web kernel prove-kill prove-download prove-list prove-checkpoint \
	prove-embed-kill prove-incremental prove-tune bench-download bench-embed bench-index bench-tune \
	bench-choices bench-reading bench-validate bench-where bench-browser bench-browser-sizes bench-camera \
	rehearsal audit clean clean-cache

help: ## list the targets
	@awk -F ':.*## ' '/^##@ / {print "\n" substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' \
		$(MAKEFILE_LIST)
	@echo
	@echo "Variables: DEVICE=auto|cpu|cuda|mps KIND=unique_artwork CACHE=image_cache OUT=index_out"
	@echo "           HOST=127.0.0.1 PORT=8000 IMG=photo.jpg TUNED=tuned ENCODER=models/cards"
	@echo "           ARGS=\"extra flags\" for the script, VENV=.venv PYTHON=python3 PIP_ARGS for pip"

##@ Use it
# For a shell: whether a Python is new enough; what to say if it is not
NEW_ENOUGH = -c 'import sys; sys.exit(sys.version_info < (3, 10))'
define too_old
{ echo "ERROR: Configuration Error: Python >= 3.10 with its venv module is needed" >&2; \
  echo "  Details: "$(1)" is missing, older, or lacks venv" >&2; \
  echo "  Suggestion: $(2)" >&2; \
  exit 1; }
endef
# What is there already is not installed again, and PyTorch's size is no news to who has it
define install
@if [ "$$(uname)" = Linux ] && [ -z $(call quoted,$(PIP_ARGS)) ] && ! command -v nvidia-smi >/dev/null && \
	! $(RUN) -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("torch"))'; then \
	echo "No NVIDIA driver found. PyTorch's CPU build is 5 GB smaller; to get it, press Ctrl-C and run" >&2; \
	echo '  make env PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"' >&2; fi
@$(RUN) -m pip --version >/dev/null 2>&1 || $(RUN) -m ensurepip >/dev/null # uv's have no pip
$(RUN) -m pip install --quiet $(PIP_ARGS) -r requirements-dev.txt
endef

env: $(INSTALLED) ## create the environment in .venv, or install into the activated one (VENV=DIR, PIP_ARGS=... for pip)
ifneq (,$(ACTIVE))
	@echo "Installing into the activated environment "$(call quoted,$(ACTIVE))" (make env VENV=.venv leaves it alone)" >&2
	@$(RUN) $(NEW_ENOUGH) || \
		$(call too_old,$(RUN),activate another environment$(comma) or leave this one: make env VENV=.venv PYTHON=python3.12)
	$(install)
endif

$(call escaped,$(VENV)/.installed): requirements.txt requirements-dev.txt
	@if [ -x $(RUN) ]; then $(RUN) $(NEW_ENOUGH) || \
		$(call too_old,$(RUN),remove that environment$(comma) or name another: make env VENV=env PYTHON=python3.12); \
	else $(call quoted,$(PYTHON)) $(NEW_ENOUGH) && $(call quoted,$(PYTHON)) -c 'import venv, ensurepip' || \
		$(call too_old,$(call quoted,$(PYTHON)),install it (Debian: apt install python3-venv)$(comma) or name another: make PYTHON=python3.12); \
		$(call quoted,$(PYTHON)) -m venv $(call quoted,$(VENV)); fi
	$(install)
	@touch $(call quoted,$@)

doctor: ## say what this machine has, and what to do about what it lacks; installs nothing (ARGS=--offline)
	@$(if $(shell [ -x $(RUN) ] && echo yes),$(RUN),$(call quoted,$(PYTHON))) scripts/doctor.py $(LIST_FLAGS) \
		--out $(call quoted,$(OUT)) --port $(call quoted,$(PORT)) $(ARGS)

demo: $(INSTALLED) ## run the whole pipeline on a built-in sample, in demo/ (two to three minutes)
	$(RUN) scripts/demo.py $(ARGS)

build: $(INSTALLED) ## download, embed and index, then export: everything (DEVICE=auto|cpu|cuda|mps)
	$(RUN) build_mtg_faiss.py --export $(LIST_FLAGS) --out $(call quoted,$(OUT)) \
		--device $(call quoted,$(DEVICE)) $(ARGS)

refresh: $(INSTALLED) ## bring CACHE and OUT up to date: the newest list, new pictures, index, export (for cron)
	$(RUN) build_mtg_faiss.py --newest --export $(LIST_FLAGS) --out $(call quoted,$(OUT)) \
		--device $(call quoted,$(DEVICE)) $(ARGS)

build-cpu: override DEVICE := cpu
build-cpu: build ## build on the CPU

build-cuda: override DEVICE := cuda
build-cuda: build ## build on an NVIDIA GPU

build-mps: override DEVICE := mps
build-mps: build ## build on the GPU of a Mac

download: $(INSTALLED) ## step 1: Scryfall's list and pictures -> CACHE
	$(RUN) download_images.py $(LIST_FLAGS) $(ARGS)

embed: $(INSTALLED) ## step 2: CACHE -> vectors, metadata, index in OUT (DEVICE=...)
	$(RUN) build_embeddings.py $(LIST_FLAGS) --out $(call quoted,$(OUT)) --device $(call quoted,$(DEVICE)) $(ARGS)

export: $(INSTALLED) ## step 3: OUT -> the browser's files, also in OUT (ARGS=--encoder: the model, too)
	$(RUN) export_for_browser.py --input-dir $(call quoted,$(OUT)) --output-dir $(call quoted,$(OUT)) $(ARGS)

tune: $(INSTALLED) ## tune a model to the pictures in CACHE -> TUNED (half an hour; see docs/tuning.md)
	$(RUN) scripts/tune_model.py $(LIST_FLAGS) --out $(call quoted,$(TUNED)) --device $(call quoted,$(DEVICE)) $(ARGS)

# The encoder that comes with the project, from a PyPI package and drawn cards alone. Not the demo's cards: another seed
card-encoder: $(INSTALLED) ## make models/cards anew from drawn cards (45 minutes on 2 idle cores; ENCODER=models/cards)
	$(RUN) scripts/draw_cards.py --out encoder/cards --count 5000 --seed 5
	$(RUN) scripts/make_offline_model.py --out encoder/model
	$(RUN) scripts/tune_model.py --pictures encoder/cards --table encoder/cards/pictures.csv \
		--model local-dir:encoder/model --out $(call quoted,$(ENCODER)) --held-out 4 --seed 5 --epochs 15 $(ARGS)

# One picture if a file has all of IMG for its name, blanks and all; else one a word
IMAGES = $(if $(shell [ -e $(call quoted,$(IMG)) ] && echo one),$(call quoted,$(IMG)),$(foreach image,$(IMG),$(call quoted,$(image))))

query: $(if $(IMG),$(INSTALLED)) ## identify a card: make query IMG=photo.jpg (or IMG="a.jpg b.jpg")
	@[ -n $(call quoted,$(IMG)) ] || \
		{ echo "ERROR: Invalid Arguments: IMG is required" >&2; \
		  echo "  Details: received no IMG" >&2; \
		  echo "  Suggestion: pass a picture: make query IMG=photo.jpg" >&2; \
		  exit 1; }
	$(RUN) query_index.py $(IMAGES) --index $(call quoted,$(OUT)) --device $(call quoted,$(DEVICE)) $(ARGS)

evaluate: $(INSTALLED) ## say how well OUT recognises its own cards, damaged (five minutes; ARGS="--minutes 30" asks more)
	$(RUN) scripts/evaluate_index.py --index $(call quoted,$(OUT)) --device $(call quoted,$(DEVICE)) \
		$(if $(filter-out file,$(origin CACHE)),--cache $(call quoted,$(CACHE))) $(ARGS)

validate: $(INSTALLED) ## check that every picture in CACHE is whole (ARGS=--fix deletes those that are not)
	$(RUN) scripts/validate_cache.py --cache $(call quoted,$(CACHE)) $(ARGS)

serve: $(INSTALLED) ## serve the page with OUT on http://HOST:PORT (HOST=0.0.0.0 in a container)
	-@$(RUN) scripts/vendor_web.py
	$(RUN) scripts/serve_web.py --index $(call quoted,$(OUT)) --host $(call quoted,$(HOST)) --port $(call quoted,$(PORT)) \
		$(if $(filter-out file,$(origin CACHE)),--cache $(call quoted,$(CACHE))) $(ARGS)

vendor: $(INSTALLED) ## fetch the libraries of the browser's page from npm into web/vendor (once; 55 MB)
	@$(RUN) scripts/vendor_web.py

HAVE_CONDA = @command -v $(call quoted,$(CONDA)) >/dev/null || \
	{ echo "ERROR: Configuration Error: "$(call quoted,$(CONDA))" was not found" >&2; \
	  echo "  Details: the PATH has no program of that name" >&2; \
	  echo "  Suggestion: install miniforge, name another program (make conda-cpu CONDA=mamba), or use pip: make env" >&2; \
	  exit 1; }

conda-cpu: ## create or update the conda environment mtg-image-db-cpu
	$(HAVE_CONDA)
	$(call quoted,$(CONDA)) env update --file environment-cpu.yml --prune

conda-gpu: ## the same for an NVIDIA GPU: mtg-image-db-gpu
	$(HAVE_CONDA)
	$(call quoted,$(CONDA)) env update --file environment-gpu.yml --prune

conda-mps: ## the same for a Mac: mtg-image-db-mps
	$(HAVE_CONDA)
	$(call quoted,$(CONDA)) env update --file environment-mps.yml --prune

##@ Change it
test: $(INSTALLED) ## run the tests except the slow ones (six minutes)
	$(RUN) -m pytest $(SIDE_BY_SIDE) -m "not slow" $(ARGS)

# Three at a time: many of them wait for something
test-slow: $(INSTALLED) ## run the slow tests: torchrun, demo, README, small disks, browser, real cards (eight minutes)
	$(RUN) -m pytest -n 3 --dist loadfile -m slow $(ARGS)

coverage: $(INSTALLED) ## run all tests and print which share of helpers/, by branches, they run; it must be 90 % (a quarter to half an hour)
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest $(SIDE_BY_SIDE) $(ARGS)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report

docs: $(INSTALLED) ## write the generated parts of docs/ again (the help texts)
	$(call quoted,$(BIN)/cog) -r $(GENERATED)

lint: $(INSTALLED) ## check style, types, and that the generated parts of docs/ are up to date
	$(call quoted,$(BIN)/ruff) check .
	$(call quoted,$(BIN)/ruff) format --check .
	$(call quoted,$(BIN)/mypy) .
	$(call quoted,$(BIN)/cog) --check $(GENERATED)

audit: $(INSTALLED) ## ask the OSV database about known vulnerabilities of the installed packages (needs the network)
	@$(RUN) -m pip_audit --version >/dev/null 2>&1 || $(RUN) -m pip install --quiet "pip-audit>=2.7"
	$(RUN) -m pip_audit --vulnerability-service osv --skip-editable

TYPESCRIPT = typescript@5.9.3

lint-web: ## check the types of the browser's modules (JSDoc, by TypeScript from npm; nothing is compiled)
	@command -v npm >/dev/null || \
		{ echo "ERROR: Configuration Error: npm is needed to check web/" >&2; \
		  echo "  Details: the PATH has no npm" >&2; \
		  echo "  Suggestion: install it (Debian: apt install npm)" >&2; \
		  exit 1; }
	npm exec --yes --package=$(TYPESCRIPT) -- tsc --project web/jsconfig.json

kernel: $(INSTALLED) ## make web/recogniser/kernel.wasm of kernel.wat (after a change of it)
	$(RUN) -c 'import pathlib, wasmtime; source = pathlib.Path("web/recogniser/kernel.wat"); \
		source.with_suffix(".wasm").write_bytes(wasmtime.wat2wasm(source.read_text()))'

##@ Measure it, prove it
prove-kill: $(INSTALLED) ## kill -9 twenty times over 1,050 real cards (three minutes; SEED=N repeats a run)
	$(RUN) -m pytest -s tests/prove_kill.py

prove-download: $(INSTALLED) ## download 20,000 pictures from a faulty server; kill -9 30 times (six minutes; SEED=N repeats a run)
	$(RUN) -m pytest -s tests/prove_download.py

prove-list: $(INSTALLED) ## read a list of 538,675 cards: time and memory (seven minutes)
	$(RUN) -m pytest -s tests/prove_list.py

bench-download: $(INSTALLED) ## files per second with 1, 16, 32 workers, compared with aria2c and img2dataset (two minutes)
	$(RUN) -m tests.bench_download

bench-embed: $(INSTALLED) ## embedding compared with the model alone, upstream and a DataLoader (FILES=192 FEW=48 ROUNDS=3; 15 minutes)
	$(RUN) -m tests.bench_embed

bench-index: $(INSTALLED) ## rows found by themselves beside up to 5,000 identical ones, compared with FAISS alone (one minute)
	$(RUN) -m tests.bench_index

bench-tune: $(INSTALLED) ## recall on real cut-outs by steps, number and variety of drawn cards, width (three hours; TABLES=steps,... FOLDER=one model)
	$(RUN) -m tests.bench_tune

bench-choices: $(INSTALLED) ## how to rank, prepare and search by what was measured (an hour; TABLES=ranking,... MODELS=folder,folder)
	$(RUN) -m tests.bench_choices

bench-reading: $(INSTALLED) ## names with and without reading, in indexes of up to 20,000 rows (half an hour; INDEX=folder,folder ROWS=1050,...)
	$(RUN) -m tests.bench_reading

bench-where: $(INSTALLED) ## search among 1 %, 0.1 % and 3 of 54,000 rows: time, recall against exact search (one minute)
	$(RUN) -m tests.bench_where

bench-browser: $(INSTALLED) ## search in the browser compared with a plain loop and with reading the bytes (one minute; ROUNDS=21)
	PYTHONPATH=scripts $(RUN) -m tests.bench_browser

bench-browser-sizes: $(INSTALLED) ## what a browser fetches for 54,000 faces; recall by width of int8 vectors (five minutes)
	$(RUN) -m tests.bench_browser_sizes

bench-camera: $(INSTALLED) ## photographs of real cards before the page's camera: what it lists, frames a second (two minutes; INDEX=folder)
	PYTHONPATH=scripts $(RUN) -m tests.bench_camera

bench-validate: $(INSTALLED) ## validate_cache.py compared with what the cores can decode (one minute)
	$(RUN) -m tests.bench_validate

prove-tune: $(INSTALLED) ## kill -9 a tuning three times: what is lost, and whether it ends as good (ten minutes; SEED=N repeats a run)
	$(RUN) -m pytest -s tests/prove_tune.py

prove-embed-kill: $(INSTALLED) ## kill -9 twenty times while embedding 2,000 faces (six minutes; SEED=N repeats a run)
	$(RUN) -m pytest -s tests/prove_embed_kill.py

prove-incremental: $(INSTALLED) ## a second build of 2,000 faces; memory use of 50,000 (nine minutes)
	$(RUN) -m pytest -s tests/prove_incremental.py

prove-checkpoint: $(INSTALLED) ## cost of checkpoints, up to 540,000 rows (one minute)
	$(RUN) -m pytest -s tests/prove_checkpoint.py

rehearsal: $(INSTALLED) ## every stage at the size of all cards: time, memory, how both grow (SIZES=13500,54000,540000 FOLDER=rehearsal BUILD=flags; half an hour)
	$(RUN) -m tests.rehearsal

##@ Clear away
clean: ## remove demo/ and files of tests and tools (never CACHE, OUT or the environment)
	@for kept in $(call quoted,$(CACHE)) $(call quoted,$(OUT)) $(call quoted,$(VENV)); do \
		case "$$kept" in demo|demo/*|./demo|./demo/*|$(call quoted,$(CURDIR)/demo)|$(call quoted,$(CURDIR)/demo)/*) \
			echo "ERROR: Invalid Arguments: clean removes demo/, and CACHE, OUT or VENV is in it" >&2; \
			echo "  Details: received $$kept" >&2; \
			echo "  Suggestion: leave it out to remove demo/ with all that is in it" >&2; \
			exit 1;; esac; done
	@needs=$$(grep -lsF '"local-dir:'$(call quoted,$(CURDIR))/demo/ $(call quoted,$(OUT))/build_manifest.json \
		*/build_manifest.json */*/build_manifest.json | grep -v '^demo/' | head -n 1); [ -z "$$needs" ] || \
		{ echo "ERROR: Configuration Error: clean removes demo/, and an index needs a model in it" >&2; \
		  echo "  Details: $$needs names it" >&2; \
		  echo "  Suggestion: move the model away and build that index again, or delete the index" >&2; \
		  exit 1; }
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find __pycache__ helpers scripts tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

clean-cache: $(INSTALLED) ## delete the pictures and lists in CACHE, and report what was deleted
	$(RUN) scripts/clear_cache.py --cache $(call quoted,$(CACHE))
