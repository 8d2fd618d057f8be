# Two commands: `make demo` and `make test`. Each makes .venv and installs what it needs, once.
#
#   PYTHON=python3.12   another interpreter (3.11 or newer)
#   TORCH=torch==2.9.1  another torch than constraints.txt pins, for an older NVIDIA driver (README, "Which torch")

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
RECIPE := pyproject.toml constraints.txt Makefile

.PHONY: demo test install clean

demo: $(VENV)/.installed
	$(BIN)/aozora-tui demo

test: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

install: $(VENV)/.installed

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

$(VENV)/.made: Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or say which with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "python -m venv failed: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/constraints.txt: $(VENV)/.made constraints.txt
	sed 's/^torch==.*/$(or $(TORCH),&)/' constraints.txt > $@

$(VENV)/.installed: $(VENV)/constraints.txt $(RECIPE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $< -e .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[test]'
	@touch $@
