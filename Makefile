# Every target works on a fresh clone with python3 >= 3.11 (venv included) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test lint types bench torture soak soak-protocol fuzz peers-rust matrix lock schema coverage clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 17

# The locks are complete: pip installs what stands in them and resolves nothing (with an extra such as
# coverage[toml] it would take the newest version, find no hash and give up). Then the package itself,
# without touching the network.
$(VENV)/runtime: requirements.lock pyproject.toml
	@echo "setting up $(VENV) (first time: about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --no-deps --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev: $(VENV)/runtime requirements-dev.lock
	@$(PIP) install --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/runtime ## A partner's day against the bundled WhatsApp simulator (ONCE=1: leave at the end)
	@$(BIN)/sitpayd demo $(if $(ONCE),--once)

test: $(VENV)/dev ## Lint, types and all tests (with Node >= 20 also the Baileys interop tests)
	@$(MAKE) --no-print-directory lint types
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadscope

lint: $(VENV)/dev ## ruff: format and rules
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .

types: $(VENV)/dev ## mypy --strict
	@$(BIN)/mypy

coverage: $(VENV)/dev ## Branch coverage of the tests
	@$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

bench: $(VENV)/dev ## Benchmarks against the simulator: a table and bench/result.json
	@$(BIN)/python -m bench

torture: $(VENV)/dev ## The torture lanes, half an hour (SHARE=1: minutes; LANE=storm: one of them; SEED=7)
	@$(BIN)/python -m tests.torture $(LANE) $(if $(SHARE),--share) $(if $(SEED),--seed $(SEED))

soak: $(VENV)/dev ## 1,000 devices through random faults for ten minutes (DEVICES=100 MINUTES=2 SEED=7)
	@$(BIN)/python -m tests.soak $(if $(DEVICES),--devices $(DEVICES)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

soak-protocol: $(VENV)/dev ## Ten accounts talk for two hours while all goes wrong; each message is read once (MINUTES=2 SEED=1 BAILEYS=0)
	@$(BIN)/python -m tests.soak_protocol $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(BAILEYS),--baileys $(BAILEYS))

fuzz: $(VENV)/dev ## Hostile input, a minute per target (TARGET=nodes SECONDS=600 SEED=7 JOBS=2)
	@$(BIN)/python -m tests.fuzz $(TARGET) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS))

peers-rust: $(VENV)/dev ## The interop tests with a third client, whatsapp-rust (needs cargo >= 1.94; minutes to build)
	@SITPAYD_REQUIRE_CARGO=1 $(BIN)/python -m pytest tests/peers -k rust

matrix: $(VENV)/dev ## Run what proves docs/interop.md, with all three clients, and write the page
	@SITPAYD_REQUIRE_NODE=1 SITPAYD_REQUIRE_GO=1 SITPAYD_REQUIRE_CARGO=1 $(BIN)/python -m pytest -m proves --matrix docs/interop.md

lock: $(VENV)/dev ## Write requirements.lock and requirements-dev.lock again from pyproject.toml
	@$(BIN)/uv pip compile $(LOCK) --group build pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile $(LOCK) --group build --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
LOCK := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate

schema: $(VENV)/dev ## Compile the protobuf schema
	@$(BIN)/python -m grpc_tools.protoc -I sitpayd/whatsapp/schema --python_out=sitpayd/whatsapp/schema --pyi_out=sitpayd/whatsapp/schema sitpayd/whatsapp/schema/*.proto

clean: ## Remove what the targets made
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/peers/baileys/node_modules tests/peers/whatsmeow/build tests/peers/rust/build
