# The two commands: `make demo` shows the main job, `make test` checks all.

DEMO_DIR ?= $(shell echo $${TMPDIR:-/tmp})/matriarch-demo
DEMO_ARGS ?=

.PHONY: all build demo test packages packages-test fmt

all: build

packages:
	@tools/packages.sh

packages-test:
	@tools/packages.sh openssl python3-pip iproute2 nftables prometheus systemd haproxy
	@tools/postgres_versions.sh
	@tools/patroni.sh

build: packages
	cargo build --release -p node -p ctl

demo: build
	target/release/matriarchctl demo --dir $(DEMO_DIR) $(DEMO_ARGS)

fmt:
	cargo fmt --all

# Formatting, lints, the programs with the features of their own crates only (a
# build of the whole workspace lends them those of the others), then everything
# that runs: unit and property tests, then tidy, the simulation and the live
# tests on real PostgreSQL (the installed one; 16 and 18 are fetched once, as is
# Patroni to take over from) and etcd. Of the live tests three run at a time; each
# that waits for its turn has a thread.
test: packages-test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo check --quiet -p node -p ctl
	cargo build --workspace --bins
	cargo test --workspace --exclude sim --exclude tests --no-fail-fast
	cargo test --package sim --no-fail-fast -- --test-threads 32
	cargo test --package tests --no-fail-fast --lib --test citus_stand_in --test corpus \
		--test examples --test monitoring --test packaging --test tidy
	cargo test --package tests --test live -- --test-threads 32
