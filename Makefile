# Everything runs in .venv, which the first target makes; Python 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

.PHONY: demo test test-pacs lint docs offline-kit clean

demo: $(VENV)/.installed  ## Upscale a real CT slice with the embedded checkpoint; see demo-output/
	$(BIN)/python examples/demo.py demo-output

test: $(VENV)/.installed  ## The whole test suite
	$(BIN)/python -m pytest

test-pacs: $(VENV)/.installed  ## Install Orthanc (Debian, Ubuntu), then send to it and listen to it on loopback
	test -x /usr/sbin/Orthanc || { $(SUDO) apt-get update && $(SUDO) apt-get install --yes --no-install-recommends orthanc orthanc-dicomweb; }
	$(BIN)/python -m pytest tests/pacs

lint: $(VENV)/.installed  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed  ## The pages of docs/ as a site, site/index.html; their tables are written anew first
	$(BIN)/python -m tools.docs_tables
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

offline-kit: $(VENV)/.installed  ## dist/offline-kit, from which machines without a network install; KIT="--index URL" for CPU wheels of PyTorch
	$(BIN)/pip install --quiet 'setuptools>=77'
	$(BIN)/python tools/offline_kit.py dist/offline-kit $(KIT)

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo-output site
