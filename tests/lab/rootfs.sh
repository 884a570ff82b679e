#!/usr/bin/env bash
# Builds a Debian root with systemd, and the packages named as arguments, for the nodes of tests, once, and prints its folder.
# Kept outside the tree under a hash of this file and the names, so that a change makes a new one. Needs root and mmdebstrap;
# the mirror is apt's own, or MIRROR.
set -euo pipefail
cache="${MAILSWITCH_LAB:-/var/cache/mailswitch-lab}"
root="$cache/$({ cat "$0"; echo "$*"; } | sha256sum | cut -c1-16)"
packages="$(IFS=,; echo "systemd,systemd-sysv,dbus,polkitd,iproute2,nftables,libgcc-s1${*:+,$*}")"

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -d "$root" ]; then
    # shellcheck disable=SC1091 # Debian's own
    . /etc/os-release
    mirror="${MIRROR:-$(awk '/^URIs:/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)}"
    rm -rf "$root.part"
    mmdebstrap --quiet --variant=minbase --mode=root --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/{doc,man,locale}/*' \
        "${VERSION_CODENAME:-bookworm}" "$root.part" "${mirror:-http://deb.debian.org/debian}" >&2
    # Each node gets an id of its own when it boots, and its name from whoever boots it.
    rm -f "$root.part/etc/hostname" "$root.part/var/lib/glusterd/glusterd.info"
    : >"$root.part/etc/machine-id"
    # Nodes have no network but the one of the test: nothing is online, ever.
    ln -sf /dev/null "$root.part/etc/systemd/system/systemd-networkd-wait-online.service"
    mv "$root.part" "$root"
fi
echo "$root"
