#!/bin/sh
# A device with a copy on two nodes, played by directories: the newer copy lies in $ROOT/device, or in the folder of the node
# that has it mounted. Called as: hook.sh ROOT NODE ACTION QUEUE DIR.
#   $ROOT/off-NODE    this node has no power
#   $ROOT/cut         the copies are cut from each other: the one that is behind lies in $ROOT/behind, and what is released goes
#                     to $ROOT/parted
#   $ROOT/split       both sides wrote, and the device has noticed
set -u
root=$1 node=$2 action=$3 queue=$4 dir=$5
mine=$root/primary/$node-$queue
# Let go of with the script, however it ends.
exec 9>"$root/lock-$queue"
flock 9
peer=connected
for other in a b; do
    [ "$other" != "$node" ] && [ -e "$root/off-$other" ] && peer=alone
done
[ -e "$root/cut" ] && peer=alone
[ -e "$root/split" ] && peer="split"
case $action in
state)
    role=secondary mounted=false
    [ -e "$mine" ] && role=primary mounted=true
    echo "{\"role\":\"$role\",\"mounted\":$mounted,\"data\":\"current\",\"peer\":\"$peer\"}"
    ;;
promote)
    [ -e "$mine" ] && [ -d "$dir" ] && exit 0
    from=$root/device/$queue
    if [ $peer = connected ]; then
        for other in "$root"/primary/*-"$queue"; do
            [ -e "$other" ] && [ "$other" != "$mine" ] && exit 1
        done
    else
        "$root/switchctl" --config "$root/$node.yaml" ha copy-alone "$queue" 9>&- || exit 1
        [ -d "$root/behind/$queue" ] && from=$root/behind/$queue
    fi
    [ -d "$from" ] || exit 1
    : >"$mine" && mv "$from" "$dir"
    ;;
release)
    [ -e "$mine" ] || exit 0
    find /proc/[0-9]*/fd -lname "$dir/*" 2>/dev/null | grep -q . && exit 1
    to=$root/device/$queue
    [ $peer = alone ] && [ -e "$root/cut" ] && to=$root/parted/$queue
    [ $peer = split ] && to=$root/parted/$queue
    mv "$dir" "$to" && rm "$mine"
    ;;
*)
    exit 2
    ;;
esac
