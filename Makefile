# Two commands set everything up from nothing but Python: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO_OUT ?= demo-report
# Two cores: more workers than that only wait for each other.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup

.PHONY: demo test test-all lint format docs clean

demo: $(VENV)/.installed
	$(BIN)/certimetric audit digits --out $(DEMO_OUT)

test: $(VENV)/.installed-dev
	$(PYTEST)

# Everything that `make test` leaves out because it is slow, too.
test-all: $(VENV)/.installed-dev
	$(PYTEST) -m "slow or not slow"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-dev
	$(PIP) install -q -e ".[docs]" -c constraints.txt
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache site dist $(DEMO_OUT)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing certimetric into $(VENV) …"
	$(PIP) install -q -e . -c constraints.txt
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing certimetric and what its tests need into $(VENV) …"
	$(PIP) install -q -e ".[dev]" -c constraints.txt
	@touch $@ $(VENV)/.installed
