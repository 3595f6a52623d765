# SPDX-License-Identifier: Apache-2.0
# Everything that is made here stays inside this folder: environments, caches, temporary files, databases, logs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first of these that is 3.11 or newer; PYTHON=/path/to/python overrides it.
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
FLOOR ?= 3.1.8

VENV := .venv
FLOOR_VENV := .venv-floor
READY := $(VENV)/.ready
FLOOR_READY := $(FLOOR_VENV)/.ready

export TMPDIR := $(CURDIR)/.run/tmp
export AIRFLOW_HOME := $(CURDIR)/.run/airflow
export PIP_CACHE_DIR ?= $(CURDIR)/.run/pip-cache
export PIP_DISABLE_PIP_VERSION_CHECK := 1
$(shell mkdir -p "$(TMPDIR)")

# $(1): folder, $(2): what to install
define install
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer is needed, and none was found. Install one, or name it: make PYTHON=/path/to/python3.12 …" >&2; \
		exit 1; \
	fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is older than 3.11. Name a newer one: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	@echo "Setting up $(1) with $$($(PYTHON) --version); this takes some minutes the first time."
	@[ -x $(1)/bin/python ] || $(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip install --quiet $(2)
	@touch $(1)/.ready
endef

$(READY): pyproject.toml
	$(call install,$(VENV),-e '.[dev]')

$(FLOOR_READY): pyproject.toml
	$(call install,$(FLOOR_VENV),-e '.[dev]' 'apache-airflow==$(FLOOR)')

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | column -t -s '|'

.PHONY: install
install: $(READY) ## Set up .venv (done by the others as needed)

.PHONY: demo
demo: $(READY) ## Make clips of eight photographs with a real Airflow, S3 and the sandbox; KEEP=1 leaves it up
	@$(VENV)/bin/python -m dev.demo $(if $(KEEP),--keep)

.PHONY: stop
stop: ## Stop a demo that was left up
	@$(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python -m dev.demo --stop,echo "Nothing is set up here.")

.PHONY: test
test: $(READY) ## Run all tests: unit, sandbox, integration and system (ARGS="-k name" for some)
	@$(VENV)/bin/python -m pytest --basetemp=.run/pytest $(ARGS)

.PHONY: test-floor
test-floor: $(FLOOR_READY) ## Run the tests that Airflow has a part in on the oldest one that is supported
	@$(FLOOR_VENV)/bin/python -m pytest --basetemp=.run/pytest-floor $(or $(ARGS),tests/unit tests/integration tests/system)

.PHONY: explore
explore: $(READY) ## Let processes die at random moments of random histories (ARGS="--seed 7 --seconds 600")
	@PYTHONPATH=.:tests $(VENV)/bin/python -m explore $(ARGS)

.PHONY: lint
lint: $(READY) ## Check style and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

.PHONY: format
format: $(READY) ## Put the code into shape
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

.PHONY: wheel
wheel: $(READY) ## Build the wheel and import it in an empty environment
	@rm -rf dist .run/wheel-venv
	@$(VENV)/bin/python -m build --wheel --outdir dist . > .run/build.log 2>&1 || { cat .run/build.log >&2; exit 1; }
	@$(PYTHON) -m venv .run/wheel-venv
	@.run/wheel-venv/bin/python -m pip install --quiet dist/*.whl
	@cd .run && wheel-venv/bin/python ../.ci/check_wheel.py
	@rm -rf .run/wheel-venv

.PHONY: clean
clean: stop ## Remove everything that was made here
	@rm -rf .run .venv .venv-floor dist build demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
