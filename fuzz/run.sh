#!/usr/bin/env bash
# Fuzzes each target in turn, or those named: run.sh SECONDS [TARGET...]. Needs rustup's nightly and cargo-fuzz. What is found lies in
# libfuzzer/artifacts/TARGET; what only widened the search is thrown away. The last line counts what ended badly.
set -uo pipefail
[ $# -ge 1 ] || { echo "usage: $0 SECONDS [TARGET...]" >&2; exit 2; }
cd "$(dirname "$0")" || exit 1
seconds="$1"
shift
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(cd corpus && printf '%s\n' *)
export CARGO_TARGET_DIR="${FUZZ_TARGET_DIR:-${TMPDIR:-/tmp}/mailswitch-fuzz}"
cargo +nightly fuzz build --fuzz-dir libfuzzer || exit 1
program="$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/release"
bad=0
for target in "${targets[@]}"; do
    new="$(mktemp -d)" log="$(mktemp)"
    mkdir -p "libfuzzer/artifacts/$target"
    nice -n 19 "$program/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="libfuzzer/artifacts/$target/" "$new" "corpus/$target" >"$log" 2>&1
    code=$?
    runs="$(awk '/number_of_executed_units/ { print $2 }' "$log")"
    echo "$target: ${runs:-?} runs, $(find "$new" -type f | wc -l) inputs that went new ways, exit $code"
    if [ "$code" -ne 0 ]; then
        bad=$((bad + 1))
        grep -E 'panicked|ERROR|Test unit written' -A 3 "$log"
    fi
    rm -rf "$new" "$log"
done
echo "${#targets[@]} targets, $bad ended badly"
[ "$bad" -eq 0 ]
