# make help lists the targets. Everything runs in .venv, which is made on first use.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo scaling test check bench clean

PY := .venv/bin/python
CHECKED := scsession_secure tests $(wildcard examples) $(wildcard benchmarks)
SNIPPETS := build/snippets
PAGES := $(filter-out docs/your-own-store.md,$(wildcard docs/*.md)) # its second snippet imports the first: tests run both

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

demo: .venv/.demo ## serve the example shop on http://localhost:8000 (PORT=... for another port)
	@exec $(PY) -m examples.shop

scaling: .venv/.demo ## the shop with two workers on Redis, which is installed if that may be done (REDIS_URL=... for yours)
	@[ -n "$$REDIS_URL" ] || command -v redis-server >/dev/null || bash .ci/apt redis-server
	@exec $(PY) -m examples.scaling

test: .venv/.dev ## the whole suite, with coverage, two files at a time (ARGS="-k word" for a part, one by one)
	@bash tests/setup.sh
	$(PY) -m pytest $(or $(ARGS),-n 2 --dist loadfile --cov --cov-report=term-missing:skip-covered)

check: .venv/.dev ## format, lint and types, also of the examples and of the README's code
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m tests.harness.snippets $(SNIPPETS) README.md $(PAGES)
	$(PY) -m mypy $(CHECKED)
	$(PY) -m mypy --config-file= --check-untyped-defs $(SNIPPETS)
	$(PY) -m basedpyright --pythonpath $(PY) $(wildcard examples) $(SNIPPETS)

bench: .venv/.bench .bench/starsessions/.made .bench/litestar/.made ## side by side with peers (ARGS=--quick: a part)
	@bash benchmarks/setup.sh
	$(PY) -m benchmarks.run $(ARGS)

clean: ## remove what the other targets made
	rm -rf .venv .bench .coverage htmlcov dist build .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find scsession_secure tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The stamps hold as long as the list of dependencies and the way to install it are unchanged.
.venv/.%: pyproject.toml .ci/venv
	@bash .ci/venv $*

# Peers that need another version of something have an environment of their own.
.bench/%/.made: benchmarks/peers/%.txt | .venv/.bench
	$(PY) -m venv --clear .bench/$*
	.bench/$*/bin/python -m pip --disable-pip-version-check install --quiet -r $< </dev/null
	@touch $@
