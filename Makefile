# The index of habits. `make help` lists them. Everything installs into .venv, from locked requirements.

PYTHON ?= python3
KMS ?= local
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUN_DIR := .run
PROTOS := $(wildcard protos/sidekey/v1/*.proto)
PROJECTS := pyproject.toml clients/python/pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo run test soak reliability lint fix protos bench lock clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(VENV)/.demo  ## Encrypt a real table of 336,776 rows and prove it (KMS=aws: against the AWS KMS API on loopback)
	@$(BIN)/python -m examples.demo --kms $(KMS)

run: $(VENV)/.demo  ## Serve in the foreground, on .run/sidekey.sock
	@echo 'Serving until Ctrl-C. In another terminal, $(BIN)/python:'
	@echo '  import sidekey; client = sidekey.Client("unix://$(abspath $(RUN_DIR))/sidekey.sock")'
	@echo '  client.decrypt(client.encrypt([b"123-45-6789", None]))'
	@exec $(BIN)/sidekey serve --data-dir $(abspath $(RUN_DIR))

test: $(VENV)/.dev  ## Run all tests
	@$(BIN)/python -m pytest

soak: $(VENV)/.dev  ## Ten minutes of load that watches memory, then thousands of kills and races of fleets
	@$(BIN)/python -m bench soak --minutes 10
	@SIDEKEY_SOAK=1 $(BIN)/python -m pytest tests/fleet tests/fleet_model

reliability: $(VENV)/.dev  ## Do every fault to real processes, and write docs/reliability.md
	@$(BIN)/python -m tests.faults --write

lint: $(VENV)/.dev $(VENV)-protos/.done  ## Check style, types, the direction of imports, the contract and its stubs
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/buf lint protos
	@$(BIN)/python -m tools.protos --check

fix: $(VENV)/.dev  ## Format, and mend what can be mended by itself
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

protos: $(VENV)/.dev $(VENV)-protos/.done  ## Generate the stubs from the contract
	@$(BIN)/python -m tools.protos

bench: $(VENV)/.dev  ## Measure the sidecar beside an echo server and beside ciphers in process (about eleven minutes)
	@$(BIN)/python -m bench

lock:  ## Resolve requirements/*.in anew (needs uv on the PATH)
	@for name in dev demo runtime; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    $$([ $$name = dev ] || echo --constraint requirements/dev.txt) \
	    requirements/$$name.in --output-file requirements/$$name.txt || exit 1; done
	@for name in data protos client-oldest; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    $$([ $$name != data ] || echo --no-deps) \
	    requirements/$$name.in --output-file requirements/$$name.txt || exit 1; done

clean:  ## Remove what was installed and made
	rm -rf $(VENV) $(VENV)-* $(RUN_DIR) .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/results

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sidekey needs Python 3.11 or newer; set PYTHON=")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python requirements/demo.txt requirements/data.txt $(PROJECTS)
	@echo 'Installing into $(VENV) (about half a minute, once) …'
	@$(PIP) install --require-hashes -r requirements/demo.txt
	@$(PIP) install --require-hashes --no-deps --no-build-isolation --use-pep517 -r requirements/data.txt
	@$(PIP) install --no-deps --no-build-isolation -e clients/python -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.demo requirements/dev.txt
	@echo 'Installing what the tests need …'
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)-protos/.done: requirements/protos.txt
	@echo 'Installing the code generator into $(VENV)-protos …'
	@$(PYTHON) -m venv $(VENV)-protos
	@$(VENV)-protos/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/protos.txt
	@touch $@
