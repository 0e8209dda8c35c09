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

.PHONY: install demo test lint docs test-lowest audit clean
.DEFAULT_GOAL := install

install: $(VENV)/.installed $(SERVER_VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements/constraints.txt
	@echo "installing ndec and what it needs into $(VENV); pip says nothing for some minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install $(PIP_FLAGS) $(CONSTRAINTS) -e '.[cpu,annotate,cluster,docs,dev]' \
	  || { echo "pip could not install it; \`make install PIP_FLAGS=\` lets pip say more"; exit 1; }
	@touch $@

# The Label Studio server pins many packages: it lives in an environment of its own.
$(SERVER_VENV)/.installed: $(VENV)/.installed
	@$(VENV)/bin/ndec annotate install
	@touch $@

demo: install
	$(VENV)/bin/ndec demo --out $(DEMO_OUT) $(DEMO_FLAGS)

test: install lint
	$(VENV)/bin/python -m pytest $(TEST_FLAGS)

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/mypy

# The lower bounds of pyproject.toml, in an environment of their own: what needs no Label Studio and no browser.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) requirements/make_lowest.py > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install $(PIP_FLAGS) -c .venv-lowest/lowest.txt -e '.[cpu]' \
	  pytest pytest-timeout hypothesis datasets mlcroissant scikit-learn onnx onnxruntime
	$(PYTHON) tests/faults/lowest.py --python .venv-lowest/bin/python

# A report, never a verdict: without a network it says so and ends well.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install $(PIP_FLAGS) pip-audit
	-.venv-audit/bin/pip-audit --progress-spinner off --disable-pip --no-deps -r requirements/constraints.txt

# The docs site, with strict links, into build/site; `mkdocs serve` shows it while you write.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(VENV)/bin/mkdocs build --strict

clean:
	rm -rf $(VENV) $(SERVER_VENV) .venv-lowest .venv-audit build dist
