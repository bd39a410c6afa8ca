# make demo     three nodes on this machine index the standard library; their coordinator is killed half way
# make drill    twenty nodes lose their coordinators in every way, for six minutes; nothing acknowledged is lost
# make test     everything that is tested
# make check    the fast part, before each commit
# make bench    tasks a second, beside concurrent.futures in the same run; and what copies of the journal cost
# make mutants  deliberate mistakes in the safety code, each of which a test must notice

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo drill test check bench mutants clean

$(VENV)/ready: requirements.txt setup.cfg pyproject.toml
	@./.ci/setup $(PYTHON) $(VENV)
	@touch $@

demo: $(VENV)/ready
	@$(BIN)/python examples/demo.py

drill: $(VENV)/ready
	@$(BIN)/python examples/drill.py

test: $(VENV)/ready
	@./.ci/system-packages
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@$(BIN)/python -m pytest

check: $(VENV)/ready
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@$(BIN)/python -m pytest -q -m "not real and not root and not model"

bench: $(VENV)/ready
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.replication

mutants: $(VENV)/ready
	@$(BIN)/python -m tests.mutants

clean:
	rm -rf $(VENV) build *.egg-info
