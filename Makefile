# Needs Python 3.11 or newer with venv, GNU make and git. Everything else goes into .venv, and is set up
# again only when a lock file or pyproject.toml changes.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run test lint type check fmt docs corpus lock clean

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEVELOPMENT := $(VENV)/.development-installed
PYTEST_WORKERS ?= 3
ARGS ?=

help: ## show these targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

run: $(RUNTIME) ## demonstrate the service on this machine; ARGS=--once ends by itself
	@$(BIN)/fas-evidence demo $(ARGS)

test: $(DEVELOPMENT) ## run every test; ARGS are given to pytest
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup $(ARGS)

lint: $(DEVELOPMENT) ## check style, import contracts and the Dockerfile
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/hadolint Dockerfile

type: $(DEVELOPMENT) ## check types
	@$(BIN)/mypy

check: $(DEVELOPMENT) ## check that everything generated is what would be generated now
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/python -m tests.corpus --check

fmt: $(DEVELOPMENT) ## format, and mend what can be mended without thought
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: $(DEVELOPMENT) ## write the generated pages of docs/ again
	@$(BIN)/python docs/generate.py
	@$(BIN)/python -m tests.corpus --docs

corpus: $(DEVELOPMENT) ## compile the test corpus again
	@$(BIN)/python -m tests.corpus

# The pins hold for every supported Python and platform; no index and no path of this machine is written down.
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-config $(ARGS)

lock: $(DEVELOPMENT) ## pin dependencies anew; ARGS=--upgrade takes newer versions
	@$(COMPILE) pyproject.toml --output-file requirements.lock
	@$(COMPILE) --group build --output-file requirements-build.lock
	@$(COMPILE) pyproject.toml --group dev --constraint requirements.lock --constraint requirements-build.lock \
		--output-file requirements-dev.lock

clean: ## remove what make has set up
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(RUNTIME): requirements.lock requirements-build.lock pyproject.toml
	@set -e; \
	found=; \
	for candidate in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    found=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Python 3.11 or newer was not found: install it (Debian 12: apt install python3-venv)," \
	    "or name it: make PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	  echo "$$found has no venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2; \
	  exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$$found" --version) ..."; \
	"$$found" -m venv $(VENV); \
	$(INSTALL) --require-hashes -r requirements.lock -r requirements-build.lock; \
	$(INSTALL) --no-build-isolation --no-deps -e .; \
	touch $@

$(DEVELOPMENT): $(RUNTIME) requirements-dev.lock
	@echo "Adding the tools of development ..."
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@
