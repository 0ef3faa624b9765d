# What a bare checkout offers; each target makes .venv first.
#   make demo      the whole workflow on scikit-learn's digits, two CPU cores
#   make test      the fast tests, with coverage; make test-all has the slow ones too
#   make site      the documentation, in docs/_build/html
# `make demo PYTHON=python3.12` picks another interpreter, and
# `make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu` takes PyTorch's smaller
# build without CUDA.

PYTHON ?= python3
TORCH := torch==2.13.0
TORCH_INDEX ?=
CORES ?= 2

BIN := .venv/bin
LOCK := envs/requirements.lock
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# uv installs the lock several times as fast; torch comes by pip, which sees every index that it is told of
INSTALL := $(if $(shell command -v uv),uv pip install --quiet --python $(BIN)/python,$(PIP) --quiet install)
# how long a part of the set-up took, and how large all is then
timed = @begin=$$(date +%s); $(1) && echo "  $$(( $$(date +%s) - begin )) s, .venv has $$(du -sh .venv | cut -f1)"
# bars where there is a terminal, lines where there is none
PROGRESS := $(shell test -t 2 && echo --logger rich)
# several jobs with one thread each are faster and steadier than one job with several
export OMP_NUM_THREADS := 1
# Snakemake and matplotlib keep caches; a home that cannot be written must not matter
export XDG_CACHE_HOME := $(CURDIR)/.venv/cache
# Snakemake wants the user's name, which a container may not have
export USER ?= nobody

.PHONY: demo test test-all test-gpu environment lint audit docs site lock clean

demo: environment
	@echo "Training, attacking and drawing: about three minutes on two cores."
	$(BIN)/python -m reproduce.workflow.preload \
	  $(BIN)/snakemake --cores $(CORES) --config preset=demo --quiet reason host $(PROGRESS) -- all
	@sed -n '/^[#|]/p' results/demo/tables/table1.md
	@tail -n 1 results/demo/logs/claims.log
	@echo "Report: $(CURDIR)/results/demo/report.html"

PYTEST := $(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile

test: environment
	$(PYTEST) --cov=reproduce --cov-report=term-missing:skip-covered --cov-fail-under=90

# the slow ones in a run of their own, without coverage, which would slow them down
test-all: test
	$(PYTEST) -m "slow or slurm or browser"

# meant to take three minutes on one GPU
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
	@echo "Setting up .venv, once, in two parts, each minutes without a word."
	$(PYTHON) -m venv .venv
	@# torch first and pinned: a package that pulls it unpinned may bring another build
	@echo "1 of 2: PyTorch, the larger part"
	$(call timed,$(PIP) install $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) --constraint envs/torch-constraints.txt)
	@echo "2 of 2: everything else"
	$(call timed,$(INSTALL) --no-deps --require-hashes --requirement $(LOCK))
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# the pages that are written from the code
docs: environment
	$(BIN)/python docs/generate.py

# the notebook reads the demo's results; warnings are errors
site: environment .venv/site demo
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "Documentation: $(CURDIR)/docs/_build/html/index.html"

.venv/site: envs/docs.lock .venv/done
	$(INSTALL) --no-deps --require-hashes --requirement envs/docs.lock
	@touch $@

# Needs pip-tools (pip install pip-tools) beside an installed torch.
lock:
	pip-compile --quiet --extra dev --generate-hashes --strip-extras --no-annotate --no-header \
	  --no-emit-find-links --no-emit-index-url --unsafe-package torch --constraint envs/lock-constraints.txt \
	  --output-file $(LOCK) pyproject.toml
	sed -n 's/^\([a-z0-9._-]*==[^ ]*\).*/\1/p' $(LOCK) > .venv/pins.txt
	pip-compile --quiet --generate-hashes --strip-extras --no-annotate --no-header --allow-unsafe \
	  --no-emit-find-links --no-emit-index-url --constraint .venv/pins.txt \
	  --output-file envs/docs.lock envs/docs.in

clean:
	rm -rf .venv .snakemake *.egg-info
