# Everything that a person does with the project; .ci/run calls only these.
# Python 3.11 to 3.13.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
RECIPE ?= recipes/demo.yaml

.PHONY: help setup demo train run check check-data test test-wheel test-live test-ollama bench docs site messages clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 13

setup: .venv/.installed ## create .venv and install the versions in constraints.txt

.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 to 3.13 found; install one: 'brew install python@3.13'" \
		"on a Mac, 'apt install python3 python3-venv' on Debian 12"; exit 4; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (once, about half a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## the whole pipeline on a small real model, from papers to a report
	@$(BIN)/ragtune run recipes/demo.yaml

train: setup ## RECIPE=...: from the papers to the adapter
	@$(BIN)/ragtune train $(RECIPE)

run: setup ## RECIPE=...: all eight stages
	@$(BIN)/ragtune run $(RECIPE)

check: setup ## ruff and mypy --strict
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

check-data: setup ## the shipped papers, pairs and questions, row by row
	@$(BIN)/python -m pytest checks/data

test: setup ## the test suite; needs no server and no network
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-wheel: setup ## build the wheel and the sdist, install the wheel, run it in an empty folder
	@$(BIN)/python -m pytest checks/wheel

test-live: setup ## the tests that need a real Ollama: at OLLAMA_HOST, or an ollama binary on PATH
	@$(BIN)/python -m pytest tests/live -rs
	@test -z "$$OLLAMA_HOST" || $(BIN)/python tests/live/whole_recipes.py

test-ollama: setup ## smoke, and the demo with a few questions, through a stand-in for Ollama
	@env -u OLLAMA_HOST $(BIN)/python tests/live/whole_recipes.py

bench: setup ## the side-by-side measurements (minutes)
	@for f in benchmarks/*.py; do $(BIN)/python $$f || exit; done

docs: setup ## write docs/recipe.md and docs/commands.md from the code
	@$(BIN)/ragtune reference docs

site: setup ## build the documentation into site/; fails on a warning
	@$(BIN)/python -m mkdocs build --strict --quiet

messages: setup ## write every message to tests/messages.txt
	@$(BIN)/python -m tests.message_list

clean: ## remove runs/, builds and caches; .venv stays
	@rm -rf runs ragtune-demo build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
