#!/usr/bin/env bash
# Builds the Debian package from programs that are built already: build.sh PROGRAMS-FOLDER OUT-FOLDER. Prints its path.
# MAILSWITCH_VERSION overrides the version that the programs say, MAILSWITCH_COMPRESSION (none, zstd) the compression.
# Needs dpkg-deb and strip, and no root. Where the programs ran, the man pages and completions come from themselves.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 PROGRAMS-FOLDER OUT-FOLDER" >&2; exit 2; }
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
programs="$(cd "$1" && pwd)"
mkdir -p "$2"
out="$(cd "$2" && pwd)"
stage="$(mktemp -d)"
chmod 755 "$stage"
trap 'rm -rf "$stage"' EXIT

for program in switch heartbeatd switchctl; do
    [ -x "$programs/$program" ] || { echo "$0: $programs/$program is missing; run: make build" >&2; exit 1; }
done
version="${MAILSWITCH_VERSION:-$("$programs/switchctl" version | awk '{ print $2 }')}"
architecture="$(dpkg --print-architecture)"

# put MODE SOURCE TARGET: one file, its folders made.
put() { install -D -m "$1" "$2" "$stage/$3"; }

for program in switch heartbeatd; do put 755 "$programs/$program" "usr/sbin/$program"; done
put 755 "$programs/switchctl" usr/bin/switchctl
# The old names, for who sends mail with them: see postinst.
mkdir -p "$stage/usr/lib/mailswitch"
for name in sendmail mailq; do ln -s ../../bin/switchctl "$stage/usr/lib/mailswitch/$name"; done
strip --strip-unneeded "$stage"/usr/sbin/* "$stage"/usr/bin/*

for unit in "$root"/ha-scripts/systemd/*.{service,socket,target,timer} "$root"/ha-scripts/storage/*.service; do
    put 644 "$unit" "usr/lib/systemd/system/${unit##*/}"
done
put 644 "$root/ha-scripts/systemd/mailswitch.sysusers.conf" usr/lib/sysusers.d/mailswitch.conf
put 644 "$root/ha-scripts/systemd/mailswitch.tmpfiles.conf" usr/lib/tmpfiles.d/mailswitch.conf
put 644 "$root/ha-scripts/systemd/50-mailswitch.rules" usr/share/polkit-1/rules.d/50-mailswitch.rules

# page FILE...: man pages, compressed as Debian wants them, in the folder of their section.
page() {
    for file in "$@"; do
        mkdir -p "$stage/usr/share/man/man${file##*.}"
        gzip -9nc "$file" >"$stage/usr/share/man/man${file##*.}/${file##*/}.gz"
    done
}
pages="$(mktemp -d)"
trap 'rm -rf "$stage" "$pages"' EXIT
"$programs/switchctl" man "$pages" >/dev/null
page "$pages"/*.1 "$root"/ha-scripts/man/*.[58]
completion() { "$programs/switchctl" completion "$1" >"$pages/$1" && put 644 "$pages/$1" "$2"; }
completion bash usr/share/bash-completion/completions/switchctl
completion zsh usr/share/zsh/vendor-completions/_switchctl
# What `journalctl -x` says about each event.
"$programs/switchctl" log catalog >"$pages/mailswitch.catalog"
put 644 "$pages/mailswitch.catalog" usr/lib/systemd/catalog/mailswitch.catalog
completion fish usr/share/fish/vendor_completions.d/switchctl.fish

for script in keepalived-check keepalived-notify; do
    put 755 "$root/ha-scripts/keepalived/$script" "usr/lib/mailswitch/$script"
done
for script in drbd drbd-fence-peer gluster nfs; do
    put 755 "$root/ha-scripts/storage/$script" "usr/lib/mailswitch/storage/$script"
done
put 755 "$root/ha-scripts/fence/fence" usr/lib/mailswitch/fence
put 755 "$root/ha-scripts/ocf/mailswitch" usr/lib/ocf/resource.d/mailswitch/mailswitch
put 644 "$here/mailswitch.yaml" etc/mailswitch/mailswitch.yaml
for page in README.md CHANGELOG.md; do put 644 "$root/$page" "usr/share/doc/mailswitch/$page"; done
put 644 "$here/copyright" usr/share/doc/mailswitch/copyright
for page in "$root"/docs/*.md; do put 644 "$page" "usr/share/doc/mailswitch/docs/${page##*/}"; done
rm "$stage/usr/share/doc/mailswitch/docs/SUMMARY.md"

control="$stage/DEBIAN"
mkdir "$control"
size="$(du -sk --exclude=DEBIAN "$stage" | cut -f1)"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" "$here/control" >"$control/control"
echo /etc/mailswitch/mailswitch.yaml >"$control/conffiles"
for script in postinst prerm postrm; do install -m 755 "$here/$script" "$control/$script"; done
(cd "$stage" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$control/md5sums"
chmod 644 "$control"/{control,conffiles,md5sums}

package="$out/mailswitch_${version}_$architecture.deb"
dpkg-deb --root-owner-group "-Z${MAILSWITCH_COMPRESSION:-xz}" -z1 --build "$stage" "$package" >/dev/null
echo "$package"
