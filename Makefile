# Dinghuo. `make demo` shows it, `make test` proves it. Needs Python 3.11 to 3.13, git and make.

PYTHON ?= python3.11
BIN    := .venv/bin
STAMP  := .venv/setup-done
# System certificates: behind a company's proxy uv's own list knows less than the machine does.
UV     := UV_SYSTEM_CERTS=1 UV_HTTP_TIMEOUT=120 UV_HTTP_RETRIES=5 $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python

# A download that breaks half-way is tried again twice: what had arrived is kept in uv's cache.
define retry
for pause in 5 15 0; do $(1) && exit 0; [ $$pause = 0 ] || { echo "trying again in $$pause s" >&2; sleep $$pause; }; done; exit 1
endef

.DEFAULT_GOAL := help
.PHONY: help setup demo test prove check format bench lock

help: ## what can be made here
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## create .venv and install everything in it (does nothing when it is up to date)

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "installing into .venv: about 1.6 GB, a minute or two"
	@[ -x $(BIN)/uv ] || $(PYTHON) -m venv .venv
	@[ -x $(BIN)/uv ] || { $(call retry,$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 5 "uv>=0.9$(comma)<1"); }
	@$(call retry,$(UV) --requirements requirements.lock)
	@$(UV) --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
	@echo "installed in .venv"

demo: setup ## build the demo company in ./demo, run the daily job and open the app
	@$(BIN)/dinghuo demo

test: setup ## run every test at small counts, on SQLite and on PostgreSQL
	@$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

prove: setup ## run the stated counts in the background; results in benchmarks/RESULTS.md
	@mkdir -p run
	@nohup $(BIN)/python -m scripts.prove > run/prove.log 2>&1 < /dev/null & \
	echo "running in the background as process $$!; log: run/prove.log, results: benchmarks/RESULTS.md"

check: setup ## formatting, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: setup ## put the code into the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## measure placing an order on both databases
	@$(BIN)/python -m benchmarks.place_order $(ARGS)

lock: setup ## resolve the newest versions the ranges allow into requirements.lock
	@UV_SYSTEM_CERTS=1 $(BIN)/uv pip compile --quiet --upgrade pyproject.toml --all-extras --universal --python-version 3.11 --no-header --no-annotate --output-file requirements.lock

comma := ,
