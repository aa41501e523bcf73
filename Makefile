# Set-up: a virtual environment in .venv with the versions of requirements.lock, made when a target first needs it.
# Variables: PYTHON (interpreter of a new .venv), SPACE and ARGS (make tune SPACE=my.yaml ARGS="--trials 8"), and
# whatever pip reads from the environment, for instance PIP_EXTRA_INDEX_URL.

PYTHON ?= python3
SPACE ?= configs/space.yaml
ARGS ?=
FUZZ_SECONDS ?= 60
PIP_AUDIT ?= $(or $(wildcard .venv/bin/pip-audit),pip-audit)
UV ?= $(or $(wildcard .venv/bin/uv),uv)

BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check
STAMP := .venv/.installed
INCOMPLETE := .venv/.incomplete
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

# A search over a private log does not call home, unless its owner wants it to.
export MLFLOW_DISABLE_TELEMETRY ?= true
export RAY_USAGE_STATS_ENABLED ?= 0

# Tests run in two processes, on one thread each. Those of a file that start Ray stay together (tests/conftest.py); a
# search waits more than it computes, so two at once lose little.
# Ray ends a process whose local Ray dies while it starts, without an exception (its core worker calls _exit). Pytest then
# names the test that ran and runs it once more in a new process. No test that fails is run again: the pattern matches no
# test's failure.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --durations 10 --reruns 1 --only-rerun "the process ended"

.PHONY: help fuzz mutants audit tune test slow-test data-test team-test browser-test faults bench bench-search lint format lock ui clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

tune: $(STAMP)  ## run the search of SPACE (configs/space.yaml) with ARGS
	@$(BIN)/python -m search.tune --space $(SPACE) $(ARGS)

test: $(STAMP)  ## run the tests that need nothing but the project
	@$(PYTEST) $(ARGS)

slow-test: $(STAMP)  ## run the tests of more than a few seconds
	@$(PYTEST) -m "slow and not data and not gpu and not postgres and not browser" $(ARGS) || [ $$? -eq 5 ]

data-test: $(STAMP)  ## run the tests on the real logs in ../shared/data
	@$(PYTEST) -m "data and not gpu and not postgres and not browser" $(ARGS) || [ $$? -eq 5 ]

team-test: $(STAMP)  ## run the tests of mlflow/serve.sh on a PostgreSQL of their own (Debian: apt-get install postgresql)
	@$(PYTEST) -m "postgres and not slow" $(ARGS)

browser-test: $(STAMP)  ## run the tests of the pages in a real browser (Debian: apt-get install chromium)
	@$(PYTEST) -n 0 -m "browser and not slow" $(ARGS)

faults: $(STAMP)  ## kill searches at random moments and count what that lost (ARGS: --kills, --seed)
	@$(BIN)/python -m tests.faults $(ARGS)

# Both tools are for a developer's machine and not in the lock: .venv/bin/pip install atheris mutmut
fuzz: $(STAMP)  ## try a thousand machine-made inputs on every reader and law, then look for more with atheris
	@$(PYTEST) -m hypothesis --hypothesis-profile long $(ARGS)
	@if $(BIN)/python -c "import atheris" 2>/dev/null; then \
		for kind in log spec journal checkpoint; do $(BIN)/python -m tests.fuzz $$kind --seconds $(FUZZ_SECONDS) || exit 1; done; \
	else echo "atheris is not installed and was left out: $(BIN)/pip install atheris"; fi

mutants: $(STAMP)  ## change the gate and the statistics in every place and count the changes that no test notices
	@$(BIN)/python -c "import mutmut" 2>/dev/null || { echo "make: mutants needs mutmut: $(BIN)/pip install mutmut" >&2; exit 1; }
	@OMP_NUM_THREADS=1 $(BIN)/mutmut run $(ARGS) && $(BIN)/mutmut results

audit:  ## look the packages of requirements.lock up in PyPI's list of vulnerabilities (needs pip-audit)
	@command -v $(PIP_AUDIT) >/dev/null || { echo "make: audit needs pip-audit: pip install pip-audit" >&2; exit 1; }
	@$(PIP_AUDIT) --requirement requirements.lock --no-deps --disable-pip --strict $(ARGS)

bench: $(STAMP)  ## measure times and memory and write docs/performance.md (ARGS: names, --quick, --out)
	@$(BIN)/python -m tests.benchmarks $(ARGS)

bench-search: $(STAMP)  ## replay searches by every sampler on real measurements (ARGS: --space, --seeds, --page, ...)
	@$(BIN)/python -m tests.benchmarks.search $(ARGS)

lint: $(STAMP)  ## check lint, format, types and the import contract
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP)  ## put imports and layout right
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

ui: $(STAMP)  ## show the searches of this folder in MLflow, on 127.0.0.1:5000
	@$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db $(ARGS)

# The marker outlives a set-up only when that was killed or interrupted: half an environment is thrown away. What pip
# refused (no network, say) leaves the environment as it was, to be updated. The stamp comes last, so make repeats
# whatever did not reach the end.
$(STAMP): requirements.lock pyproject.toml
	@if [ -e $(INCOMPLETE) ] || ! $(BIN)/python -c "import pip; $(SUPPORTED)" 2>/dev/null; then \
		$(PYTHON) -c "$(SUPPORTED)" 2>/dev/null || { \
			echo "make: $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not there);" \
				"Python 3.11, 3.12 or 3.13 is needed, for instance: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }; \
		echo "Creating .venv with $$($(PYTHON) --version)"; \
		rm -rf .venv && mkdir .venv && touch $(INCOMPLETE) && $(PYTHON) -m venv .venv; \
	fi
	@touch $(INCOMPLETE)
	@echo "Installing the packages of requirements.lock into .venv (minutes, about 2 GB, the first time)"
	@$(PIP_INSTALL) -r requirements.lock && \
		$(PIP_INSTALL) --no-deps --no-build-isolation -e .; \
		status=$$?; rm -f $(INCOMPLETE); exit $$status
	@touch $@

define LOCK_HEAD
# What `make` installs: every package, for Python 3.11 to 3.13, with the tools of the extra `dev`. Made by `make lock`
# (needs uv: pip install uv), which keeps these versions where pyproject.toml allows them; `make lock ARGS=--upgrade`
# moves them all, ARGS="--upgrade-package NAME" one.
# torch stands here with the requirements of its CPU build ([[tool.uv.dependency-metadata]] in pyproject.toml). Where
# pip finds only the CUDA build, it adds that build's own requirements by itself; to get the CPU build there, set
# PIP_EXTRA_INDEX_URL to PyTorch's CPU index.
endef
export LOCK_HEAD

# uv takes the present pins from the file it writes to; the lock changes only when the whole resolution succeeded.
lock:  ## resolve pyproject.toml into requirements.lock
	@command -v $(UV) >/dev/null || { echo "make: lock needs uv: pip install uv, or UV=path/to/uv" >&2; exit 1; }
	@new=$$(mktemp) && trap 'rm -f "$$new" "$$new.all"' EXIT && { cp requirements.lock "$$new" 2>/dev/null || true; } \
		&& $(UV) pip compile --quiet --universal --python-version 3.11 --extra dev --no-header \
			--annotation-style line --output-file "$$new" $(ARGS) pyproject.toml >/dev/null \
		&& { printf '%s\n' "$$LOCK_HEAD"; cat "$$new"; } > "$$new.all" && cat "$$new.all" > requirements.lock

clean:  ## remove .venv and every cache; keeps runs/ and mlflow.db
	rm -rf .venv build dist *.egg-info .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis mutants
	find etarec search tests -name __pycache__ -type d -prune -exec rm -rf {} +
