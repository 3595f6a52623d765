# SPDX-License-Identifier: Apache-2.0
# Everything that is made here stays inside this folder: environments, caches, temporary files, databases, logs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first of these that is 3.11 or newer; PYTHON=/path/to/python overrides it.
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
FLOOR ?= 3.1.8
PYTHONS ?= python3.12 python3.13 python3.14

VENV := .venv
FLOOR_VENV := .venv-floor
BENCH_VENV := .venv-bench
READY := $(VENV)/.ready
CLUSTER_READY := $(VENV)/.cluster-ready
FLOOR_READY := $(FLOOR_VENV)/.ready
BENCH_READY := $(BENCH_VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
# Named apart, since a comma would end the argument of a call.
CLUSTER_EXTRAS := -e '.[dev,cluster]'
DOCS_EXTRAS := -e '.[dev,docs]'

export TMPDIR := $(CURDIR)/.run/tmp
export AIRFLOW_HOME := $(CURDIR)/.run/airflow
export PIP_CACHE_DIR ?= $(CURDIR)/.run/pip-cache
export UV_CACHE_DIR ?= $(CURDIR)/.run/uv-cache
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Each task of Airflow is a process of its own, which would compile this package anew.
unexport PYTHONDONTWRITEBYTECODE
$(shell mkdir -p "$(TMPDIR)")

# uv resolves what pip takes minutes for; where only pip is configured for the index, pip does it.
# $(1): environment, $(2): what to install
define add
	$(1)/bin/python -m pip install --quiet uv && \
		$(1)/bin/python -m uv pip install --quiet --python $(1)/bin/python $(2) || \
		$(1)/bin/python -m pip install --quiet $(2)
endef

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
	@$(call add,$(1),$(2))
	@touch $(1)/.ready
endef

$(READY): pyproject.toml
	$(call install,$(VENV),-e '.[dev]')

$(FLOOR_READY): pyproject.toml
	$(call install,$(FLOOR_VENV),-e '.[dev]' 'apache-airflow==$(FLOOR)')

$(CLUSTER_READY): $(READY)
	@echo "Adding what the cluster needs to $(VENV)."
	@$(call add,$(VENV),$(CLUSTER_EXTRAS))
	@touch $@

$(DOCS_READY): $(READY)
	@echo "Adding what the documentation needs to $(VENV)."
	@$(call add,$(VENV),$(DOCS_EXTRAS))
	@touch $@

$(BENCH_READY): pyproject.toml
	$(call install,$(BENCH_VENV),-e '.[bench]')

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | column -t -s '|'

.PHONY: install
install: $(READY) ## Set up .venv (done by the others as needed)

.PHONY: demo
demo: $(READY) ## Make clips of eight photographs with a real Airflow, S3 and the sandbox; KEEP=1 keeps it running
	@$(VENV)/bin/python -m dev.demo $(if $(KEEP),--keep)

.PHONY: stop
stop: ## Stop a running demo
	@$(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python -m dev.demo --stop,echo "Nothing is set up here.")

SIDE_BY_SIDE := -n 4 --dist loadfile --no-loadscope-reorder --durations 15

# Those that hold a deadline by the real clock.
TIMED := tests/integration/test_deadlines.py tests/integration/test_batch_deadlines.py

# System tests come after the others, with those that watch the clock. Two processes share them, each with one Airflow:
# most of their time is waiting.
# $(1): environment, $(2): folder for temporary files, $(3): what to run side by side, $(4): what after it
define run_tests
	@$(if $(ARGS),$(1)/bin/python -m pytest --basetemp=.run/$(2) $(ARGS),\
		$(1)/bin/python -m pytest --basetemp=.run/$(2) -m 'not nightly' $(SIDE_BY_SIDE) $(3) && \
		$(1)/bin/python -m pytest --basetemp=.run/$(2) -m 'not nightly' -n 2 --dist loadfile --durations 15 tests/system $(4))
endef

.PHONY: test
test: $(READY) ## Run the tests: unit, sandbox, integration and system (ARGS="-k name" for some)
	$(call run_tests,$(VENV),pytest,--ignore tests/system $(addprefix --ignore ,$(TIMED)),$(TIMED))

.PHONY: test-nightly
test-nightly: $(CLUSTER_READY) ## Run the slow tests (minutes each)
	@$(VENV)/bin/python -m pytest --basetemp=.run/pytest-nightly -m nightly --durations 15 $(or $(ARGS),tests tests/cluster)

# What leans on Airflow; the floors below it don't import it.
ON_FLOOR := $(foreach each,dags decorators hooks operators plugins sensors transfers triggers,$(wildcard tests/unit/$(each))) \
	$(foreach each,get_provider_info metrics retry traces,tests/unit/test_$(each).py) tests/integration/test_task_decorator.py
# The longest, whose parts the others show too, and those that watch no part of Airflow.
NOT_ON_FLOOR := $(foreach each,backfill batches company_network component gallery leaks money one_clip pods recovery,--ignore tests/system/test_$(each).py)

.PHONY: test-floor
test-floor: $(FLOOR_READY) ## Run the tests that depend on Airflow on the oldest supported version
	$(call run_tests,$(FLOOR_VENV),pytest-floor,$(ON_FLOOR),$(NOT_ON_FLOOR))

.PHONY: test-pythons
test-pythons: ## Run the tests without system tests on other Pythons (default: 3.12, 3.13, 3.14); reports those that are missing
	@for each in $(PYTHONS); do \
		if ! $$each -c '' 2> /dev/null; then echo "$$each is left out: it is not there."; continue; fi; \
		venv=.venv-$$($$each -c 'import sys; print("{}.{}".format(*sys.version_info))'); \
		echo "Setting up $$venv with $$($$each --version); this takes some minutes the first time."; \
		[ -x $$venv/bin/python ] || $$each -m venv $$venv; \
		$$venv/bin/python -m pip install --quiet -e '.[dev]'; \
		$$venv/bin/python -m pytest --basetemp=.run/pytest$$venv $(SIDE_BY_SIDE) --ignore tests/system; \
	done

.PHONY: bench
bench: $(BENCH_READY) ## Measure waiting, lag, archive and imports beside peers, into docs/benchmarks (ARGS="lag", ARGS=--quick)
	@PATH="$(CURDIR)/$(BENCH_VENV)/bin:$$PATH" $(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

.PHONY: cluster
cluster: $(CLUSTER_READY) ## Run the services of docker-compose.yml as processes of this machine, and keep them running
	@$(VENV)/bin/python -m dev.cluster

.PHONY: cluster-stop
cluster-stop: ## Stop a running cluster
	@$(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python -m dev.cluster --stop,echo "Nothing is set up here.")

.PHONY: test-cluster
test-cluster: $(CLUSTER_READY) ## Test docker-compose.yml: Celery, two workers, two triggerers, PostgreSQL, Redis
	@$(VENV)/bin/python -m pytest --basetemp=.run/pytest-cluster --durations 15 $(or $(ARGS),-m 'not nightly' tests/cluster)

.PHONY: test-containers
test-containers: $(CLUSTER_READY) ## Test docker-compose.yml and the Dockerfile on a Docker Engine, this machine's or a private one (root); WRITE=1 keeps the log in docs
	@$(VENV)/bin/python -m dev.containers $(if $(WRITE),--write) $(ARGS)

.PHONY: chaos
chaos: $(CLUSTER_READY) ## Inject faults into services and the API while 200 clips are made (ARGS="--seed 1 2 3")
	@$(VENV)/bin/python -m dev.chaos $(ARGS)

.PHONY: load
load: $(CLUSTER_READY) ## Hold 2,000 clips in flight at once on the cluster, and measure what each service takes (some 20 minutes)
	@$(VENV)/bin/python -m dev.load $(ARGS)

.PHONY: env
env: ## Write .env for docker-compose.yml, with generated secrets
	@$(or $(PYTHON),python3) -m dev.compose.variables

.PHONY: bench-batch
bench-batch: $(READY) ## Measure a batch of 1,000 images: loop, deferrable, killed ten times, 1,000,000 rows, three ways; 14 days of backfill
	@$(VENV)/bin/python -m benchmarks.batch $(ARGS)
	@$(VENV)/bin/python -m benchmarks.ways
	@WAN_FULL_BACKFILL=1 $(VENV)/bin/python -m pytest -s --timeout 7200 --basetemp=.run/pytest tests/system/test_backfill.py

.PHONY: explore
explore: $(READY) ## Let processes die at random moments of random histories (ARGS="--seed 7 --seconds 600")
	@$(VENV)/bin/python -m dev.explore $(ARGS)

.PHONY: explore-claims
explore-claims: $(READY) ## Let hypothesis interleave claims, clocks and wrong answers of the list for a million steps (ARGS="--steps 5000")
	@$(VENV)/bin/python -m dev.explore.many_claims $(ARGS)

.PHONY: model
model: $(READY) ## Search every state of the claim protocol with SPIN (needs spin and a C compiler; ARGS=--write updates the page)
	@$(VENV)/bin/python -m dev.model $(ARGS)

.PHONY: mutants
mutants: $(READY) ## Change the code that decides about money, one place after the other, and count what the tests notice (about an hour)
	@$(VENV)/bin/python -m dev.mutants $(ARGS)

.PHONY: docs
docs: $(DOCS_READY) ## Build the documentation as a site in .run/docs; warnings are errors
	@$(VENV)/bin/python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs .run/docs
	@echo "Built: .run/docs/index.html"

.PHONY: pictures
pictures: $(READY) ## Take the documentation's pictures of the gallery (needs chromium and chromedriver)
	@$(VENV)/bin/python -m dev.docs.pictures

.PHONY: docs-serve
docs-serve: $(DOCS_READY) ## Serve the documentation on a free port, and rebuild it when a page changes
	@$(VENV)/bin/python -m sphinx_autobuild --port 0 --watch airflow_provider_wan docs .run/docs

.PHONY: lint
lint: $(READY) ## Check style, spelling, names, imports, dependencies and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/codespell
	@$(VENV)/bin/python -m dev.naming
	@$(VENV)/bin/lint-imports --no-logo --cache-dir .run/import-linter
	@$(VENV)/bin/deptry airflow_provider_wan dags --no-ansi
	@$(VENV)/bin/mypy

# What decides about money: every line and every branch is tested.
MONEY := airflow_provider_wan/ledger/*,airflow_provider_wan/batch/submitter.py

.PHONY: coverage
coverage: $(READY) ## Measure branch coverage; fails below 100% for the code that decides about money
	@rm -f .run/coverage*
	@COVERAGE_FILE=.run/coverage $(VENV)/bin/python -m pytest -q --basetemp=.run/pytest-coverage $(SIDE_BY_SIDE) \
		-m 'not nightly' --cov --cov-report= $(or $(ARGS),tests/unit tests/integration tests/explore)
	@COVERAGE_FILE=.run/coverage $(VENV)/bin/coverage report
	@COVERAGE_FILE=.run/coverage $(VENV)/bin/coverage html -q -d .run/coverage-html
	@COVERAGE_FILE=.run/coverage $(VENV)/bin/coverage report --include='$(MONEY)' --fail-under=100

.PHONY: audit
audit: $(READY) ## Look for known vulnerabilities in what is installed
	@$(VENV)/bin/pip-audit --skip-editable --progress-spinner off

.PHONY: format
format: $(READY) ## Format the code
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

.PHONY: wheel
wheel: $(READY) ## Build the wheel and import it in an empty environment
	@rm -rf dist .run/wheel-venv
	@$(VENV)/bin/python -m build --wheel --outdir dist . > .run/build.log 2>&1 || { cat .run/build.log >&2; exit 1; }
	@$(PYTHON) -m venv .run/wheel-venv
	@$(VENV)/bin/python -m uv pip install --quiet --python .run/wheel-venv/bin/python dist/*.whl || \
		.run/wheel-venv/bin/python -m pip install --quiet dist/*.whl
	@cd .run && wheel-venv/bin/python ../.ci/check_wheel.py
	@rm -rf .run/wheel-venv

.PHONY: clean
clean: stop cluster-stop ## Remove everything that was made here
	@rm -rf .run .venv .venv-floor .venv-bench .venv-3.* dist build demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
