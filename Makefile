# Everything runs in .venv, which the first target makes; Python 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all lint clean

demo: $(VENV)/.installed  ## Upscale a real CT slice with the embedded checkpoint; see demo-output/
	$(BIN)/python examples/demo.py demo-output

test: $(VENV)/.installed  ## The whole test suite
	$(BIN)/python -m pytest

lint: $(VENV)/.installed  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo-output
