#!/usr/bin/env bash
# Installs the Debian packages that building and testing need, where root and missing. Elsewhere it names them.
set -euo pipefail

declare -A packages=(
    [cc]=gcc
    [clamd]=clamav-daemon
    [dovecot]=dovecot-lmtpd
    [etcd]=etcd-server
    [haproxy]=haproxy
    [keepalived]=keepalived
    [nginx]=libnginx-mod-stream
    [msmtp]=msmtp
    [openssl]=openssl
    [fence_dummy]=fence-agents
    [ocf-tester]=resource-agents
    [xmllint]=libxml2-utils
    [postfix]=postfix
    [promtool]=prometheus
    [rspamd]=rspamd
    [shellcheck]=shellcheck
    [systemd-analyze]=systemd
    [ldns-signzone]=ldnsutils
    [unbound]=unbound
    [systemd-nspawn]=systemd-container
    [mmdebstrap]=mmdebstrap
    [nft]=nftables
    [ip]=iproute2
    [strip]=binutils
    [strace]=strace
    [swaks]=swaks
    [valgrind]=valgrind
)
# What `make drills` needs beside that.
if [ -n "${DRILLS:-}" ]; then
    packages+=(
        [qemu-system-x86_64]=qemu-system-x86
        [qemu-img]=qemu-utils
        [busybox]=busybox-static
        [cpio]=cpio
        [zstd]=zstd
        [xfs_io]=xfsprogs
        [mke2fs]=e2fsprogs
    )
fi
missing=()
for program in "${!packages[@]}"; do
    PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
perl -MNet::SSLeay -e 1 2>/dev/null || missing+=(libnet-ssleay-perl)
[ -d /usr/lib/python3/dist-packages/Milter ] || missing+=(python3-milter)

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust 1.95 or later from https://rustup.rs" >&2
    exit 1
fi

# Exim is a mail server like Postfix, and Debian has one on a machine: it is only unpacked, and what it is linked to installed.
exim=/var/cache/mailswitch-tests/exim
unpack_exim() {
    local work
    work="$(mktemp -d)"
    (
        cd "$work" && apt-get update -q &&
            apt-get install -q -y --no-install-recommends libdb5.3 libgnutls-dane0 libidn12 libnsl2 libpcre2-8-0 &&
            apt-get download -q exim4-daemon-light && dpkg -x exim4-daemon-light_*.deb exim &&
            mkdir -p "${exim%/*}" && mv exim "$exim"
    ) >/dev/null 2>&1 || echo "exim could not be unpacked; what needs it is skipped" >&2
    rm -rf "$work"
}
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && [ ! -x "$exim/usr/sbin/exim4" ]; then
    unpack_exim
fi
if [ "${#missing[@]}" -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >/dev/null; then
        exit 0
    fi
    echo "the packages could not be installed; what needs them is skipped or fails" >&2
    exit 0
fi
echo "missing, and not installed without root and apt-get: ${missing[*]}" >&2
