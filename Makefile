# The door to the project: `make help` lists what there is. Everything runs in .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash

BIN := .venv/bin
STAMP := .venv/.installed
ROOMS := contracts features models training experiments serving simulator feed_api pipelines
CODE := $(wildcard $(ROOMS) benchmarks tests notebooks)
# Two processes on two cores, one thread each: more threads only wait for one another.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2

# ARGS: further options, e.g. make demo ARGS=--once. DATA: a folder or a known public set.
ARGS ?=
DATA ?=
NAME ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## make .venv and install everything into it

# torch comes first and alone: where the package index offers a CPU wheel, that one is taken.
$(STAMP): pyproject.toml constraints.txt
	@command -v python3 >/dev/null || { echo "python3 (3.11 or 3.12) is needed"; exit 1; }
	@python3 -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 13) \
		else f"Python 3.11 or 3.12 is needed, python3 is {v[0]}.{v[1]}")'
	@test -x $(BIN)/python || python3 -m venv .venv
	$(BIN)/python -m pip install --quiet "$$(grep -oE '"torch==[0-9.]+"' pyproject.toml | tr -d '"')"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

.PHONY: demo
demo: $(STAMP) ## from nothing to a served feed; DATA=<folder> for your files, ARGS=--once to end
	$(BIN)/headwater demo $(if $(DATA),--data $(DATA)) $(ARGS)

.PHONY: test
test: $(STAMP) ## run the tests (not the long ones of `make verify`)
	$(PYTEST) -n $(WORKERS) --dist loadfile -m "not load" $(ARGS)

.PHONY: lint
lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

.PHONY: types
types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

.PHONY: imports
imports: $(STAMP) ## import-linter: one direction of flow
	$(BIN)/lint-imports

.PHONY: docs
docs: $(STAMP) ## write the generated documents (command line reference)
	$(BIN)/python -m pipelines.reference

.PHONY: docs-check
docs-check: $(STAMP) ## fail where a generated document is not up to date
	$(BIN)/python -m pipelines.reference --check

.PHONY: check
check: lint types imports docs-check test ## everything that CI runs

.PHONY: bench
bench: $(STAMP) ## run one benchmark: make bench NAME=latency
	@test -n "$(NAME)" || { echo "which one? NAME=$$(ls benchmarks | sed -n 's/\.py$$//p' | paste -sd'|')"; exit 2; }
	$(BIN)/python -m benchmarks.$(NAME) $(ARGS)

.PHONY: verify
verify: $(STAMP) ## the long checks: load, new examples, crashes, 10,000 replays, propensities, faults
	$(PYTEST) -m load --timeout=1800 $(ARGS)
	$(PYTEST) -n $(WORKERS) -m hypothesis --timeout=1800 --hypothesis-profile=search
	$(BIN)/headwater crashtest
	$(BIN)/python -m benchmarks.replay --feeds 10000
	$(BIN)/python -m benchmarks.propensities
	$(BIN)/python -m benchmarks.faults

.PHONY: format
format: $(STAMP) ## let ruff format and fix
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

.PHONY: constraints
constraints: $(STAMP) ## write constraints.txt from what is installed
	@{ echo "# The whole resolved set, from a machine without a GPU; made by 'make constraints'."; \
	   $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.txt

.PHONY: clean
clean: ## remove caches and run-time data, not .venv
	rm -rf var .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
