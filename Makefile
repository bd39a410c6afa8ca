# make demo     three nodes on this machine index the standard library; their coordinator is killed half way
# make drill    twenty nodes lose their coordinators in every way, for six minutes; nothing acknowledged is lost
# make test     everything that is tested
# make check    the fast part, before each commit
# make bench    what a task costs, beside Dask, Ray and others in the same run, as far as `make bench-peers` got them
# make mutants  deliberate mistakes in the safety code, each of which a test must notice

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Tests within one process take their time from each other without harm; those with real ones would not. A search of the
# model is a process, too, but one that nobody waits for with a clock.
AT_ONCE := --numprocesses logical --dist worksteal
ALONE := real or root

.PHONY: demo drill test check bench bench-peers mutants clean

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
	@$(BIN)/python -m pytest $(AT_ONCE) -m "not ($(ALONE))"
	@$(BIN)/python -m pytest -m "$(ALONE)"

check: $(VENV)/ready
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@$(BIN)/python -m pytest -q $(AT_ONCE) -m "not ($(ALONE) or model or long)"

bench: $(VENV)/ready
	@$(BIN)/python -m benchmarks

# Apart from everything else, so that nothing of theirs gets in the way of what jcpeer is pinned to.
bench-peers: .venv-bench/ready

.venv-bench/ready: benchmarks/requirements.txt
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

mutants: $(VENV)/ready
	@$(BIN)/python -m tests.mutants

clean:
	rm -rf $(VENV) .venv-bench build *.egg-info
