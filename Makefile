# make demo     run the digits tier from raw data to report, and show what came out
# make test     the whole test suite
# make quick    lint, types and the fast tests, in less than three minutes
# make check    formatting, lint, types, and result versions
# make publish  put finished tiers into README, docs, dvc.lock and the embedded DVC remote
# make same     show that changed code gives the same results, byte by byte, and confirm them
# make bump     KIND=sample.edm2: results of a kind change, and are to be made again
# make docs     the documentation site, in site/
# make lock     pin what pyproject.toml newly asks for (UPGRADE=1: the newest of everything)
# Each makes the environment in .venv first, from requirements.lock, if it is missing, with the
# first of python3.11, python3.12, python3.13 that starts (PYTHON=… another; VENV=… elsewhere).

# The first of these that starts (a version manager's may not); results are published with 3.11.
STARTS = $(shell python$(1) -c "" 2> /dev/null && command -v python$(1))
PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.13,$(call STARTS,$(v))) python3)
CORES ?= 2
VENV ?= .venv
BIN := $(CURDIR)/$(VENV)/bin
ENV := $(VENV)/.installed
export PATH := $(BIN):$(PATH)

.PHONY: demo test quick check same bump docs publish env lock
.DEFAULT_GOAL := demo

demo: env
	@python workflow/demo.py --cores $(CORES)

# Whole files go to each process: many share what they set up, and all of tests/cluster one Slurm.
test: env
	pytest -n $(CORES) --dist loadscope --no-loadscope-reorder

# Left out: whole pipelines, Slurm, several processes, and files that take more than some seconds.
SLOW := workflow cluster jobs theory tracking checkpoints claims/test_claim_files.py \
  cost/test_cost_command.py cost/test_cost_dit.py cost/test_cost_imagenet.py cost/test_cost_work.py \
  data/test_image_source.py metrics/test_dinov2.py metrics/test_efficientnet.py \
  metrics/test_extractor.py metrics/test_inception.py models/test_compiled.py \
  models/test_diffusers.py inference/test_diffusers_export.py \
  models/test_presets.py new/test_new_proposal.py objectives/test_processes.py \
  inference/test_class_pipeline.py report/test_report_figures.py report/test_report_page.py \
  report/test_report_table.py sampling/test_generate.py test_startup.py test_wheel.py \
  training/test_devices.py training/test_out_of_memory.py versions/test_kinds.py

quick: env
	ruff check .
	ruff format --check .
	mypy
	pytest -n $(CORES) --dist loadscope --no-loadscope-reorder $(SLOW:%=--ignore=tests/%)

check: env
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy
	snakemake --lint
	python -m mclr.versions check

same: env
	python workflow/same.py $(if $(KIND),--kind $(KIND))

bump: env
	@python -m mclr.versions bump $(or $(KIND),$(error say which kind: make bump KIND=sample.edm2))

# Not --quiet, which would hide the warnings from --strict. The variable silences an advertisement.
docs: env
	PYTHONPATH=$(CURDIR) NO_MKDOCS_2_WARNING=1 mkdocs build --strict

publish: env
	snakemake --cores $(CORES) all theory
	python workflow/publish.py

env: $(ENV)

# CPU=1: PyTorch's own build without CUDA, whose files are not those of the lock, nor checked.
CUDA := torch\|torchvision\|triton\|nvidia-[a-z0-9-]*\|cuda-[a-z0-9-]*
comma := ,

# Two packages are source alone. What builds them is the lock file's, too, and so goes first.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
$(ENV): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed: set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > $(VENV)/setuptools.lock
	$(PIP) --require-hashes -r $(VENV)/setuptools.lock
	$(if $(CPU),$(PIP) --no-deps --index-url https://download.pytorch.org/whl/cpu \
	  $$(sed -n 's/^\(torch\|torchvision\)==\([^ ;]*\).*/\1==\2/p' requirements.lock))
	$(if $(CPU),sed '/^\($(CUDA)\)==/$(comma)/[^\\]$$/d' requirements.lock > $(VENV)/rest.lock)
	$(PIP) --require-hashes --no-build-isolation \
	  $(if $(CPU),--no-deps -r $(VENV)/rest.lock,-r requirements.lock)
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet uv
	.venv-lock/bin/uv pip compile pyproject.toml --all-extras \
	  --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
	  --generate-hashes \
	  $(if $(UPGRADE),--upgrade) --quiet -o requirements.lock
	$(BIN)/python workflow/make_environment.py
	rm -r .venv-lock
