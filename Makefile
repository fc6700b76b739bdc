# Two commands do everything: `make quickstart` and `make test`. Both make the environment first, if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TWO := -n 2 --dist loadfile  # two at a time, the tests of one file together: they share what is costly to make
TYPED := -p sim -p clients -p server -p edge -p attacks

.PHONY: quickstart test test-slow check install lock readme clean

quickstart: $(READY)
	$(BIN)/seepage run scenarios/quickstart.toml

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" $(TWO)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow $(TWO)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports

install: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Resolve pyproject.toml into requirements.lock again. Addresses of package indexes stay out of the file.
lock:
	$(BIN)/pip-compile --quiet --extra dev --strip-extras --allow-unsafe --resolver backtracking \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --output-file requirements.lock pyproject.toml
	sed -i 's/+cpu$$//' requirements.lock  # the same version: a build tag of one machine is not part of the lock

# Put the quickstart's real table and a picture of its report into the README.
readme: quickstart
	$(BIN)/python docs/refresh.py $$(ls -td runs/quickstart-* | head -1)

clean:
	rm -rf $(VENV)
