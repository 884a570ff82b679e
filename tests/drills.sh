#!/usr/bin/env bash
# The drills: real faults on real nodes and real storage (tests/tests/faults), one after the other, and a table of what came of
# them. A quarter of an hour; root, and packages that it installs. Exit 0 only if every one passed.
# Usage: tests/drills.sh [FILTER...]    words in the names of drills: tests/drills.sh power
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

DRILLS=1 tests/install-needs.sh
rows="$(mktemp)" log="$(mktemp)"
trap 'rm -f "$rows" "$log"' EXIT
export MAILSWITCH_DRILLS="$rows"
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --test faults --run-ignored only --no-fail-fast --success-output immediate "$@" 2>&1 | tee "$log"
    code="${PIPESTATUS[0]}"
else
    cargo test -p tests --test faults -- --ignored --test-threads=1 --show-output "$@" 2>&1 | tee "$log"
    code="${PIPESTATUS[0]}"
fi

echo
echo "| fault | on | runs | accepted | lost | duplicates | in doubt | takeover, median ms | worst |"
echo "|---|---|--:|--:|--:|--:|--:|--:|--:|"
sort -t $'\t' -k 2,2 -k 1,1 "$rows" | awk -F '\t' '{
    count = split($8, times, ",")
    for (i = 2; i <= count; i++) for (j = i; j > 1 && times[j - 1] + 0 > times[j] + 0; j--) { t = times[j]; times[j] = times[j - 1]; times[j - 1] = t }
    median = count ? times[int((count + 1) / 2)] : "-"
    worst = count ? times[count] : "-"
    printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", $1, $2, $3, $4, $5, $6, $7, median, worst
}'
grep -o 'skipped: needs .*' "$log" | sort -u
exit "$code"
