#!/usr/bin/env bash
# Runs every block of commands (```sh) of a page in docs/, in their order, each page or runbook in a private folder with real
# processes: run.sh PROGRAMS-FOLDER PAGE. Fails at the first command that does. 127.0.0.1 becomes an address of this run alone.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 PROGRAMS-FOLDER PAGE" >&2; exit 2; }
here="$(cd "$(dirname "$0")" && pwd)"
programs="$(cd "$1" && pwd)" page="$(realpath "$2")"
dir="$(mktemp -d)"
leader=
# What a page starts is in its group, and ends with it.
clean() {
    trap - EXIT
    [ -z "$leader" ] || kill -KILL -- "-$leader" 2>/dev/null || true
    rm -rf "$dir"
}
trap clean EXIT
address="127.$((20 + RANDOM % 100)).$((RANDOM % 250)).$((1 + RANDOM % 250))"

# One script for each section with `##`, made of its blocks.
awk -v dir="$dir" '
    /^## / { section++; name = substr($0, 4) }
    /^```sh$/ { block = 1; print "echo \"== " name "\"" >> (dir "/section." sprintf("%02d", section)); next }
    /^```$/ { block = 0; next }
    block { print >> (dir "/section." sprintf("%02d", section)) }
' "$page"
# Where to type is an order here.
sed -i 's/^# on node \([a-z]\)$/on \1/' "$dir"/section.*
sed -i "s/127\.0\.0\.1/$address/g" "$dir"/section.*

export PATH="$programs:$PATH"
mkdir "$dir/work"
cd "$dir/work"

# run COMMAND...: in a group of its own, three minutes at most; nothing of it is left.
run() {
    local code=0
    setsid timeout --foreground 180 "$@" &
    leader=$!
    wait "$leader" || code=$?
    kill -KILL -- "-$leader" 2>/dev/null || true
    leader=
    return "$code"
}

if [[ "$(basename "$page")" =~ ^(RUNBOOKS|DRILLS)\.md$ ]]; then
    for section in "$dir"/section.*; do
        # shellcheck disable=SC2016 # the inner shell expands it
        run bash -euo pipefail -c '. "$0"; site_up "$1" "$2"; . "$3"; site_down' "$here/site.sh" "$section.d" "$address" "$section" ||
            { tail -n 8 "$section".d/*/*.log; exit 1; }
    done
else
    cat "$dir"/section.* >"$dir/page.sh"
    run bash -euo pipefail "$dir/page.sh" || { tail -n 8 ./*/*.log; exit 1; }
fi
echo "$(basename "$page"): every block was run"
