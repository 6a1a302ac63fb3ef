# One entry for everything a person or CI does here. `make` alone prints help.
.DEFAULT_GOAL := help
.PHONY: help install run resume test test-engines lint report audit bench-speed clean

PRESET ?= small
RECIPE ?= workflows/feni.py
ARGS ?=
WORKERS ?= 2
TORCH_INDEX ?=
PYTHON ?=
BIN := .venv/bin

# the first Python that is new enough; 3.11 first, because the pins were made with it
FIND_PYTHON = for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && break; python=; done; \
	if [ -z "$$python" ]; then \
	echo "error: no Python 3.11 or newer: apt-get install python3 python3-venv python3-dev (or make $@ PYTHON=/path/to/python3)" >&2; \
	exit 2; fi

# whole files of tests at a time, for what a file's tests share is dear; WORKERS=0: all in one process, as a debugger wants
test test-engines: export OMP_NUM_THREADS ?= 1
SIDE_BY_SIDE = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

help: ## this text
	@echo "make TARGET:"
	@sed -n 's/^\([a-z-]*\):.*## /  \1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done
	@echo "make run takes PRESET=small|paper and ARGS='--data-dir FOLDER …'; make install takes PYTHON=, TORCH_INDEX=, ARGS=--rebuild|--espresso|--browser|--slurm; tests take WORKERS=2"

install: ## set up .venv: pinned packages, GPAW from source, this project
	@$(FIND_PYTHON); "$$python" scripts/install.py $(if $(TORCH_INDEX),--torch-index "$(TORCH_INDEX)") $(filter --rebuild --espresso --browser --slurm,$(ARGS))

run: install ## set up if needed, then run the FeNi campaign (15 minutes on 2 cores); again after a break: goes on
	@$(BIN)/mmace run $(RECIPE) --preset $(PRESET) $(ARGS)

resume: install ## go on with an interrupted campaign
	@$(BIN)/mmace resume $(ARGS)

report: install ## write report.html of the last campaign
	@$(BIN)/mmace report $(ARGS)

test: install ## set up if needed, then run the tests that need no engine
	@$(BIN)/python -m pytest -m "not engine" $(SIDE_BY_SIDE) $(ARGS)

test-engines: install ## the tests that run the real GPAW, Quantum ESPRESSO, MongoDB server and Chromium
	@$(BIN)/python -m pytest -m engine $(SIDE_BY_SIDE) $(ARGS)

lint: install ## style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy scripts/install.py

audit: install ## known holes of the pinned packages, by pip-audit; needs the Internet
	@$(BIN)/python scripts/audit.py

bench-speed: install ## speed against mace-torch, in an environment of its own (ARGS="--quick --json FILE")
	@$(BIN)/python benchmarks/speed.py $(ARGS)

clean: ## remove .venv and caches; results in the data folder stay
	@rm -rf .venv .venv-audit .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
