# shellcheck shell=bash
# What the runbooks need around them: two nodes as real processes, and the words of a Debian machine for them. `# on node b` in a
# runbook is the function below that says so. systemctl starts, stops and signals the programs themselves; apt and editor do
# what the runbook has them for.

# site_up FOLDER ADDRESS: lays two nodes out and starts them. Sections find three messages in the queue of b that wait.
site_up() {
    export SITE="$1" ADDRESS="$2"
    for node in a b c; do
        mkdir -p "$SITE/$node"
        site_config "$node" a b >"$SITE/$node/mailswitch.yaml"
    done
    on a
    switchctl cluster keygen >/dev/null
    for node in a b; do
        on "$node"
        systemctl start "switch@$node" heartbeatd
    done
    for node in a b; do
        on "$node"
        until switchctl status --check >/dev/null; do sleep 0.2; done
        for n in 1 2 3; do
            printf 'Subject: %s\n\nhello\n' "$n" |
                (exec -a sendmail switchctl -C "$SITE/$node/mailswitch.yaml" -f me@sender.test "you$n@example.test")
        done
        until [ "$(switchctl queue list --node "$node" -o tsv | wc -l)" -eq 4 ]; do sleep 0.2; done
    done
    on a
}

# site_config NODE MEMBER...: what stands in a node's file.
site_config() {
    local node="$1" member n=0
    shift
    echo "cluster:"
    echo "  id: demo"
    echo "  key_file: ../cluster.key"
    echo "  takeover: { window: 2s, handback_hold: 1s }"
    echo "  nodes:"
    for member in "$@"; do
        n=$((n + 1))
        echo "    - { id: $member, heartbeat: [$ADDRESS:710$n], control: $ADDRESS:720$n }"
    done
    cat <<END
node: { id: $node, state_dir: state }
queue: { dir: ../spool, free_space_reserve: 1MiB }
listeners: [ { address: "$ADDRESS:$(printf "25%d" "'$node")" } ]
relay: { trusted_networks: [127.0.0.0/8] }
routes: [ { match: "*", next_hop: discard }, { match: example.test, next_hop: hold } ]
END
}

# site_down: everything in order, and the books of every queue balance.
site_down() {
    on a
    switchctl ledger verify >/dev/null || [ $? -eq 3 ]
    for node in a b c; do
        on "$node"
        systemctl stop "switch@$node" heartbeatd
    done
}

on() { export NODE="$1"; }
switchctl() { command switchctl --config "$SITE/$NODE/mailswitch.yaml" "$@"; }
# Waits with a bound are shells of their own.
export -f switchctl

# systemctl VERB [OPTION] UNIT...: the units of this node.
systemctl() {
    local verb="$1" unit signal=KILL
    shift
    for unit in "$@"; do
        case "$unit" in
            -s) ;;
            KILL | STOP | CONT) signal="$unit" ;;
            --now | mailswitch.target) ;;
            "switch@$NODE" | heartbeatd) unit_do "$verb" "${unit%@*}" "$signal" ;;
            *) echo "systemctl $verb: node $NODE has no $unit" >&2; return 1 ;;
        esac
    done
}

unit_do() {
    local verb="$1" program="$2" signal="$3" file="$SITE/$NODE/$2.pid"
    case "$verb" in
        start | enable)
            command "$program" run --config "$SITE/$NODE/mailswitch.yaml" 2>>"$SITE/$NODE/$program.log" &
            echo "$!" >"$file"
            ;;
        stop | disable)
            [ -f "$file" ] || return 0
            kill "$(cat "$file")" 2>/dev/null || true
            wait "$(cat "$file")" || true
            rm "$file"
            ;;
        restart) unit_do stop "$program" "" && unit_do start "$program" "" ;;
        reload) switchctl config check >/dev/null && kill -HUP "$(cat "$file")" ;;
        kill) kill "-$signal" "$(cat "$file")" ;;
        *) echo "systemctl $verb: not here" >&2; return 1 ;;
    esac
}

# The new programs are the ones that are there.
apt() { [ "$1" = install ]; }

# editor FILE: writes the members that the runbook wants into the file of this node.
editor() { site_config "$NODE" "${MEMBERS[@]}" >"$SITE/$NODE/${1##*/}"; }
