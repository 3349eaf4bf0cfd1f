# `make help` lists the targets. Each installs what it needs by itself.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
# Asked rather than looked up: a version manager's shim may be there and not run.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell $(name) -c 'import sys; print(sys.executable)' 2>/dev/null)))
# torch and torchcodec belong together: torchcodec's wheel is compiled against torch's C++ interface, and 0.13.0 is the
# newest whose wheel works beside a CPU-only torch (later ones load CUDA libraries at import). Move the two as a pair.
TORCH ?= torch==2.13.0 torchcodec==0.13.0
CONSTRAINTS ?= constraints.txt
EXTRAS ?= dev
# Where torch comes from: empty = pip's own index, https://download.pytorch.org/whl/cpu = CPU wheels.
TORCH_INDEX ?=
DATASET ?= motion
ARGS ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
DEMO := outputs/demo

.PHONY: help install demo demo-seeds demo-hub pretrain test test-integration test-all test-newest test-oldest quality bench cards

help:  ## list the targets
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  TORCH_INDEX=URL takes torch from another index, https://download.pytorch.org/whl/cpu for CPU wheels."

install: $(STAMP)  ## make .venv with the package, the pinned versions and FFmpeg's libraries

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python found: install Python 3.11, 3.12 or 3.13, or name one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit(f"$(PYTHON) is Python {sys.version.split()[0]}: install 3.11, 3.12 or 3.13, or name one with make PYTHON=...")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(call apt_install,python3-venv)
	$(PYTHON) -m venv $(VENV)

# torch first and from its own index: a later package that asks for torch finds it there and pulls no other build.
$(STAMP): pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(PIP) --editable '.[$(EXTRAS)]'
	@$(has_ffmpeg) || $(call apt_install,ffmpeg)
	@$(has_ffmpeg) || { echo "torchcodec finds no FFmpeg libraries: $(ffmpeg_remedy), then run make again." >&2; exit 1; }
	@touch $@

has_ffmpeg = $(BIN)/python -c 'import torchcodec' >/dev/null 2>&1
ffmpeg_remedy = install FFmpeg 4 to 8 (Debian, Ubuntu: apt-get install ffmpeg; macOS: brew install ffmpeg; conda install ffmpeg)
# Installs a Debian package where that is possible; otherwise says so and lets the caller decide.
apt_install = { if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "Installing Debian's $(1)"; \
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $(1) >/dev/null; \
	else echo "$(1) is missing and apt-get needs root here." >&2; fi; }

demo: $(STAMP)  ## pre-train the tiny model on the built-in videos, fine-tune it and a fresh one, compare them
	$(BIN)/python examples/pretrain.py --recipe tiny --output_dir $(DEMO) --overwrite $(ARGS)
	$(BIN)/python examples/compare_motion.py --pretrained $(DEMO) --output_dir $(DEMO)-comparison
	@echo "The loss curve, the reconstructions and the comparison:"
	@ls $(DEMO)/loss.png $(DEMO)/reconstruction* $(DEMO)-comparison/comparison.*

demo-seeds: $(STAMP)  ## the same with three seeds, pre-training included: half an hour
	$(BIN)/python examples/compare_motion.py --recipe compare-motion --output_dir $(DEMO)-seeds

demo-hub: $(STAMP)  ## publish videos and models on a Hub of its own on loopback, and test them with stock transformers
	$(BIN)/python examples/demo_hub.py --output_dir $(DEMO)-hub $(ARGS)

pretrain: $(STAMP)  ## pre-train on DATASET=... (folder, glob, Hub id) with ARGS="..."; ARGS=--help lists the flags
	$(BIN)/accelerate launch examples/pretrain.py --dataset "$(DATASET)" $(ARGS)

test: $(STAMP)  ## the tests of the modules, on all cores: minutes
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not integration" $(PYTEST_ARGS)

test-integration: $(STAMP)  ## the tests that run whole programs; CI runs these, too
	$(BIN)/python -m pytest -n auto --dist worksteal -m "integration and not slow" $(PYTEST_ARGS)

test-all: test test-integration  ## all tests; the slow ones one by one, for they measure times and fill the cores by themselves
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

# Both in an environment of their own, with the extra `lora`, so that its test runs.
test-newest:  ## the tests with the newest versions (a torch for CUDA, 5.5 GB; it runs on a CPU too), in .venv-newest
	$(MAKE) test test-integration VENV=.venv-newest CONSTRAINTS= EXTRAS=dev,lora \
		TORCH="torch==2.14.1 torchvision==0.29.1 torchcodec==0.17.0 transformers==5.24.0"

test-oldest:  ## the tests with the lowest versions that pyproject.toml allows, in .venv-oldest
	@mkdir -p .venv-oldest
	@$(PYTHON) tests/lowest_versions.py > .venv-oldest/lowest.new
	@cmp -s .venv-oldest/lowest.new .venv-oldest/lowest.txt || cp .venv-oldest/lowest.new .venv-oldest/lowest.txt
	$(MAKE) test test-integration VENV=.venv-oldest CONSTRAINTS=.venv-oldest/lowest.txt EXTRAS=dev,lora TORCH="torch torchcodec"

quality: $(STAMP)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy model_cards/render.py

cards: $(STAMP)  ## render model_cards/*.md and the tables of examples/recipes/README.md from their YAML files
	$(BIN)/python model_cards/render.py
	$(BIN)/python examples/recipes/render.py

bench: $(STAMP)  ## what is claimed to be fast, measured side by side with what it replaces
	@for script in $(filter-out %/stream_memory.py,$(wildcard examples/benchmarks/*.py)); do $(BIN)/python "$$script" || exit 1; done
