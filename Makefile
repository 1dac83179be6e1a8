# Every target sets up what it needs in $(VENV); `make serve` needs Node.js 20 or newer as well.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

PAGE := src/segvol_gru/interfaces/server/static/index.html

.PHONY: demo serve page page-test picture test test-slow lint types bench

demo: $(VENV)/.demo
	$(BIN)/segvol-gru demo

# The server with its page; it prints the address to open.
serve: $(VENV)/.serve $(PAGE)
	$(BIN)/segvol-gru serve

page: $(PAGE)

page-test: page/node_modules/.package-lock.json
	cd page && npm run --silent types && npm test --silent

# The picture of the README, with the weights in the package.
picture: demo
	cp demo/left-thalamus.png docs/demo.png

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/mypy benchmarks/*.py

bench: $(VENV)/.dev
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	$(PIP) install "$(TORCH)"
	touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(PIP) install --editable ".[demo]"
	touch $@

$(VENV)/.serve: $(VENV)/.torch pyproject.toml
	$(PIP) install --editable ".[server,demo]"
	touch $@

$(PAGE): page/node_modules/.package-lock.json $(wildcard page/*.* page/src/* page/licences/*)
	cd page && npm run --silent build

page/node_modules/.package-lock.json: page/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: install Node.js 20 or newer."; exit 1; }
	cd page && npm ci --silent
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) install --group dev --editable ".[demo,train,evaluate,server,postgresql,client]"
	touch $@
