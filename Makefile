# `make demo` and `make test` are the two commands of the README. Each installs what it needs first; neither needs root.

PYTHON ?= python3
VENV ?= .venv
SERVER_VENV ?= .venv-label-studio
PIP_FLAGS ?= --quiet --disable-pip-version-check
# What `pip install` resolves with. Clear it (CONSTRAINTS=) to try other versions than the tested ones.
CONSTRAINTS ?= -c requirements/constraints.txt
DEMO_OUT ?= ndec-demo
DEMO_FLAGS ?=
TEST_FLAGS ?=

export NDEC_LABEL_STUDIO := $(abspath $(SERVER_VENV))

.PHONY: install demo test lint clean
.DEFAULT_GOAL := install

install: $(VENV)/.installed $(SERVER_VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install $(PIP_FLAGS) $(CONSTRAINTS) -e '.[cpu,annotate,cluster,dev]'
	touch $@

# The Label Studio server pins many packages: it lives in an environment of its own.
$(SERVER_VENV)/.installed: $(VENV)/.installed
	$(VENV)/bin/ndec annotate install
	touch $@

demo: install
	$(VENV)/bin/ndec demo --out $(DEMO_OUT) $(DEMO_FLAGS)

test: install lint
	$(VENV)/bin/python -m pytest $(TEST_FLAGS)

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) $(SERVER_VENV) build dist
