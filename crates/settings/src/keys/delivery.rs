//! Keys of where mail goes, and when it is tried again.

use super::row::Unset::{Required, Value as Is, Words};
use super::row::{Key, key};

pub(super) const KEYS: &[Key] = &[
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
        "routes[].auth.user",
        "text",
        Required,
        "The user as whom mail is given to the next hop (RFC 4954). While the next hop does not take it, mail waits.",
    ),
    key(
        "routes[].auth.password",
        "secret",
        Required,
        "Its password: `${file:PATH}` (the first line of a file), `${env:NAME}`, or written out. It is read anew for each connection.",
    ),
    key(
        "routes[].auth.mechanism",
        "`scram-sha-256`, `plain` or `login`",
        Words("the best that is offered"),
        "The one mechanism to use.",
    ),
    key(
        "routes[].auth.in_clear",
        "true or false",
        Is("false"),
        "The password may be sent without TLS. With `tls: verify` it goes to nobody but the next hop; with `may` or `encrypt` whoever stands between may take it, unless the mechanism is `scram-sha-256`.",
    ),
    key(
        "routes[].in_doubt",
        "`resend`, `hold` or `bounce`",
        Is("resend"),
        "What is done with a message whose attempt has no known outcome: the node died between the last octet and the answer, or the answer was lost. `resend`: it goes again, and may arrive twice. `hold`: it is set aside, and `switchctl queue release` sends it again. `bounce`: the sender is told, and it may have arrived all the same. Each is listed by `switchctl ledger verify`.",
    ),
    key(
        "routes[].rate",
        "number/unit",
        Words("no bound"),
        "The most messages that each of its destinations gets in a time: `10/s`, `100/min`, `1000/h`, `5000/d`. They leave evenly. With `next_hop: mx` each domain is a destination.",
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
        "retry.warn",
        "duration",
        Is("4h"),
        "The sender of a message that waits for so long is told once, unless it asked not to be (NOTIFY without DELAY, RFC 3461). `0s`: never.",
    ),
    key(
        "delivery.eight_bit",
        "`bounce` or `send`",
        Is("bounce"),
        "What becomes of mail with 8-bit content for a next hop that does not offer 8BITMIME (RFC 6152). `bounce`: it is returned with 5.6.3. `send`: it goes as it is, for next hops that are known to take it. Nothing is ever converted, which would break signatures.",
    ),
    key(
        "delivery.crash_hold",
        "number",
        Is("3"),
        "A message that was in flight each of so many times in a row that its queue's owner crashed is held, here and on a survivor: it may be what crashes it. `0`: never.",
    ),
    key(
        "delivery.cache.connections",
        "number",
        Is("20"),
        "Idle connections to one next hop that are kept for its next message. `0`: none.",
    ),
    key("delivery.cache.idle", "duration", Is("10s"), "How long an idle connection is kept. At most 10m."),
    key(
        "delivery.cache.messages",
        "number",
        Is("1000"),
        "After so many messages a connection is closed, so that load spreads anew.",
    ),
    key(
        "delivery.owners[].queue",
        "name",
        Required,
        "A queue that shows itself to next hops in its own way, whichever node has it: the name of its node. Queues that do not stand here go out as the node that has them.",
    ),
    key(
        "delivery.owners[].ehlo",
        "host name",
        Words("`node.hostname`"),
        "The name in EHLO for mail of this queue. It follows the queue in a takeover.",
    ),
    key(
        "delivery.owners[].source[]",
        "address",
        Words("the system's choice"),
        "Where connections for mail of this queue come from: one IPv4 and one IPv6 address. On a node that does not have the address now, they come from the node's own, and the log says so.",
    ),
    key(
        "bounces.double",
        "`discard`, `hold` or `postmaster`",
        Is("discard"),
        "What becomes of mail without a sender, which is what notifications are, when it fails for good. `discard`: it ends there, counted and logged. `hold`: it is set aside for `switchctl queue`. `postmaster`: `bounces.postmaster` gets a report.",
    ),
    key(
        "bounces.postmaster",
        "address",
        Words("the postmaster of `node.hostname`"),
        "Who gets those reports. What cannot be delivered there either ends.",
    ),
];
