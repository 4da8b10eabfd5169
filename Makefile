# Two commands do everything on a fresh machine: `make run` and `make test`.

.PHONY: help run test contract bench lint deploy-check servers for-tests

help:
	@echo "make run        install what is missing, start the shop's backend, say what to try next"
	@echo "make test       install what is missing, pass all tests"
	@echo "make contract   hold the running system against its own description (schemathesis)"
	@echo "make bench      take the figures of docs/benchmarks.md; ONLY=store,hot takes some sections"
	@echo "make deploy-check  check deploy/: image, compose, Kubernetes; without a cluster and without Docker"
	@echo "make lint       formatting, clippy, dependency rules"

servers:
	@sh deploy/install-servers.sh

for-tests:
	@sh deploy/install-servers.sh nginx prometheus

run: servers
	cargo build --release --bin rentstream
	@exec target/release/rentstream up

test: for-tests
	cargo test --workspace

contract: servers
	@sh tests/contract/run.sh

deploy-check:
	@sh deploy/check.sh

bench: servers
	cargo build --release --bin rentstream
	cargo bench --workspace --bench figures -- $(ONLY)

lint:
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	else echo "cargo-deny is not installed (cargo install cargo-deny): the rules of deny.toml were not checked; make test checks the crates' arrows"; fi
