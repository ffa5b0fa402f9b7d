# Millrace: one command each. `make help` lists them.
#
# setup -> build | contracts | lint | test | demo; caches lie under ~/.cache/millrace.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo contracts lint test lint-rust lint-contracts test-rust test-contracts test-js test-instructions format
MAKEFLAGS += --no-print-directory

STAGE := scripts/stage
CARGO_FLAGS := --locked --workspace

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## Release binary at bin/millrace
	@scripts/setup.sh build
	@$(STAGE) "build" cargo build --locked --release -p millrace --bin millrace
	@mkdir -p bin
	@scripts/with-env bash -c 'install -m 755 "$$CARGO_TARGET_DIR/release/millrace" bin/millrace'

demo: build ## Build, then run the main job on the embedded chain
	@bin/millrace demo $(DEMO_FLAGS)

contracts: ## Recompile the contracts and write their committed ABI and bytecode
	@scripts/setup.sh contracts
	@$(STAGE) "contract artifacts" scripts/contracts.sh write

lint: ## Formatting, clippy, docs, dependency picture, licences, contracts
	@scripts/setup.sh lint
	@$(MAKE) lint-rust lint-contracts

lint-rust:
	@$(STAGE) "rustfmt" cargo fmt --all --check
	@$(STAGE) "licences, bans and sources" cargo deny --locked --offline --log-level error check licenses bans sources
	@$(STAGE) "clippy" cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(STAGE) "docs" cargo doc $(CARGO_FLAGS) --no-deps --lib
	@$(STAGE) "dependency picture" cargo nextest run $(CARGO_FLAGS) --test tidy

lint-contracts:
	@$(STAGE) "contract artifacts" scripts/contracts.sh check
	@$(STAGE) "contract formatting" scripts/contracts.sh format
	@$(STAGE) "slither" scripts/contracts.sh analyse

test: ## All tests: Rust, contracts, JavaScript, instruction counts
	@scripts/setup.sh test
	@$(MAKE) test-contracts test-rust test-js test-instructions

test-contracts:
	@$(STAGE) "contract tests" scripts/contracts.sh test

test-rust:
	@$(STAGE) "documentation tests" cargo test $(CARGO_FLAGS) --doc --quiet
	@$(STAGE) "Rust tests" cargo nextest run $(CARGO_FLAGS)

test-js:
	@$(STAGE) "JavaScript tests" scripts/js-tests.sh

test-instructions:
	@$(STAGE) "instruction counts" scripts/instructions.sh

format: ## Format Rust and Solidity sources
	@scripts/setup.sh contracts
	@scripts/with-env cargo fmt --all
	@scripts/with-env forge fmt --root l1/contracts
