//! The table of keys: what is written where, what holds without it, what it means.

/// What holds when a key is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unset {
    /// It must be written.
    Required,
    /// As if this were written.
    Value(&'static str),
    /// In words.
    Words(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// Its way from the top; `[]` stands for every item of a list.
    pub(crate) path: &'static str,
    /// What is written there.
    pub(crate) form: &'static str,
    pub(crate) default: Unset,
    /// What it means.
    pub(crate) text: &'static str,
}

const fn key(path: &'static str, form: &'static str, default: Unset, text: &'static str) -> Key {
    Key { path, form, default, text }
}

use Unset::{Required, Value as Is, Words};

/// The table, in the order of the reference page.
pub(crate) const KEYS: &[Key] = &[
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
        "Where the node's heartbeatd is asked by the others. Kept for the time when nodes ask each other over the network.",
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
        Words("as in `cluster.nodes`"),
        "Who takes first. Nodes that are not named come last.",
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
        "Each lower rank of `order` waits this much longer before it takes.",
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
        "`shared`",
        Is("shared"),
        "What lies under it: a file system that every node reads and writes. `promoted` (a device mounted by one node at a time) is refused for now.",
    ),
    key("queue.segment_size", "size", Is("64MiB"), "Bytes of a segment file. 1MiB to 1GiB."),
    key(
        "queue.free_space_reserve",
        "size",
        Is("256MiB"),
        "New mail is answered with 452 when less than this is free.",
    ),
    key(
        "listeners[].address",
        "address:port",
        Required,
        "Where SMTP is listened for. At least one listener is needed.",
    ),
    key(
        "listeners[].kind",
        "`relay` or `submission`",
        Is("relay"),
        "`relay` takes mail from other servers and from trusted networks. `submission` (RFC 6409, ports 587 and 465) takes mail from users: each authenticates under TLS first, sends as its own senders only, and may send anywhere. It needs `tls`, and users (`auth.users`).",
    ),
    key(
        "listeners[].tls.cert",
        "path",
        Required,
        "Certificate chain, PEM, the listener's own first. With it clients may use TLS (1.2 or newer). It is read again on every reload.",
    ),
    key(
        "listeners[].tls.key",
        "path",
        Required,
        "Private key of the first certificate, PEM. It is read again on every reload.",
    ),
    key(
        "listeners[].tls_mode",
        "`starttls` or `implicit`",
        Is("starttls"),
        "When TLS begins: after STARTTLS (RFC 3207), or at once, as on port 465 (RFC 8314). `implicit` needs `tls`.",
    ),
    key(
        "listeners[].proxy_protocol",
        "true or false",
        Is("false"),
        "Balancers say by a PROXY header, version 1 or 2, whose connection they pass on; limits, relay control, the Received field and the log go by that client. From the networks of `proxy_from` the header must come (HAProxy: `send-proxy-v2`); from elsewhere none is read.",
    ),
    key(
        "listeners[].proxy_from[]",
        "network",
        Words("`127.0.0.0/8` and `::1`"),
        "The balancers of `proxy_protocol`. Their own checks (v2 LOCAL, v1 UNKNOWN) are answered and count in no client's limits.",
    ),
    key(
        "listeners[].xclient_from[]",
        "network",
        Words("none"),
        "Who may say by XCLIENT whose session it passes on (nginx, another MTA, a test): name, address, HELO. Only they are offered it.",
    ),
    key(
        "auth.users",
        "path",
        Is("/etc/mailswitch/users"),
        "The users file: a line for each user. `switchctl user` makes and edits it. A change is noticed at the next authentication; a file with a fault changes nothing.",
    ),
    key(
        "auth.mechanisms[]",
        "`scram-sha-256`, `plain` or `login`",
        Words("all of them"),
        "What is offered on listeners for submission, in this order, and never without TLS.",
    ),
    key(
        "auth.failure_delay",
        "duration",
        Is("2s"),
        "A failed authentication is answered no sooner. 0s to 30s. The third failure ends a session.",
    ),
    key(
        "auth.failures_per_client",
        "number",
        Is("20"),
        "After so many failures in ten minutes a client address (IPv6: its /64) gets 454 without a look at its password.",
    ),
    key(
        "health.address",
        "address:port",
        Words("not served"),
        "Where `/health/live`, `/health/ready`, `/health/takeover` and `/metrics` are answered (HTTP).",
    ),
    key(
        "agent.address",
        "address:port",
        Words("not served"),
        "Where HAProxy's agent-check is answered by heartbeatd.",
    ),
    key(
        "monitor.address",
        "address:port",
        Words("not served"),
        "Where heartbeatd answers `/health/live`, `/health/takeover` and `/metrics` (HTTP), with the metrics of the secondaries it runs.",
    ),
    key(
        "relay.trusted_networks[]",
        "network",
        Words("none"),
        "Clients of these networks may send anywhere: `10.0.0.0/8`, `2001:db8::/32`, or one address.",
    ),
    key(
        "relay.domains[]",
        "domain",
        Words("none"),
        "Everybody may send to these: `example.test` is that domain, `.example.test` every domain below it.",
    ),
    key(
        "routes[].match",
        "pattern",
        Required,
        "`*`, `example.test`, `.example.test`, `user@example.test` or `/expression/`, which is looked for in the address. The most specific wins, wherever it stands: address, expression, domain, longest parent domain, `*`. At least one route is needed.",
    ),
    key(
        "routes[].next_hop",
        "hosts, `mx`, `lmtp://host:port`, `lmtp:unix:/path`, `discard`, `hold` or `error: STATUS text`",
        Required,
        "Where that mail goes: `10.0.0.1, mx.example.test:2525, [2001:db8::1]:25`, tried in this order. Port 25 if none is written. `mx`: to the hosts that DNS names for the recipient's domain (RFC 5321 5.1), best preference first. `lmtp:` is one server that speaks LMTP (RFC 2033). `discard`: it is taken and deleted, and nobody is told. `hold`: it is set aside; when it is released its route is looked up again. `error: 5.1.1 no such user`: it is refused at RCPT, with 4.x.x for now and with 5.x.x for good, and bounces if it is in the queue already.",
    ),
    key(
        "routes[].tls",
        "`none`, `may`, `encrypt`, `verify`, `dane` or `mta-sts`",
        Is("may"),
        "TLS toward the next hop. `may`: with any certificate if STARTTLS is offered and works, else in clear. `encrypt`: with any certificate, or the mail waits. `verify`: with a valid certificate for the host as it is written in `next_hop`, or the mail waits. `none`: never. `dane` and `mta-sts`, with `next_hop: mx`: what the domain itself asks for, by signed DNS (RFC 7672, needs `dns.trust_ad`) or by a policy on its web server (RFC 8461); a domain that asks for nothing is met as with `may`.",
    ),
    key(
        "routes[].tls_roots",
        "path",
        Words("the machine's own"),
        "The certificates that `verify` and `mta-sts` trust, PEM. It is read again on every reload.",
    ),
    key(
        "dns.servers[]",
        "address, or address:port",
        Words("those of `/etc/resolv.conf`"),
        "Who is asked for names, MX hosts and addresses. Answers are kept as long as their records allow; a reload forgets them.",
    ),
    key(
        "dns.timeout",
        "duration",
        Is("5s"),
        "How long one question to one server may take. It is asked twice. 100ms to 30s.",
    ),
    key(
        "dns.trust_ad",
        "true or false",
        Is("false"),
        "The servers validate DNSSEC, and nobody stands between them and this machine: what they mark as authentic (the AD bit) is believed. Right for an own resolver on this machine only.",
    ),
    key(
        "dns.addresses",
        "`ipv6_first`, `ipv4_first`, `ipv4` or `ipv6`",
        Is("ipv6_first"),
        "Which addresses of a host are tried, and which kind first.",
    ),
    key(
        "dns.mx_port",
        "number",
        Is("25"),
        "Where the MX hosts of `next_hop: mx` are spoken to. Another one than 25 is for tests.",
    ),
    key(
        "dns.sts_port",
        "number",
        Is("443"),
        "Where the web servers of MTA-STS policies are asked. Another one than 443 is for tests.",
    ),
    key(
        "dns.own[]",
        "address or host name",
        Words("none"),
        "By what this switch is known in MX records besides `node.hostname` and the addresses it listens at: a balancer's address, the other nodes. Mail is never sent to a host at its own preference or behind it, which would loop.",
    ),
    key(
        "tables.routes",
        "path",
        Words("none"),
        "More routes, a line each: a pattern as in `routes[].match`, a next hop, and `tls=POLICY` if wanted. See [TABLES.md](TABLES.md), as for all tables.",
    ),
    key(
        "tables.aliases",
        "path",
        Words("none"),
        "Who stands for whom: a pattern and addresses. Recipients are replaced before a message is queued.",
    ),
    key(
        "tables.recipients",
        "path",
        Words("everybody"),
        "Who there is in `relay.domains`, a pattern a line. Anybody else there is refused with 550 at RCPT.",
    ),
    key(
        "tables.senders",
        "path",
        Words("none"),
        "What senders become: a pattern and an address, or `@domain` that replaces the domain.",
    ),
    key(
        "limits.message_size",
        "size",
        Is("10MiB"),
        "The largest message. At least 64KiB (RFC 5321 4.5.3.1.7), at most 1GiB.",
    ),
    key(
        "limits.recipients",
        "number",
        Is("1000"),
        "Recipients of one message. At least 100 (RFC 5321 4.5.3.1.8), at most 65535.",
    ),
    key("limits.connections", "number", Is("10000"), "Connections of all clients."),
    key(
        "limits.connections_per_client",
        "number",
        Is("100"),
        "Connections of one client address. Not more than `connections`. The next gets 421.",
    ),
    key(
        "limits.network_factor",
        "number",
        Is("5"),
        "A network of clients (IPv4 /24, IPv6 /64) may have as many connections, and do as much in a minute, as so many clients.",
    ),
    key(
        "limits.exempt[]",
        "network",
        Words("`relay.trusted_networks`"),
        "Clients without the bounds below and that of their network. The nodes of the cluster and the balancers' own checks always are.",
    ),
    key(
        "limits.per_minute.connections",
        "number",
        Words("no bound"),
        "Connections that a client may make in a minute, at once or spread. The next gets 421 4.7.0.",
    ),
    key(
        "limits.per_minute.messages",
        "number",
        Words("no bound"),
        "Messages that a client may begin in a minute. The next MAIL gets 450 4.7.1.",
    ),
    key(
        "limits.per_minute.recipients",
        "number",
        Words("no bound"),
        "Recipients that a client may name in a minute. The next RCPT gets 450 4.7.1.",
    ),
    key(
        "limits.per_minute.commands",
        "number",
        Words("no bound"),
        "Commands that a client may send in a minute. Then it gets 421 4.7.0.",
    ),
    key(
        "limits.per_minute.errors",
        "number",
        Words("no bound"),
        "Commands of a client that may be refused in a minute. Then it gets 421 4.7.0.",
    ),
    key(
        "limits.errors",
        "number",
        Is("20"),
        "Errors of a session, since its last accepted message, until it is ended with 421.",
    ),
    key(
        "limits.tarpit_after",
        "number",
        Is("10"),
        "Errors of a session, since its last accepted message, that are answered at once.",
    ),
    key(
        "limits.tarpit",
        "duration",
        Is("1s"),
        "How long the answers to further ones wait. At most 30s; `0s`: they do not.",
    ),
    key(
        "limits.commands_without_mail",
        "number",
        Is("100"),
        "Commands of a session that bring no message nearer (NOOP, RSET, EHLO and the like), between two accepted messages, until it is ended with 421.",
    ),
    key(
        "limits.greet_delay",
        "duration",
        Is("0s"),
        "How long a client waits for its greeting. Many spam programs do not, and betray themselves. At most 30s.",
    ),
    key(
        "limits.early_talk",
        "`refuse` or `tolerate`",
        Is("refuse"),
        "What becomes of a client that talks before its greeting (RFC 5321 4.3.1): 554 and the end, or nothing.",
    ),
    key(
        "limits.pipelining",
        "`tolerate` or `strict`",
        Is("tolerate"),
        "What becomes of a client that sends more behind a command that must be the last of its group (RFC 2920 3.1: EHLO, DATA, NOOP, VRFY and the like), or sends groups without EHLO. `strict`: 554 and the end.",
    ),
    key(
        "limits.command_timeout",
        "duration",
        Is("5m"),
        "How long a client may take for one whole command (RFC 5321 4.5.3.2.7: 5m). Then 421.",
    ),
    key(
        "limits.data_timeout",
        "duration",
        Is("5m"),
        "How long a client may be silent within a message. Then 421.",
    ),
    key(
        "limits.data_rate",
        "size",
        Is("100B"),
        "What a client must send of a message in each second on the average, after its first `data_timeout`. Then 421. `0B`: nothing.",
    ),
    key("limits.message_timeout", "duration", Is("1h"), "How long one whole message may take. Then 421."),
    key(
        "limits.session_timeout",
        "duration",
        Is("6h"),
        "How old a session may grow. It ends with 421 at the first moment after that without a message under way.",
    ),
    key(
        "limits.tls_handshake",
        "duration",
        Is("30s"),
        "How long a TLS handshake may take, in and out. 100ms to 5m.",
    ),
    key(
        "limits.hops",
        "number",
        Is("50"),
        "A message with more Received fields loops and is refused (RFC 5321 6.3).",
    ),
    key(
        "limits.concurrency_per_destination",
        "number",
        Is("20"),
        "Transactions at once toward one next hop. Not more than `concurrency`.",
    ),
    key("limits.concurrency", "number", Is("500"), "Transactions at once in all."),
    key(
        "retry.first",
        "duration",
        Is("1m"),
        "Wait after the first failed attempt. It doubles with every further one. At least 100ms.",
    ),
    key(
        "retry.max",
        "duration",
        Is("1h"),
        "The longest wait. `first` <= `max` <= `lifetime`; a default gives way to what is written.",
    ),
    key(
        "retry.lifetime",
        "duration",
        Is("5d"),
        "A message that is still queued after so long bounces (RFC 5321 4.5.4.1).",
    ),
    key(
        "alerts.after",
        "duration",
        Is("10s"),
        "What is wrong must last so long before anybody is told, and be over for so long before that is told. A takeover is told at once. 0s to 1h.",
    ),
    key("alerts.repeat", "duration", Is("4h"), "What stays wrong is told again after so long. 1m to 30d."),
    key(
        "alerts.webhook.url",
        "URL",
        Required,
        "Where heartbeatd posts alerts as JSON: `https://…` or `http://…`. It is tried again when it fails.",
    ),
    key(
        "alerts.webhook.secret_file",
        "path",
        Words("not signed"),
        "A file with a secret: each post is signed with it, HMAC-SHA256 of `TIMESTAMP.BODY` in `X-Mailswitch-Signature`.",
    ),
    key("alerts.mail.to[]", "mail address", Required, "Who gets alerts by mail."),
    key("alerts.mail.from", "mail address", Words("mailswitch at `node.hostname`"), "Who they are from."),
    key(
        "alerts.mail.through[]",
        "address:port",
        Words("this node's first listener"),
        "SMTP listeners that take them from this node, tried in this order: the own, then those of the other nodes.",
    ),
    key(
        "alerts.command[]",
        "words",
        Words("none"),
        "A program and its arguments, run for each alert: the JSON on its standard input, `MAILSWITCH_ALERT_STATUS` and `MAILSWITCH_ALERT_NAME` in its environment.",
    ),
    key(
        "log.format",
        "`logfmt`, `json` or `journald`",
        Is("logfmt"),
        "How a line of the log looks, on standard error. `journald`: as `logfmt`, with the priority in front and without the time, which journald knows.",
    ),
    key(
        "log.level",
        "`error`, `warn`, `info`, `debug` or `trace`",
        Is("info"),
        "What is logged. `switchctl log set` changes it for a part of a running program.",
    ),
    key(
        "launcher",
        "`exec` or `systemd`",
        Is("exec"),
        "How heartbeatd starts a secondary: as its child, which ends with it, or as `switch-takeover@QUEUE.service`, which goes on while heartbeatd restarts. `systemd` needs the units of [SERVICE.md](SERVICE.md).",
    ),
];
