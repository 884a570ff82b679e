#!/usr/bin/env bash
# A soak: two nodes and steady mail, while processor and disk are under full load. Nobody may take a queue, and nothing may be
# lost: exit 0 only then. Prints the line of the demo and the load average.
# Usage: tests/soak.sh [SECONDS] [PROGRAM]   (1800 s, target/release/switchctl; at most 3600 s)
# LOAD=none: without load of its own, for a machine that is busy already.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

seconds="${1:-1800}"
program="${2:-target/release/switchctl}"
scratch="$(mktemp -d /var/tmp/mailswitch-soak-XXXXXX)"
pids=()

finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    wait
    rm -rf "$scratch"
}
trap finish EXIT

if [ "${LOAD:-full}" != none ]; then
    for ((i = 0; i < $(nproc); i++)); do
        (while :; do :; done) &
        pids+=($!)
    done
    (while :; do dd if=/dev/zero of="$scratch/fill" bs=1M count=64 conv=fdatasync 2>/dev/null; done) &
    pids+=($!)
fi

line="$("$program" demo --fault none --rate 50 --seconds "$seconds" -o json 2>"$scratch/log" | tail -n 1)"
echo "$line"
echo "load average: $(cut -d ' ' -f 1-3 /proc/loadavg)"
if ! grep -q '"verdict":"pass"' <<<"$line"; then
    tail -n 20 "$scratch/log" >&2
    exit 1
fi
