# Two commands do everything: `make demo` and `make test`. Each sets up what it needs in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint bench bench-no-retraining bench-distillation setup lock clean

demo: setup  ## run the main job on real input and print the table
	$(BIN)/python cli.py run recipes/quickstart.yaml

test: setup  ## pass the tests, two at a time with one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: setup  ## pass those that `make test` leaves out
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m slow

lint: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## time the toolkit itself and print one table
	$(BIN)/python -m bench.speed

bench-no-retraining: setup  ## accuracy without retraining beside the peers, each in its own environment; hours
	$(BIN)/python -m bench.no_retraining

bench-distillation: setup  ## time distillation beside TextBrewer and a plain loop; hours
	$(BIN)/python -m bench.distillation_speed

setup: $(VENV)/.done

$(VENV)/.done: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("compress needs Python 3.11 or newer, this is %d.%d: make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

lock:  ## write requirements.lock from what is installed
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^compress-transformers' | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf $(VENV) runs
