# Two commands for a newcomer:
#
#   make demo    from nothing to a thermal conductivity with an error bar (argon, a few minutes)
#   make test    installs what the tests need and runs them
#
# and for those who change something:
#
#   make check   ruff, mypy, import-linter
#   make slow    the long suites: crashes, kills, calibration
#   make crashes ten thousand crashes of a writer, each fully checked (about 20 minutes)
#   make fuzz    files that lie behind right checksums, for MINUTES (5)
#   make peer    the tests against other programs: an object store, the Kaitai compiler, LAMMPS
#   make gpu     on a machine with a CUDA device: what must hold there, and how fast it is
#   make bench   every benchmark, as JSON in benchmarks/results/
#
# PYTHON picks the interpreter (3.11 to 3.13), VENV the folder of the environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check slow crashes fuzz peer gpu bench help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -17

demo: $(VENV)/demo.stamp
	$(BIN)/stepson demo -o demo-argon

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest

check: $(VENV)/check.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m slow

crashes: $(VENV)/test.stamp
	$(BIN)/python benchmarks/crashes.py

peer: $(VENV)/test.stamp
	$(INSTALL) --group peer
	$(BIN)/python -m pytest -m peer

gpu: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m "not peer" tests/gkflux/test_gpu.py tests/gkflux/test_neighbors_gpu.py tests/gkflux/test_device_lists.py \
		tests/gkflux/potentials/test_schnet_triton.py tests/gkflux/dynamics/test_device_noise.py tests/gkflux/dynamics/test_device_steps.py
	$(BIN)/python benchmarks/gpu.py --json benchmarks/results/gpu.json

MINUTES ?= 5
fuzz: $(VENV)/test.stamp
	$(BIN)/python benchmarks/fuzz.py --minutes $(MINUTES)

bench: $(VENV)/bench.stamp
	@for script in $(filter-out benchmarks/crashes.py benchmarks/fuzz.py,$(wildcard benchmarks/*.py)); do echo "$$script"; $(BIN)/python $$script || exit 1; done

$(BIN)/python:
	@echo "Making an environment in $(VENV) with $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/pip.stamp: $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -U "pip>=25.1"
	@touch $@

$(VENV)/demo.stamp: $(VENV)/pip.stamp pyproject.toml constraints.txt
	@echo "Installing stepson and what its dynamics needs (PyTorch is large: minutes, once)"
	$(INSTALL) --editable ".[md]"
	@touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp
	@echo "Installing what the tests need"
	$(INSTALL) --group test
	@touch $@

$(VENV)/check.stamp: $(VENV)/test.stamp
	@echo "Installing what the checks need"
	$(INSTALL) --group lint
	@touch $@

$(VENV)/bench.stamp: $(VENV)/test.stamp
	@echo "Installing the peers that the benchmarks measure beside us"
	$(INSTALL) --editable ".[bench]"
	$(INSTALL) -r benchmarks/requirements-schnetpack.txt
	$(INSTALL) --no-deps schnetpack==2.1.1
	@touch $@
