#!/usr/bin/env bash
# A node: a real systemd as PID 1 in a container, with a network of its own on the bridge of its lab. Needs root, systemd-nspawn,
# ip and nft. A lab has a name (it is in every interface, namespace and cgroup) and a folder for what its nodes write.
#
#   node.sh net LAB SUBNET             the bridge, this machine at SUBNET.1:   node.sh net msw1 10.77.1
#   node.sh up LAB FOLDER NODE ADDRESS ROOTFS [--bind=...]    boots it; again after crash: its disk is as it was
#   node.sh run LAB FOLDER NODE COMMAND...                    a command in it
#   node.sh freeze|thaw|crash LAB FOLDER NODE                 crash: every process dies at once
#   node.sh unplug|plug LAB NODE       its cable. A power-off is unplug, then crash: nobody gets a reset
#   node.sh cut|heal LAB NODE          packets of it are dropped by the bridge, its link stays up
#   node.sh down LAB FOLDER            everything is gone but FOLDER
set -euo pipefail

verb="$1" lab="$2"
groups() { for kind in unified systemd memory; do
    [ -d "/sys/fs/cgroup/$kind" ] && echo "/sys/fs/cgroup/$kind/$lab-$1"
done; }
# The cgroup that can freeze and kill. With one hierarchy only, that is the whole of it.
main_group() { groups "$1" | head -1; }
init() { # PID 1 of the node, as this machine sees it
    local container
    container="$(cat "$folder/$node/container.pid")"
    awk '{ print $1 }' "/proc/$container/task/$container/children"
}

case "$verb" in
net)
    subnet="$3"
    ip link add "$lab" type bridge stp_state 0 forward_delay 0
    ip addr add "$subnet.1/24" dev "$lab"
    ip link set "$lab" up
    printf 'table bridge %s {\n chain cut { type filter hook forward priority 0;\n }\n chain out { type filter hook output priority 0;\n }\n chain in { type filter hook input priority 0;\n }\n}\n' "$lab" | nft -f -
    ;;
up)
    folder="$3" node="$4" address="$5" rootfs="$6"
    shift 6
    disk="$folder/$node"
    mkdir -p "$disk/upper" "$disk/work" "$disk/root"
    mountpoint -q "$disk/root" || mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
    if [ ! -e "/run/netns/$lab-$node" ]; then
        ip netns add "$lab-$node"
        ip -n "$lab-$node" link set lo up
        ip link add "$lab-$node" type veth peer name eth0 netns "$lab-$node"
        ip link set "$lab-$node" master "$lab" up
        ip -n "$lab-$node" addr add "$address/24" dev eth0
        ip -n "$lab-$node" link set eth0 up
    fi
    rm -rf "/run/systemd/nspawn/propagate/$lab-$node"
    mapfile -t cgroups < <(groups "$node")
    mkdir -p "${cgroups[@]}"
    # In cgroups of its own before it becomes the container: all nodes would share one otherwise.
    # shellcheck disable=SC2016 # the inner shell expands it
    setsid bash -c '
        disk="$1" machine="$2" name="$3"; shift 3
        echo $$ >"$disk/container.pid"
        while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done
        shift
        exec systemd-nspawn --quiet --boot --register=no --keep-unit -M "$machine" --hostname="$name" -D "$disk/root" \
            --network-namespace-path="/run/netns/$machine" --console=pipe --kill-signal=SIGRTMIN+3 \
            --resolv-conf=off --timezone=off --link-journal=no "$@"' \
        - "$disk" "$lab-$node" "$node" "${cgroups[@]}" -- "$@" </dev/null >"$disk/console.log" 2>&1 9>&- &
    for _ in $(seq 300); do
        if first="$(init 2>/dev/null)" && [ -n "$first" ]; then
            state="$(nsenter -t "$first" -a systemctl is-system-running 2>/dev/null || true)"
            case "$state" in running | degraded) exit 0 ;; esac
        fi
        sleep 0.1
    done
    echo "$0: node $node does not boot; see $disk/console.log" >&2
    exit 1
    ;;
run)
    folder="$3" node="$4"
    shift 4
    exec nsenter -t "$(init)" -a -- "$@"
    ;;
freeze) echo 1 >"$(main_group "$4")/cgroup.freeze" ;;
thaw) echo 0 >"$(main_group "$4")/cgroup.freeze" ;;
crash)
    folder="$3" node="$4"
    container="$(cat "$folder/$node/container.pid")"
    echo 1 >"$(main_group "$node")/cgroup.kill"
    for _ in $(seq 100); do
        # Dead is dead, also where nobody has read its end yet.
        grep -qs '^State:.[^ZX]' "/proc/$container/status" || exit 0
        sleep 0.05
    done
    echo "$0: node $node does not die" >&2
    exit 1
    ;;
unplug) ip link set "$lab-$3" down ;;
plug) ip link set "$lab-$3" up ;;
cut)
    nft add rule bridge "$lab" cut iifname "$lab-$3" drop
    nft add rule bridge "$lab" cut oifname "$lab-$3" drop
    nft add rule bridge "$lab" out oifname "$lab-$3" drop
    nft add rule bridge "$lab" in iifname "$lab-$3" drop
    ;;
heal) for chain in cut out in; do nft flush chain bridge "$lab" "$chain"; done ;;
down)
    folder="$3"
    for disk in "$folder"/*/; do
        node="$(basename "$disk")"
        [ -d "$disk/root" ] || continue
        group="$(main_group "$node")"
        [ ! -d "$group" ] || echo 1 >"$group/cgroup.kill"
        for _ in $(seq 100); do if umount "$disk/root" 2>/dev/null; then break; else sleep 0.05; fi; done
        ip netns del "$lab-$node" 2>/dev/null || true
        for group in $(groups "$node"); do
            # The dead are in it until somebody has read their end.
            for _ in $(seq 60); do
                [ -d "$group" ] || break
                find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.05
            done
        done
        rm -rf "/run/systemd/nspawn/propagate/$lab-$node"
    done
    ip link del "$lab" 2>/dev/null || true
    nft delete table bridge "$lab" 2>/dev/null || true
    ;;
*)
    echo "$0: unknown verb '$verb'; the head of this file lists them" >&2
    exit 2
    ;;
esac
