# Everything that a clone needs, from nothing: `make run` serves, `make test` tests. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= $(firstword $(wildcard $(foreach name,python3 python3.11 python3.12 python3.13,$(shell command -v $(name)))))
BIN := .venv/bin
WORKERS ?= 4
.DEFAULT_GOAL := help
.PHONY: help setup run test test-deep test-real services services-stop check bench stubs lock clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: # at once when nothing changed
	@$(if $(PYTHON),,echo "Prism needs Python 3.11 or newer, and none is on PATH" >&2; exit 1;)$(PYTHON) scripts/bootstrap.py

run: setup ## serve on embedded stores (options: ARGS="--data-dir DIR --http 127.0.0.1:0")
	@exec $(BIN)/prism serve $(ARGS)

test: setup ## the tests, a few minutes (options: ARGS="tests/unit -k name")
	@$(BIN)/python -m pytest -n $(WORKERS) -m "not deep" $(ARGS)

test-deep: setup ## the same with many more examples, and the long crash runs
	@PRISM_TEST_DEEP=1 $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

test-real: setup ## the drivers on real servers, fetched and started for it (options: ARGS, KEEP=1 leaves them running)
	@$(BIN)/python -m scripts.services run $(BIN)/python -m pytest -n $(WORKERS) $(or $(ARGS),tests/real)

services: setup ## start those real servers, print where they are and leave them running
	@$(BIN)/python -m scripts.services start

services-stop: setup ## end them
	@$(BIN)/python -m scripts.services stop

check: setup ## style, types, import directions, generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/generate_stubs.py --check
	@$(BIN)/python scripts/generate_reference.py --check
	@$(BIN)/python scripts/generate_cli_reference.py --check

bench: setup ## measure against bare baselines (options: ARGS="--quick", "--only put", "--json FILE")
	@set -a; [ ! -f .cache/services/environment ] || . .cache/services/environment; $(BIN)/python -m bench $(ARGS)

stubs: setup ## generate the gRPC stubs again from proto/
	@$(BIN)/python scripts/generate_stubs.py

lock: ## choose versions again: requirements.lock from the two pyproject.toml
	@uv lock --quiet --upgrade
	@uv export --quiet --frozen --all-packages --all-groups --no-emit-workspace --no-header --no-annotate -o requirements.lock
	@uv pip compile --quiet --upgrade --generate-hashes --no-header --no-annotate --no-emit-index-url -o scripts/uv.lock.txt - <<< uv

clean: ## remove what was made here; served data is left alone
	@if [ -d .cache/services/run ] && [ -x $(BIN)/python ]; then $(BIN)/python -m scripts.services stop; fi
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
