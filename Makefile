# mailswitch: what people type. `make` alone lists it.

.DEFAULT_GOAL := help
TARGET := $(or $(CARGO_TARGET_DIR),target)
.PHONY: help build deb demo bench test drills fmt lint docs clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the programs into target/release.
	cargo build --release --bins

demo: build ## Two nodes, real mail, one killed: is anything lost? Options: make demo DEMO="--fault freeze".
	$(TARGET)/release/switchctl demo $(DEMO)

bench: build ## How fast is it here, beside Postfix? About 15 minutes; a glance: make bench BENCH=--quick.
	$(TARGET)/release/switchctl bench --report $(TARGET)/bench $(BENCH)

deb: build ## A Debian package of the programs, units and default configuration, into target/deb.
	ha-scripts/deb/build.sh $(TARGET)/release $(TARGET)/deb

test: ## Format, lints, all tests. Installs what they need.
	tests/install-needs.sh
	tests/run.sh

drills: ## Real faults on real nodes and storage, and a table of them. Root. Some only: make drills DRILLS=power.
	tests/drills.sh $(DRILLS)

fmt: ## Format the code.
	cargo fmt --all

lint: ## Check format and lints only.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

docs: ## Build the book into target/book (mdbook is built first if it is missing), and the code's documentation into target/doc.
	command -v mdbook >/dev/null || [ -x $(TARGET)/tools/bin/mdbook ] || cargo install --locked --root $(TARGET)/tools mdbook@0.5.4
	docs/book.sh "$$(command -v mdbook || echo $(TARGET)/tools/bin/mdbook)" $(TARGET)/book
	cargo doc --workspace --no-deps

clean: ## Remove what was built.
	cargo clean
