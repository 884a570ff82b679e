#!/bin/sh
# Puts a node off: its programs are killed, and its devices are nobody's. Called as: off.sh ROOT off NODE.
set -u
root=$1 node=$3
while read -r pid; do kill -9 "$pid" 2>/dev/null; done <"$root/pids-$node"
: >"$root/pids-$node"
: >"$root/off-$node"
# The kernel takes a moment to close what they had open.
sleep 0.2
for mine in "$root/primary/$node"-*; do
    [ -e "$mine" ] || continue
    queue=${mine##*-}
    mv "$root/spool-$node/$queue" "$root/device/$queue" && rm "$mine"
done
exit 0
