#!/usr/bin/env bash
# N runs of the demo, each with its own seed, faults in turn; prints a Markdown table. Exit 1 if one did not pass.
# Usage: tests/demo-runs.sh [N] [PROGRAM]   (20 runs of target/release/switchctl)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

runs="${1:-20}"
program="${2:-target/release/switchctl}"
faults=(kill freeze kill isolate kill freeze none kill freeze isolate)
failed=0

# field NAME JSON: a value of one line of JSON without spaces, `-` for null.
field() {
    local value
    value="$(grep -o "\"$1\":[^,}]*" <<<"$2" | head -n 1 | cut -d : -f 2- | tr -d '"')"
    if [ -z "$value" ] || [ "$value" = null ]; then value=-; fi
    echo "$value"
}

echo "| seed | nodes | fault | verdict | accepted | delivered | lost | duplicates | in doubt | detected | active | drained | hand-back |"
echo "|--:|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
for ((seed = 1; seed <= runs; seed++)); do
    fault="${faults[$(((seed - 1) % ${#faults[@]}))]}"
    nodes=$((2 + (seed % 5 == 0)))
    line="$("$program" demo --nodes "$nodes" --fault "$fault" --seed "$seed" -o json 2>/dev/null | tail -n 1)"
    verdict="$(field verdict "$line")"
    if [ "$verdict" != pass ]; then
        failed=$((failed + 1))
        echo "seed $seed, fault $fault: $line" >&2
    fi
    row="| $seed | $nodes | $fault | $verdict |"
    for name in accepted delivered lost duplicates in_doubt; do row="$row $(field "$name" "$line") |"; done
    for name in detect active drained handback_ms; do row="$row $(field "$name" "$line") |"; done
    echo "$row"
done
echo
echo "$((runs - failed)) of $runs passed. Times in ms: detected, active and drained after the fault, hand-back after the node's return."
[ "$failed" -eq 0 ]
