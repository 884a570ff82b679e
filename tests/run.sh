#!/usr/bin/env bash
# Every check of the tree, each to its end. The last line counts them: `N passed, N failed, N skipped`.
# A format check, the lints, the shell check and each test count one. A test that lacks something prints
# `skipped: needs …` and is counted as skipped.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

passed=0 failed=0 skipped=0
target="${CARGO_TARGET_DIR:-target}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

# check NAME COMMAND...: one check.
check() {
    local name="$1"
    shift
    echo "== $name"
    if "$@"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $name"
    fi
}

skip() {
    echo "== $1"
    echo "skipped: needs $2"
    skipped=$((skipped + 1))
}

# count RC: adds up the lines of `cargo test` in the log. A run that ended badly without a failed test counts one.
count() {
    local rc="$1" ok bad left
    read -r ok bad left < <(awk '/^test result:/ { ok += $4; bad += $6; left += $8 } END { print ok + 0, bad + 0, left + 0 }' "$log")
    local needs
    needs="$(grep -c '^ *skipped: needs ' "$log")"
    passed=$((passed + ok - needs)) failed=$((failed + bad)) skipped=$((skipped + left + needs))
    if [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ]; then failed=$((failed + 1)); fi
}

# attribute NAME FILE: a number of the first element of a JUnit report.
attribute() {
    grep -o -m 1 "<testsuites [^>]*" "$2" | grep -o " $1=\"[0-9]*\"" | grep -o '[0-9]*'
}

nextest() {
    local report="$target/nextest/default/junit.xml" rc=0
    rm -f "$report"
    cargo nextest run --workspace || rc=$?
    if [ ! -f "$report" ]; then
        failed=$((failed + 1))
        return
    fi
    local all bad errors needs
    all="$(attribute tests "$report")" bad="$(attribute failures "$report")" errors="$(attribute errors "$report")"
    needs="$(grep -o 'skipped: needs [^<]*' "$report" | tee /dev/stderr | wc -l)"
    bad=$((bad + errors))
    passed=$((passed + all - bad - needs)) failed=$((failed + bad)) skipped=$((skipped + needs))
    if [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ]; then failed=$((failed + 1)); fi
}

check "format" cargo fmt --all --check
check "lints" cargo clippy --workspace --all-targets -- -D warnings
if command -v shellcheck >/dev/null; then
    mapfile -t scripts < <(find .ci docs fuzz ha-scripts tests -type f \( -name '*.sh' -o -name run -o -path 'ha-scripts/keepalived/*' -o -path 'ha-scripts/ocf/*' -o -path 'ha-scripts/fence/*' -o -path 'ha-scripts/storage/*' -a ! -name '*.service' -o -name install-pair \) | sort)
    check "shell scripts" shellcheck "${scripts[@]}"
else
    skip "shell scripts" "shellcheck"
fi
check "programs" cargo build --workspace --bins

echo "== tests"
if cargo nextest --version >/dev/null 2>&1; then
    nextest
else
    cargo test --workspace --lib --bins --tests --no-fail-fast -- --show-output 2>&1 | tee "$log"
    count "${PIPESTATUS[0]}"
fi
echo "== examples in the documentation"
cargo test --workspace --doc --no-fail-fast 2>&1 | tee "$log" | grep -v '^$'
count "${PIPESTATUS[0]}"

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
