# Everything that the README names. Each target installs or builds what it needs.
.DEFAULT_GOAL := help
.PHONY: help demo test test-cluster image lint bench seeds soak reliability fuzz install-peers install-lint

# The time of each fuzz target in seconds.
FUZZ_SECONDS ?= 60
CARGO_DENY := 0.20.2

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

demo: ## The main job, with an upstream of its own: nothing to configure
	cargo run --profile fast -- demo $(DEMO)

test: install-peers ## All tests; installs the peers (nginx, openssl, a JDK, Chromium) with apt-get where it may
	cargo test --no-fail-fast

test-cluster: ## Kubernetes: charts, injection and traffic in a real one-node cluster of its own (root; half an hour the first time)
	tests/cluster/test $(CLUSTER_TESTS)

image: ## The image, linux/amd64 or linux/arm64, with docker, podman or buildah; says how to load it into a cluster
	scripts/image

lint: install-lint ## Format, clippy with warnings denied, dependencies
	cargo fmt --check
	cargo clippy --all-targets -- --deny warnings
	cargo deny --log-level error check bans licenses sources

bench: ## Beside HAProxy, nginx and Envoy, in one run (about six minutes, and fifteen for the first build)
	bench/run $(BENCH)

seeds: ## The situations that made people look for this, with HAProxy's figure beside ours
	scripts/install-peers seeds
	cargo build --release
	seeds/run

soak: install-peers ## The long versions of the tests: millions of requests, hours of pool life
	WARMLINE_SOAK=1 cargo test --release --no-fail-fast -- --test-threads=1

reliability: install-peers ## What is lost under faults, beside HAProxy and nginx (about ten minutes)
	cargo test --profile fast --test history -- --ignored --nocapture

fuzz: ## Each fuzz target for FUZZ_SECONDS, from its seeds (nightly Rust and cargo-fuzz)
	command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz
	for target in $$(cargo +nightly fuzz list); do \
		mkdir -p fuzz/corpus/$$target fuzz/seeds/$$target && \
		cargo +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-detect_leaks=0 -max_total_time=$(FUZZ_SECONDS) || exit 1; done

install-peers:
	@scripts/install-peers

install-lint:
	@cargo deny --version >/dev/null 2>&1 || { \
		echo "make lint: cargo-deny is missing; installing $(CARGO_DENY) (compiled once, some minutes)"; \
		cargo install --quiet --locked cargo-deny@$(CARGO_DENY); }
