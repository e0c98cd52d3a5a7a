# The two commands of the README: `make run` and `make test`. Both set up `.venv` from the lock first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
CONFIG ?=

.PHONY: run studies test test-slow conformance harness install lint snapshot restore reference bench bench-merge clean

run: install
	$(BIN)/snakemake --cores $(CORES) $(if $(CONFIG),--config $(CONFIG))

# All five studies, one after another; `make run` is the first of them.
STUDIES := translation,pretraining,maintenance,growth,distance

studies: install
	$(BIN)/snakemake --cores $(CORES) --config studies=$(STUDIES) $(CONFIG)

install: $(VENV)/.installed

$(VENV)/.installed: envs/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Langmerge needs Python 3.11 or later; name one with `make PYTHON=python3.12 ...`")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Whole files to a worker, so that what a file's tests share is made once.
test: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-slow: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m slow

# mergekit with peft, and FusionBench, in environments of their own: they pin what this project does not.
PEERS := .venv-peers

$(PEERS)/.installed:
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check mergekit==0.1.5 peft==0.21.2
	@touch $@

FUSION_BENCH := .venv-fusion-bench

$(FUSION_BENCH)/.installed:
	$(PYTHON) -m venv $(FUSION_BENCH)
	$(FUSION_BENCH)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(FUSION_BENCH)/bin/python -m pip install --quiet --disable-pip-version-check fusion-bench==0.2.33
	@touch $@

# lm-evaluation-harness, which scores `evaluation.harness`, in an environment of its own as well.
HARNESS := .venv-harness

harness: $(HARNESS)/.installed

$(HARNESS)/.installed:
	$(PYTHON) -m venv $(HARNESS)
	$(HARNESS)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(HARNESS)/bin/python -m pip install --quiet --disable-pip-version-check "lm-eval[hf]==0.4.13"
	@touch $@

conformance: install $(PEERS)/.installed $(FUSION_BENCH)/.installed $(HARNESS)/.installed
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive LANGMERGE_PEERS=$(abspath $(PEERS))/bin/python \
	LANGMERGE_FUSION_BENCH=$(abspath $(FUSION_BENCH))/bin/python \
	LANGMERGE_HARNESS=$(abspath $(HARNESS))/bin/python $(BIN)/python -m pytest -m conformance tests/conformance

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

reference: install
	$(BIN)/python -m langmerge.reference

bench: install
	OMP_WAIT_POLICY=passive $(BIN)/python benchmarks/training.py

bench-merge: install $(PEERS)/.installed
	$(BIN)/python benchmarks/merge/compare.py --mergekit $(PEERS)/bin/mergekit-yaml

snapshot: install
	$(BIN)/python -m langmerge.snapshot save

restore: install
	$(BIN)/python -m langmerge.snapshot restore

clean:
	rm -rf work .snakemake/log
