# The two commands of the README are `make demo` and `make test`; the rest is for people who work on Portolan.

.DEFAULT_GOAL := help
.PHONY: help demo test soak lint setup release image count measure fuzz container modules clean

WASM_TARGET := wasm32-wasip1
NATIVE_TARGET := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
STATIC := $(TARGET_DIR)/$(NATIVE_TARGET)/release/portolan
NEXTEST := $(shell command -v cargo-nextest 2>/dev/null)

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## Install the pinned toolchain and its Wasm target where rustup does not do it by itself
	@command -v cargo >/dev/null || { echo "Rust is missing: see https://rustup.rs" >&2; exit 1; }
	@rustc --version >/dev/null 2>&1 || rustup toolchain install
	@test -d "$$(rustc --print target-libdir --target $(WASM_TARGET))" || rustup target add $(WASM_TARGET)

demo: setup ## Two backends, the gateway with its three filters, and what to try: all in one process
	@# With the features that the tests build with: else the compiler of WebAssembly is built twice.
	cargo build --locked --workspace --bin portolan
	$(TARGET_DIR)/debug/portolan demo

test: lint ## All tests, with the lints and the house rules
ifdef NEXTEST
	cargo test --locked --workspace --doc --quiet
	cargo nextest run --locked --workspace
else
	cargo test --locked --workspace
endif

soak: setup ## Two minutes of load, faults and changes; 200 reloads with takeovers and all else that must lose nothing
	PORTOLAN_TEST_SOAK=120 PORTOLAN_TEST_RELOADS=200 cargo test --locked --workspace --test integration -- \
		--test-threads 1 soak:: reloads_filter_swaps

lint: setup ## Format and lints
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

release: setup ## The static release binary, path printed at the end
	CARGO_TARGET_$(shell echo $(NATIVE_TARGET) | tr a-z- A-Z_)_RUSTFLAGS="-C target-feature=+crt-static" \
		cargo build --locked --release --bin portolan --target $(NATIVE_TARGET)
	@echo $(STATIC)

image: release ## The container image, from the static binary, with buildah
	tests/container/image.sh $(STATIC) portolan:latest

container: release ## Run the image: requests, a ConfigMap swap, a drain
	tests/container/run.sh $(STATIC)

modules: setup ## How requests fare while a large module of Go's is compiled
	cargo test --locked --test third_party -- --ignored --nocapture

count: release ## User instructions and system calls for one small request (callgrind, strace), against the budget
	tests/count/count.py --binary $(STATIC)

measure: release ## Start time, memory, reload and filter swap times, latency under reloads and attacks
	tests/measure/measure.py --binary $(STATIC)
	tests/measure/connections.py --binary $(STATIC)
	tests/measure/scale.py --binary $(STATIC)
	tests/measure/filters.py --binary $(STATIC)
	tests/measure/attack.py --binary $(STATIC)

fuzz: ## One minute of each fuzz target (needs cargo-fuzz and a nightly toolchain)
	cd tests/fuzz && for target in yaml matcher guest proxy_header http1; do cargo fuzz run $$target -- -max_total_time=60; done

clean: ## Remove everything that was built
	cargo clean
