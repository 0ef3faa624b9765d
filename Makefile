# The two commands of a bare checkout, and what they need.
#   make demo    the whole DAG on scikit-learn's digits, two CPU cores
#   make test    the fast tests, with coverage; make test-all has the slow ones too
# Both make .venv first.  `make demo PYTHON=python3.12` picks another interpreter, and
# `make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu` takes PyTorch's smaller
# build without CUDA.

PYTHON ?= python3
TORCH := torch==2.13.0
TORCH_INDEX ?=
CORES ?= 2

BIN := .venv/bin
LOCK := envs/requirements.lock
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# several jobs with one thread each are faster and steadier than one job with several
export OMP_NUM_THREADS := 1
# Snakemake and matplotlib keep caches; a home that cannot be written must not matter
export XDG_CACHE_HOME := $(CURDIR)/.venv/cache
# Snakemake wants the user's name, which a container may not have
export USER ?= nobody

.PHONY: demo test test-all test-gpu environment lint audit docs lock clean

demo: environment
	@echo "Training, attacking and drawing: about 75 jobs, ten minutes on two cores; each says when it is done."
	$(BIN)/snakemake --cores $(CORES) --config preset=demo --quiet rules host --show-failed-logs -- all
	@cat results/demo/tables/table*.md
	@echo "Made: $(CURDIR)/results/demo. Open report.html there: tables, figures, claims, all on one page."

PYTEST := $(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile --cov=reproduce --cov-report=term-missing:skip-covered

test: environment
	$(PYTEST) --cov-fail-under=85

test-all: environment
	$(PYTEST) -m "" --cov-fail-under=90

# in under three minutes, on one GPU
test-gpu: environment
	$(BIN)/python -m pytest -m gpu

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint --config preset=demo

# Known vulnerabilities of what is pinned; it asks pypi.org, so it needs the network.  torch has no
# line in the lock (docs/dependencies.md).  strict: a package that could not be looked up fails.
AUDIT := .venv/audit
audit:
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && \
	  $(AUDIT)/bin/python -m pip --quiet --disable-pip-version-check install pip-audit; }
	$(AUDIT)/bin/pip-audit --strict --disable-pip --no-deps --require-hashes --requirement $(LOCK)
	@echo "$(TORCH)" | sed 's/+.*//' > .venv/torch.txt
	$(AUDIT)/bin/pip-audit --strict --disable-pip --no-deps --requirement .venv/torch.txt

environment: .venv/done

.venv/done: $(LOCK) pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, set PYTHON to one")'
	@echo "Setting up .venv (once; some minutes without a word, PyTorch is the large part)"
	$(PYTHON) -m venv .venv
	@# torch first and pinned: a package that pulls it unpinned may bring another build
	$(PIP) install $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) --constraint envs/torch-constraints.txt
	@# twice quiet: older pips say at length how they build the one package without a wheel
	$(PIP) --quiet install --no-deps --require-hashes --requirement $(LOCK)
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

docs: environment
	$(BIN)/python docs/generate.py

# Needs pip-tools (pip install pip-tools) beside an installed torch.
lock:
	pip-compile --quiet --extra dev --generate-hashes --strip-extras --no-annotate --no-header \
	  --no-emit-find-links --no-emit-index-url --unsafe-package torch --constraint envs/lock-constraints.txt \
	  --output-file $(LOCK) pyproject.toml

clean:
	rm -rf .venv .snakemake *.egg-info
