# Two commands set everything up from nothing but Python: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO_OUT ?= demo-report
# Two cores: more workers than that, or more threads in each of them, only wait for each other. A file stays with one
# worker, which makes what its tests share once, and files come in their order: the last ones, of src, are the smallest.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all lint format docs dist clean

# Two audits of the digits that come with scikit-learn: metrics on their pixels, and embedding models trained on half of
# them, naturally and robustly. What is finished is kept: the same command goes on from there.
demo: $(VENV)/.installed
	$(BIN)/certimetric audit digits --jobs 2 --out $(DEMO_OUT)
	$(BIN)/certimetric train configs/digits-natural.toml --out $(DEMO_OUT)/runs/natural --resume
	$(BIN)/certimetric train configs/digits-robust.toml --out $(DEMO_OUT)/runs/robust --resume
	$(BIN)/certimetric audit-model --images digits --model $(DEMO_OUT)/runs/natural --model $(DEMO_OUT)/runs/robust \
		--out $(DEMO_OUT)/embedding-models --title "Audit of embedding models: digits"
	@echo
	@echo "Metrics:          $(DEMO_OUT)/report.html"
	@echo "Embedding models: $(DEMO_OUT)/embedding-models/report.html"

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
	$(BIN)/python tools/gallery.py
	$(BIN)/mkdocs build --strict

# What could be uploaded: the source and a wheel, checked, and the wheel tried in an environment that has nothing else.
dist: $(VENV)/.installed-dev
	$(PIP) install -q -e ".[docs]" -c constraints.txt
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(PYTHON) tools/try_wheel.py dist/*.whl

clean:
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache site dist docs/gallery $(DEMO_OUT)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing certimetric into $(VENV) …"
	$(PIP) install -q -e ".[deep]" -c constraints.txt
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing certimetric and what its tests need into $(VENV) …"
	$(PIP) install -q -e ".[dev]" -c constraints.txt
	@touch $@ $(VENV)/.installed
