# Everything runs in .venv, which the first target makes; Python 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

.PHONY: demo test test-pacs lint constraints docs offline-kit clean

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

constraints: $(VENV)/.installed  ## Resolve the oldest and the newest versions that the continuous tests install; nothing is installed here
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --extra dev -c constraints/oldest.txt --python-version 3.11 pyproject.toml > /dev/null
	$(BIN)/uv pip compile --quiet --extra dev -c constraints/newest.txt --python-version 3.13 pyproject.toml > /dev/null

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
