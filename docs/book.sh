#!/usr/bin/env bash
# Builds the book of the documentation: book.sh MDBOOK OUT-FOLDER. MDBOOK is the program mdbook. The pages keep their places, so that
# what leads from one to another or to a file of the tree leads there in the book too; at the end every link is followed.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 MDBOOK OUT-FOLDER" >&2; exit 2; }
root="$(cd "$(dirname "$0")/.." && pwd)"
mdbook="$1"
mkdir -p "$2"
out="$(cd "$2" && pwd)"
stage="$(mktemp -d)"
trap 'rm -rf "$stage"' EXIT

cd "$root"
# The pages, and the files that they lead to. They are pages of the tree's root there, as mdbook wants its list of them.
files=(README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT tests/conformance/README.md fuzz/README.md
    ha-scripts/prometheus/mailswitch.rules.yml ha-scripts/grafana/mailswitch.json)
mapfile -t -O "${#files[@]}" files < <(find docs -name '*.md' ! -name SUMMARY.md | sort)
for file in "${files[@]}"; do install -D -m 644 "$file" "$stage/src/$file"; done
sed -e 's|](\.\./|](@|' -e 's|](\([^@#]\)|](docs/\1|' -e 's|](@|](|' docs/SUMMARY.md >"$stage/src/SUMMARY.md"
cat >"$stage/book.toml" <<END
[book]
title = "mailswitch"
src = "src"
[build]
build-dir = "$out"
create-missing = false
# It would call README.md index.html, and links would not follow.
use-default-preprocessors = false
[output.html]
smart-punctuation = false
no-section-label = true
END
"$mdbook" build "$stage"

bad=0
while IFS=: read -r page link; do
    target="${link%%#*}"
    case "$target" in '' | *://* | mailto:* | javascript:*) continue ;; esac
    [ -e "$(dirname "$page")/$target" ] || { echo "$page: $link leads nowhere" >&2; bad=1; }
done < <(cd "$out" && find . -name '*.html' ! -name print.html ! -name toc.html ! -name 404.html -print0 |
    xargs -0 grep -o 'href="[^"]*"' | sed -e 's/href="//' -e 's/"$//' -e "s|^\./|$out/|")
[ "$bad" -eq 0 ] || exit 1
echo "$out/index.html: $(find "$out" -name '*.html' | wc -l) pages"
