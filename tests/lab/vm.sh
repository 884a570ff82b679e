#!/usr/bin/env bash
# A machine: a virtual one with Debian's kernel, on the bridge of its lab, emulated without KVM. Needs root, qemu-system-x86_64,
# qemu-img, mke2fs, ip and nft. The verbs are those of node.sh, and a lab may have nodes of both kinds.
#
#   vm.sh net LAB SUBNET               the bridge, this machine at SUBNET.1
#   vm.sh up LAB FOLDER NODE ADDRESS IMAGE [OF-DEB]   boots it; again after crash: its disks are as they were. OF-DEB is a folder
#                                      that it can mount at its /dev/vdc. The first boot of an address is kept, and gone on with
#   vm.sh run LAB FOLDER NODE COMMAND...      a command in it, LAB_SECONDS at most
#   vm.sh freeze|thaw|crash LAB FOLDER NODE   crash: its power is cut
#   vm.sh unplug|plug LAB NODE         its cable
#   vm.sh cut|heal LAB NODE            packets of it are dropped by the bridge, its link stays up
#   vm.sh down LAB FOLDER              everything is gone but FOLDER
# Each has an empty disk of LAB_DISK (256M) at /dev/vdb.
set -euo pipefail

here="$(dirname "$0")"
verb="$1" lab="$2"
say() { echo "$0: $*" >&2; }
machine() { cat "$folder/$node/qemu.pid"; }

# answer SECONDS COMMAND: sends it to the agent in the machine. What it says, and its exit code; 255 without an answer.
answer() {
    local said code
    said="$(mktemp)"
    # shellcheck disable=SC2016 # the inner shell expands it
    timeout "$1" bash -c 'exec 3<>"/dev/tcp/$1/9000" && base64 -w0 <<<"$2" >&3 && echo >&3 && cat <&3' \
        - "$(cat "$folder/$node/address")" "$2" >"$said" 2>/dev/null || true
    # The last bytes are a zero, digits and a line feed; what is before may be of any kind.
    code="$(tail -c 4 "$said" | tr '\0' '\n' | tail -n 1)"
    if [[ "$code" =~ ^[0-9]+$ ]] && [ "$(tail -c "$((${#code} + 2))" "$said" | head -c 1 | tr '\0' z)" = z ]; then
        head -c "-$((${#code} + 2))" "$said"
    else
        cat "$said" >&2
        code=255
    fi
    rm -f "$said"
    return "$code"
}

# start MORE...: the emulator, in the background.
start() {
    local disk="$folder/$node" last="${address##*.}" cable=none deb=()
    rm -f "$disk/monitor.in" "$disk/monitor.out"
    mkfifo "$disk/monitor.in" "$disk/monitor.out"
    if ! ip link show "$lab-$node" >/dev/null 2>&1; then
        ip tuntap add "$lab-$node" mode tap
        ip link set "$lab-$node" master "$lab" up
    fi
    cable="tap,id=net,ifname=$lab-$node,script=no,downscript=no"
    deb=(-drive "file=$disk/deb.img,if=virtio,format=raw,readonly=on")
    setsid qemu-system-x86_64 -name "$lab-$node" -M q35 -accel tcg,thread=multi,tb-size=256 -cpu max -smp 1 -m 640 \
        -display none -serial "file:$disk/console.log" -monitor "pipe:$disk/monitor" -no-reboot \
        -kernel "$image/vmlinuz" -initrd "$image/init.cpio.zst" \
        -append "console=ttyS0 quiet mitigations=off tsc=reliable audit=0 net.ifnames=0 panic=1 lab.address=$address lab.name=$node" \
        -drive "file=$disk/root.qcow2,if=virtio,cache=writeback" -drive "file=$disk/data.qcow2,if=virtio,cache=writeback" "${deb[@]}" \
        -netdev "$cable" -device "virtio-net-pci,netdev=net,mac=52:54:00:00:00:$(printf %02x "$last"),romfile=" \
        -device virtio-rng-pci "$@" </dev/null >"$disk/qemu.log" 2>&1 9>&- &
    echo $! >"$disk/qemu.pid"
}

# booted: waits until the machine answers, and its systemd has done what there was to do.
booted() {
    for _ in $(seq 600); do
        if state="$(answer 10 'systemctl is-system-running')" || [ "$state" = degraded ]; then return 0; fi
        kill -0 "$(machine)" 2>/dev/null || break
        sleep 0.5
    done
    say "machine $node does not boot; see $folder/$node/console.log and qemu.log"
    return 1
}

case "$verb" in
net | plug | unplug | cut | heal) exec "$here/node.sh" "$@" ;;
up)
    folder="$3" node="$4" address="$5" image="$6"
    disk="$folder/$node"
    mkdir -p "$disk"
    echo "$address" >"$disk/address"
    rm -f "$disk/deb.img"
    if [ -n "${7:-}" ]; then
        truncate -s "$(($(du -sm "$7" | cut -f1) * 5 / 4 + 16))M" "$disk/deb.img"
        mke2fs -q -t ext4 -O ^has_journal -d "$7" "$disk/deb.img"
    else
        truncate -s 1M "$disk/deb.img"
    fi
    if [ -e "$disk/root.qcow2" ]; then
        start
        booted
        exit
    fi
    kept="$image/$address-${LAB_DISK:-256M}"
    exec 9>"$image/lock"
    flock 9
    if [ ! -d "$kept" ]; then
        qemu-img create -q -f qcow2 -F raw -b "$image/base.img" "$disk/root.qcow2"
        qemu-img create -q -f qcow2 "$disk/data.qcow2" "${LAB_DISK:-256M}"
        start
        booted
        printf 'savevm booted\nquit\n' >"$disk/monitor.in"
        timeout 300 tail --pid="$(machine)" -f /dev/null
        mkdir "$kept.part"
        mv "$disk"/{root,data}.qcow2 "$kept.part/"
        mv "$kept.part" "$kept"
    fi
    flock -u 9
    cp --sparse=always "$kept"/{root,data}.qcow2 "$disk/"
    start -loadvm booted
    booted
    answer 10 "date -s @$(date +%s)" >/dev/null
    ;;
run)
    folder="$3" node="$4"
    shift 4
    # The words as they are here, once more in the shell there.
    answer "${LAB_SECONDS:-120}" "${*@Q}"
    ;;
freeze) folder="$3" node="$4" && kill -STOP "$(machine)" ;;
thaw) folder="$3" node="$4" && kill -CONT "$(machine)" ;;
crash)
    folder="$3" node="$4" pid="$(machine)"
    kill -KILL "$pid"
    for _ in $(seq 100); do
        grep -qs '^State:.[^ZX]' "/proc/$pid/status" || exit 0
        sleep 0.05
    done
    say "machine $node does not die"
    exit 1
    ;;
down)
    folder="$3"
    for disk in "$folder"/*/; do
        node="$(basename "$disk")"
        [ -e "$disk/qemu.pid" ] || continue
        kill -KILL "$(machine)" 2>/dev/null || true
        for _ in $(seq 100); do ip link del "$lab-$node" 2>/dev/null && break; sleep 0.05; done
    done
    ip link del "$lab" 2>/dev/null || true
    nft delete table bridge "$lab" 2>/dev/null || true
    ;;
*)
    say "unknown verb '$verb'; the head of this file lists them"
    exit 2
    ;;
esac
