# `make demo` and `make test` are the two commands of the README. Both install what they need first, without root.

PYTHON ?= python3
VENV ?= .venv
SERVER_VENV ?= .venv-label-studio
PIP_FLAGS ?= --quiet --disable-pip-version-check
# Version constraints for `pip install`. Set CONSTRAINTS= to try other versions than the tested ones.
CONSTRAINTS ?= -c requirements/constraints.txt
DEMO_OUT ?= ndec-demo
DEMO_FLAGS ?=
TEST_FLAGS ?=

export NDEC_LABEL_STUDIO := $(abspath $(SERVER_VENV))
# Compiled modules are kept, as by default: the tests start Python a hundred times.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test quick lint docs test-lowest audit clean
.DEFAULT_GOAL := install

install: $(VENV)/.installed $(SERVER_VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements/constraints.txt
	@echo "installing ndec and its dependencies into $(VENV); pip prints nothing for some minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install $(PIP_FLAGS) $(CONSTRAINTS) -e '.[cpu,annotate,cluster,docs,dev]' \
	  || { echo "pip could not install it; run \`make install PIP_FLAGS=\` to see its output"; exit 1; }
	@touch $@

# The Label Studio server pins many packages, so it has its own environment.
$(SERVER_VENV)/.installed: $(VENV)/.installed
	@$(VENV)/bin/ndec annotate install
	@touch $@

demo: install
	$(VENV)/bin/ndec demo --out $(DEMO_OUT) $(DEMO_FLAGS)

# Four parts side by side, because tests with a server or a browser mostly wait, and others sometimes do. Each module
# belongs to one part, so that it is loaded once; the parts take about as long as each other. The linters run next to
# them. The last part prints as it goes, the rest at the end. TEST_FLAGS: options such as -k, not paths.
SERVED = $(shell grep -rlE 'mark\.(server|browser)' --include='test_*.py' tests)
FOLDERS := $(addprefix tests/,candidates core edits embeddings faults)
test: install
	@out=$$(mktemp -d); $(MAKE) --no-print-directory lint >"$$out/0" 2>&1 & lint=$$!; \
	  run() { $(VENV)/bin/python -m pytest $(TEST_FLAGS) "$$@" 2>&1; }; \
	  run tests/annotation >"$$out/1" & first=$$!; \
	  run $(filter-out tests/annotation/%,$(SERVED)) tests/manifests >"$$out/2" & second=$$!; \
	  run $(addprefix --ignore=,$(SERVED)) $(FOLDERS) >"$$out/3" & third=$$!; \
	  run $(addprefix --ignore=,$(SERVED) $(FOLDERS) tests/annotation tests/manifests) tests; codes=$$?; \
	  for part in $$lint $$third $$second $$first; do wait $$part; codes="$$codes $$?"; done; \
	  cat "$$out"/*; rm -rf "$$out"; \
	  for code in $$codes; do case $$code in 0|5) ;; *) exit 1 ;; esac; done  # 5: TEST_FLAGS selects none of a part

# A minute while you write, on two cores: two halves of the fast tests side by side. No servers, browser, cluster,
# network or kills. Mark a test `slow` that takes more than 0.15 s of CPU time. Modules with such tests only are not loaded.
LEFT_OUT := slow or server or browser or cluster or network or gpu
NOT_QUICK = $(shell grep -rlE '^pytestmark = .*mark\.($(subst $() or ,|,$(LEFT_OUT)))\b' --include='test_*.py' tests)
HALF := tests/annotation tests/core
quick: $(VENV)/.installed
	@run() { $(VENV)/bin/python -m pytest -q -m "not ($(LEFT_OUT))" $(TEST_FLAGS) $(addprefix --ignore=,$(NOT_QUICK)) "$$@"; }; \
	  run $(HALF) & first=$$!; \
	  run $(addprefix --ignore=,$(HALF)) tests; second=$$?; wait $$first && exit $$second

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/mypy

# Tests with the lowest versions that pyproject.toml allows, without Label Studio and a browser.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) requirements/make_lowest.py > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install $(PIP_FLAGS) -c .venv-lowest/lowest.txt -e '.[cpu,formats,hashes,onnx]' \
	  pytest pytest-timeout hypothesis datasets mlcroissant onnx
	$(PYTHON) tests/faults/lowest.py --python .venv-lowest/bin/python

# Prints a report and never fails; without a network it says so.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install $(PIP_FLAGS) pip-audit
	-.venv-audit/bin/pip-audit --progress-spinner off --disable-pip --no-deps -r requirements/constraints.txt

# Builds the docs site into build/site and checks its links; `mkdocs serve` shows it while you write.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(VENV)/bin/mkdocs build --strict

clean:
	rm -rf $(VENV) $(SERVER_VENV) .venv-lowest .venv-audit build dist
