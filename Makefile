# `make run` starts a store, `make test` passes every test, `make lint` is what a change must pass besides.
# CI runs these same targets (.ci/run).
#
# Everything is built with one profile and for the whole workspace: selecting a package would select
# other features for shared crates, and RocksDB's C++ takes minutes to build.

DATA ?= ./ullage-data
CARGO ?= cargo
FLAGS ?= --release --workspace --locked
# Whole-cluster tests share the processor with the clusters that they start, and wait most of their time.
CLUSTER_TEST_THREADS ?= 4

SCRIPTS := integration/scripts
TOOLS := $(CURDIR)/target/test-tools
LINT_TOOLS := $(CURDIR)/target/lint-tools

.NOTPARALLEL:
.PHONY: help run build build-needs test test-tools test-build test-unit test-cluster lint fmt clippy deny advisories bench

help: ## This list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## Build, then start a store in ./ullage-data (DATA=DIR for another directory).
	exec target/release/ullage standalone --data $(DATA) $(ARGS)

build: build-needs ## Build the binary, target/release/ullage.
	$(CARGO) build $(FLAGS) --bin ullage

build-needs:
	@$(SCRIPTS)/build-needs.sh

test: test-build test-unit test-cluster ## Everything: unit tests, then whole clusters with real clients.

test-tools: ## The clients that tests run, into target/test-tools.
	@$(SCRIPTS)/test-tools.sh $(TOOLS)

test-build: build-needs test-tools
	$(CARGO) build $(FLAGS) --bins
	$(CARGO) test $(FLAGS) --no-run

test-unit: ## Only the tests inside the crates.
	$(CARGO) test $(FLAGS) --lib --bins --no-fail-fast
	$(CARGO) test $(FLAGS) --doc

test-cluster: ## Only the tests in tests/ folders (after `make test-build`).
	ULLAGE_TEST_TOOLS=$(TOOLS)/venv/bin $(CARGO) test $(FLAGS) --test '*' --no-fail-fast -- --test-threads=$(CLUSTER_TEST_THREADS)

lint: fmt clippy deny ## Format, clippy, licences and sources of dependencies.

fmt:
	$(CARGO) fmt --all --check

clippy: build-needs
	$(CARGO) clippy $(FLAGS) --all-targets -- -D warnings

deny:
	tool=$$($(SCRIPTS)/deny-tool.sh $(LINT_TOOLS)) && $(CARGO) fetch --locked --quiet && $$tool --offline check bans licenses sources

advisories: ## Known vulnerabilities of dependencies; fetches the advisory database.
	tool=$$($(SCRIPTS)/deny-tool.sh $(LINT_TOOLS)) && $$tool check advisories

bench: build-needs ## Build the benchmark, target/release/bench (docs/testing.md says how to use it).
	$(CARGO) build $(FLAGS) --bins
	target/release/bench --help
