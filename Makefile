# Everything a developer does here. `make run` and `make test` set themselves up on a fresh clone.
#
# PYTHON=python3.12 make test    another interpreter (give it its own VENV=.venv-3.12 to keep both)

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
TOOLS  := .venv-tools
JOBS   ?= auto
SESSIONS ?= 1000000

UV_LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url

.DEFAULT_GOAL := help
.PHONY: help run compiled test suite test-all tools check fmt docs pages lock clean bench bench-quick bench-setup soak

help:  ## what there is to make
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: compiled  ## a node with sample services, in a scratch directory; Ctrl-C ends it
	$(BIN)/harbor demo

compiled: $(STAMP)  ## machine code of the data path, if there is a C compiler; Harbor runs without it, only slower
	@$(BIN)/python hatch_build.py

test: check suite  ## lint, types and every test

suite: compiled  ## every test, and those of the data path once more on its machine code
	$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8
	@HARBOR_PURE=0 $(BIN)/python -c 'import harbor, sys; sys.exit(not harbor.is_compiled)' || exit 0; \
		HARBOR_PURE=0 $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 tests/dataplane tests/policy/http tests/applications

test-all:  ## the suite on every Python that is installed and new enough, each in its own environment
	@failed=; for python in $$(./.ci/pythons); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "== Python $$version ($$python)"; \
		$(MAKE) --no-print-directory PYTHON=$$python VENV=.venv-$$version suite || failed="$$failed $$version"; \
	done; test -z "$$failed" || { echo "failed on Python:$$failed" >&2; exit 1; }

tools: $(TOOLS)/.installed  ## programs for tests that no distribution has; apart, with dependencies of their own

check: $(STAMP)  ## ruff, mypy, bandit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive --confidence-level medium --configfile pyproject.toml harbor

fmt: $(STAMP)  ## format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## the documentation, in docs/_build/html, and the man page
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	$(BIN)/sphinx-build -q -W --keep-going -b man docs docs/_build/man
	@echo "docs/_build/html/index.html, docs/_build/man/harbor.1"

pages: $(STAMP)  ## the pages and schema that are generated from the code
	$(BIN)/python -m harbor.config.schema docs/harbor.schema.json
	$(BIN)/python -m harbor.config.reference docs/reference/configuration.md
	PYTHONPATH=tests:. $(BIN)/python -m conformance.page docs/conformance.md

bench: bench-setup  ## every row beside every peer, three rounds: over an hour; BENCH="--rows connect --rounds 5" for less
	$(BIN)/python -m benchmarks $(BENCH)

bench-quick: bench-setup  ## one of most kinds, one round: under two minutes
	$(BIN)/python -m benchmarks --quick $(BENCH)

soak: compiled  ## a million sessions with random faults, after which nothing may be left; SESSIONS=100000 for less
	$(BIN)/python -m benchmarks.soak $(SESSIONS)

bench-setup: compiled  ## the load generator (needs gcc), and the peers as far as they can be installed
	@$(BIN)/python -m benchmarks.setup

lock:  ## requirements.lock and .ci/tools.lock anew (needs uv)
	$(UV_LOCK) --all-extras pyproject.toml -o requirements.lock
	$(UV_LOCK) .ci/tools.in -o .ci/tools.lock

clean:  ## away with everything that was made
	rm -rf harbor/_compiled $(VENV) .venv .venv-* build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find harbor tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# Harbor itself is installed without build isolation, so that nothing outside the lock is ever fetched.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' 2>/dev/null || { \
		echo "Harbor needs Python 3.11.5 or newer (CVE-2023-40217); $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo missing)." >&2; \
		better=$$(./.ci/pythons | sed -n 1p); \
		echo "Name another one: make PYTHON=$${better:-/path/to/python3.12} $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(TOOLS)/.installed: .ci/tools.lock
	@test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@
