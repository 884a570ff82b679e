//! Keys of the cluster, this node and its queue.

use super::row::Unset::{Required, Value as Is, Words};
use super::row::{Key, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "cluster.id",
        "name",
        Required,
        "The cluster's name, the same on every node. It stands in every lease and segment: a queue of another cluster is refused.",
    ),
    key(
        "cluster.nodes[].id",
        "name",
        Required,
        "A node's name, which is also its queue's. Without `cluster.nodes` this node stands alone.",
    ),
    key(
        "cluster.nodes[].heartbeat[]",
        "address:port",
        Words("required with two or more nodes"),
        "Where the node hears heartbeats (UDP), one address for each path. Two paths are better than one.",
    ),
    key(
        "cluster.nodes[].control",
        "address:port",
        Words("none"),
        "Where operators' tools on the other nodes ask this node's programs, over TLS with keys made from the cluster's key. Without it they are asked on the node itself only.",
    ),
    key(
        "cluster.nodes[].witness",
        "`true` or `false`",
        Is("false"),
        "This node has no queue and takes none over: its heartbeatd keeps one small register for each queue on promoted storage. At most one node; it needs `control`.",
    ),
    key(
        "cluster.arbiter.etcd[]",
        "URL",
        Words("the witness, if there is one"),
        "The members of an etcd (3.4 or later) that keeps these registers instead of a witness: `http://…` or `https://…`, the latter by the machine's root certificates.",
    ),
    key(
        "cluster.key_file",
        "path",
        Words("required with two or more nodes"),
        "The key of the heartbeats. `switchctl cluster keygen` makes it; copy it to every node, mode 600.",
    ),
    key(
        "cluster.takeover.window",
        "duration",
        Is("2s"),
        "W: an owner whose lease did not change for so long is taken for dead. 1s to 120s. The other timers follow from it.",
    ),
    key(
        "cluster.takeover.order[]",
        "name",
        Words("the next node in `cluster.nodes`"),
        "Who takes first, whichever node dies. Nodes that are not named come last: first the one that follows the dead node in `cluster.nodes`, in a ring, so that the queues of several dead nodes are split over the survivors.",
    ),
    key(
        "cluster.takeover.renew",
        "duration",
        Words("3/20 of the window, at most 1s"),
        "R: an owner renews its lease this often. At most a fifth of the window.",
    ),
    key(
        "cluster.takeover.observe",
        "duration",
        Words("1/8 of the window, at most 833ms"),
        "P: a watcher reads a lease this often. At most `renew`.",
    ),
    key(
        "cluster.takeover.own_limit",
        "duration",
        Words("3/4 of the window, less for a short one"),
        "L: an owner that could not renew for so long begins nothing that can be seen outside.",
    ),
    key("cluster.takeover.heartbeat", "duration", Is("200ms"), "H: heartbeats go out this often."),
    key(
        "cluster.takeover.suspect",
        "duration",
        Is("1s"),
        "A node not heard for so long is suspect on that path. Longer than `heartbeat`.",
    ),
    key(
        "cluster.takeover.stagger",
        "duration",
        Is("300ms"),
        "Each later taker waits this much longer before it takes.",
    ),
    key(
        "cluster.takeover.handback_hold",
        "duration",
        Is("15s"),
        "A returned node is watched for so long before its queue goes back.",
    ),
    key(
        "cluster.takeover.grace",
        "duration",
        Is("10s"),
        "Running deliveries may take so long when a queue is handed back.",
    ),
    key("node.id", "name", Required, "This node: one of `cluster.nodes`."),
    key(
        "node.state_dir",
        "path",
        Is("/var/lib/mailswitch"),
        "Sockets and decision records: everything that is not the queue. Local to the node. Made if missing.",
    ),
    key(
        "node.hostname",
        "host name",
        Words("the machine's full name; without one `NODE.CLUSTER.invalid`"),
        "The name in greetings, EHLO and Received.",
    ),
    key(
        "queue.dir",
        "path",
        Is("/var/spool/mailswitch"),
        "One directory for each queue lies below it. Every node must see the same one.",
    ),
    key(
        "queue.storage",
        "`shared` or `promoted`",
        Is("shared"),
        "What lies under it: a file system that every node reads and writes, or devices that one node at a time has mounted, a queue each at `queue.dir/QUEUE`, with a copy on two nodes. `promoted` needs `queue.promoted.command` and an arbiter; see [STORAGE.md](STORAGE.md).",
    ),
    key(
        "queue.promoted.command[]",
        "words",
        Words("none"),
        "A program and its arguments that asks and moves the device of a queue: run as `PROGRAM ARGUMENTS ACTION QUEUE DIRECTORY`, where the action is `state`, `promote` or `release`.",
    ),
    key(
        "queue.promoted.timeout",
        "duration",
        Is("10s"),
        "That program is taken for failed, and killed with its process group, after so long. 100ms to 10m.",
    ),
    key("queue.segment_size", "size", Is("64MiB"), "Bytes of a segment file. 1MiB to 1GiB."),
    key(
        "queue.free_space_reserve",
        "size",
        Is("256MiB"),
        "New mail is answered with 452 when less than this is free.",
    ),
    key(
        "fence.command[]",
        "words",
        Words("none"),
        "A program and its arguments that puts a node off: run as `PROGRAM ARGUMENTS off NODE`. It exits with 0 only if the node is proven off.",
    ),
    key(
        "fence.timeout",
        "duration",
        Is("30s"),
        "That program is taken for failed, and killed with its process group, after so long. 100ms to 10m.",
    ),
    key(
        "launcher",
        "`exec` or `systemd`",
        Is("exec"),
        "How heartbeatd starts a secondary: as its child, which ends with it, or as `switch-takeover@QUEUE.service`, which goes on while heartbeatd restarts. `systemd` needs the units of [SERVICE.md](SERVICE.md).",
    ),
];
