# Everything is made in .venv from hashed lock files; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
JS := tests/conformance/javascript
OLDER := tests/conformance/older
PROTOS := src/leadline/dialects/xai/protos

.PHONY: run install test check lint bench proof dev lock protos

run: install ## Set up, fetch the default model, ask it a first question, serve.
	$(BIN)/leadline serve --quickstart

install: $(VENV)/.installed ## Set up only; afterwards .venv/bin/leadline exists.

# One engine at a time: two that compute on the same cores are each many times slower. The same run takes what wants the
# machine for itself.
test: dev ## All tests, with the real model and the real SDKs.
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not model and not alone"
	$(BIN)/python -m pytest -m "model or alone"

check: lint ## The inner loop: format, lint, types, layers, fast tests.
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not model and not slow" --hypothesis-profile=check

lint: $(VENV)/.dev ## Format, lint, types and layers alone.
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: dev ## Benchmarks against the bare engine, of the gateway, of the money path, and of gRPC beside REST.
	missed=0; for part in benchmarks benchmarks.gateway benchmarks.money benchmarks.rpc; do $(BIN)/python -m $$part || missed=1; done; exit $$missed

proof: dev ## The long counts.
	$(BIN)/python -m pytest -n 2 -m "not model" --hypothesis-profile=proof tests/property tests/unit tests/conformance/test_same_in_all.py tests/conformance/xai/test_same_over_both.py tests/conformance/xai/test_keepalive.py
	$(BIN)/python -m pytest -m "not model" --hypothesis-profile=proof tests/faults
	$(BIN)/python -m pytest --hypothesis-profile=proof tests/console
	$(BIN)/python -m tests.proof
	$(BIN)/python -m pytest -m model tests/faults

dev: $(VENV)/.dev $(VENV)/older/.installed $(VENV)/xai-1.0/.installed $(VENV)/xai-1.6/.installed $(JS)/node_modules/.installed

lock: $(VENV)/.dev ## Resolve the dependencies anew.
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate pyproject.toml --extra billing --extra openvino --extra postgres --extra traces --group build -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate pyproject.toml --extra billing --extra openvino --extra postgres --extra traces --group dev -o requirements-dev.lock
	for name in requirements xai-1.0 xai-1.6; do $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate $(OLDER)/$$name.in -o $(OLDER)/$$name.lock; done

protos: $(VENV)/.dev ## Compile the protos of xAI's gRPC API anew.
	packages=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	$(BIN)/python -m grpc_tools.protoc -I$(PROTOS) -I$$packages/grpc_tools/_proto -I$$packages --include_imports \
	  --descriptor_set_out=$(PROTOS)/descriptors.binpb $$(cd $(PROTOS) && find . -name '*.proto' | sed 's,^\./,,' | sort)

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Leadline needs Python 3.11 or newer.")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.made requirements.lock pyproject.toml
	$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed requirements-dev.lock
	$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements-dev.lock
	touch $@

# The Python SDKs' majors before the newest, in a folder of their own: two of one cannot live in one environment.
$(VENV)/older/.installed: $(VENV)/.made $(OLDER)/requirements.lock
	rm -rf $(VENV)/older
	$(PIP) install --quiet --require-hashes --only-binary :all: --target $(VENV)/older -r $(OLDER)/requirements.lock
	touch $@

# The first release of xAI's SDK, and one half-way to the newest.
$(VENV)/xai-%/.installed: $(VENV)/.made $(OLDER)/xai-%.lock
	rm -rf $(@D)
	$(PIP) install --quiet --require-hashes --only-binary :all: --target $(@D) -r $(OLDER)/xai-$*.lock
	touch $@

# The JavaScript SDKs, for their tests. Without Node those tests skip, and say so.
$(JS)/node_modules/.installed: $(JS)/package-lock.json
	if command -v npm >/dev/null; then cd $(JS) && npm ci --silent --no-fund --no-audit && touch node_modules/.installed; fi
