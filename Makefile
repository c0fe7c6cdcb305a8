# The commands that people and .ci/run call. `make` alone lists them.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# Leave it empty to take the first of python3, python3.12 and python3.11 that fits.
PYTHON ?=
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help run install install-dev lint test test-long soak fresh screenshots lock

help: ## List these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

run: install ## Start the page on http://127.0.0.1:7860
	@exec $(BIN)/python app.py

install: $(VENV)/.installed ## Make .venv with what the page and retraining need

install-dev: $(VENV)/.installed-dev ## The same with tests and linters

# Each stamp stands for a finished installation; it is as old as the files it was made from.
$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/pip
	@echo "Installing what the page and retraining need (about 550 MB, once)."
	@$(PIP) install --quiet --no-deps --only-binary :all: -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-index --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "Installing tests and linters."
	@$(PIP) install --quiet --no-deps --only-binary :all: -r requirements-dev.lock
	@touch $@

$(VENV)/bin/pip:
	@for python in $(PYTHON) $(if $(PYTHON),,python3 python3.12 python3.11); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; \
	    then exec "$$python" -m venv $(VENV); fi; \
	done; \
	echo "Python 3.11 or 3.12 is needed, and $(or $(PYTHON),python3) is neither:" \
	    "install one and say which by 'make PYTHON=/path/to/python3.11 …'." >&2; exit 1

lint: install-dev ## Check style (ruff) and types (mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## Check style and types, run every ordinary test
	$(BIN)/pytest -n $(JOBS) -m "not long"

test-long: install-dev ## Run the long forms of the tests
	$(BIN)/pytest -m long

soak: install-dev ## Make every fault happen at full length (under an hour); see docs/reliability.md
	$(BIN)/python -m benchmarks.soak

fresh: ## Prove `make run` and `make test` on a bare Debian 12 (root, debootstrap)
	tests/fresh.sh

screenshots: install-dev ## Make the pictures in docs/images again
	set -e; for script in docs/make_*screenshots.py; do $(BIN)/python "$$script"; done

lock: ## Make the requirements*.lock files from pyproject.toml (uv)
	.ci/lock
