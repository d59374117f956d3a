.DEFAULT_GOAL := help
.PHONY: help setup browser demo test test-slow faults lint format bench train-small lock clean
SHELL := bash
RUN := .venv/bin/

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: ## .venv with the locked dependencies, and the Spark jars (once; then nothing)
	@bash infra/setup.sh

browser: ## Chromium, which the tests of the search page need (Debian, as root; else it says what to install)
	@bash infra/browser.sh

demo: setup ## documentation of the installed packages -> curate -> embed -> publish -> four searches
	@$(RUN)embedlake demo

test: setup ## the tests, without the slow ones (a seeded sample of those where CI is set)
	@$(RUN)python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-slow: setup ## the slow tests
	@$(RUN)python -m pytest -m slow $(PYTEST_ARGS)

lint: setup ## ruff and mypy --strict
	@$(RUN)ruff check .
	@$(RUN)ruff format --check .
	@$(RUN)mypy

format: setup ## apply ruff's fixes and formatting
	@$(RUN)ruff check --fix .
	@$(RUN)ruff format .

faults: setup ## 100 seeded schedules of faults, on both kinds of lake; stops at the first that is not exact
	@$(RUN)python -m tests.faults --seed $(or $(SEED),0) --runs $(or $(RUNS),100)

bench: setup ## one benchmark per stage: rows/s, tokens/s, peak memory (figures: tests/benchmarks/RESULTS.md)
	@$(RUN)python -m tests.benchmarks

train-small: setup ## real weak pairs to Matryoshka models on two cores, hours; goes on where it was stopped
	@$(RUN)python -m tests.benchmarks.small

lock: setup ## resolve the dependencies anew, with hashes and without an index address
	@uv=$$(command -v uv || echo .uv/bin/uv); \
	$$uv pip compile -q --upgrade --python-version 3.11 --generate-hashes pyproject.toml -o requirements.lock; \
	$$uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --extra dev pyproject.toml -o requirements-dev.lock

clean: ## remove the environment and what the demo made
	@rm -rf .venv .uv embedlake-data
