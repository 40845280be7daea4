# make demo   install, train on the default corpus, generate
# make test   install with the test tools, run the whole suite
# make check  ruff and mypy
# Both honour an active virtual environment; otherwise they make .venv here.

PYTHON ?= python3
ifdef VIRTUAL_ENV
VENV := $(VIRTUAL_ENV)
else
VENV := .venv
endif
BIN := $(VENV)/bin

.PHONY: demo test check install install-dev clean

demo: install
	$(BIN)/toolkit train --tokenizer bpe
	$(BIN)/toolkit generate "ROMEO:"

test: install-dev
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.toolkit-installed

install-dev: $(VENV)/.toolkit-installed-dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.toolkit-installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.toolkit-installed-dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/.toolkit-installed

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
