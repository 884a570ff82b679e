//! What a configuration becomes, and what is said about a wrong one.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

use std::path::Path;
use std::time::Duration;

use expect_test::{Expect, expect};
use settings::{Environment, Fault, Settings, Source, parse};

const MINIMAL: &str = "\
cluster: { id: demo }
node: { id: a }
listeners: [ { address: 127.0.0.1:2525 } ]
routes: [ { match: \"*\", next_hop: \"127.0.0.1:2526\" } ]
";

/// The shape that operators and acceptance checks write.
const FULL: &str = r#"
cluster:
  id: demo
  nodes:                                  # peers; absent = stand-alone
    - { id: a, heartbeat: [127.0.0.1:7101], control: 127.0.0.1:7201 }
    - { id: b, heartbeat: [127.0.0.1:7102], control: 127.0.0.1:7202 }
  key_file: cluster.key
  takeover: { window: 2s, order: [a, b] }
node:
  id: a
  state_dir: state/a
queue:
  dir: spool
  storage: shared
listeners:
  - { address: 127.0.0.1:2525, tls: { cert: cert.pem, key: /etc/key.pem }, proxy_protocol: false }
health: { address: 127.0.0.1:8025 }
agent: { address: 127.0.0.1:8026 }
relay:
  trusted_networks: [127.0.0.1/32]
  domains: [example.test]
routes:
  - { match: "*", next_hop: "127.0.0.1:2526" }
limits: { message_size: 10MiB, recipients: 1000, connections_per_client: 100 }
retry: { first: 60s, max: 1h, lifetime: 5d }
launcher: exec
"#;

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.to_owned() }
}

fn parsed(text: &str) -> Result<Settings, Vec<Fault>> {
    parse(&[source("/etc/m.yaml", text)], &Environment::default())
}

fn faults(text: &str, wanted: &Expect) {
    let found: Vec<String> = parsed(text).unwrap_err().iter().map(ToString::to_string).collect();
    wanted.assert_eq(&found.join("\n"));
}

/// The full file with one piece of text replaced.
fn full_but(from: &str, to: &str) -> String {
    assert_eq!(FULL.matches(from).count(), 1, "{from}");
    FULL.replace(from, to)
}

#[test]
fn the_full_form_is_understood() {
    let settings = parsed(FULL).unwrap();
    assert_eq!(settings.cluster.nodes.len(), 2);
    assert_eq!(settings.cluster.timers, cluster::Timers::default());
    assert_eq!(settings.cluster.key_file.as_deref(), Some(Path::new("/etc/cluster.key")));
    assert_eq!(settings.node.state_dir, Path::new("/etc/state/a"));
    assert_eq!(settings.node.hostname.as_str(), "a.demo.invalid");
    assert_eq!(settings.limits.session.hostname, settings.node.hostname);
    assert_eq!(settings.queue.dir, Path::new("/etc/spool"));
    let tls = settings.listeners[0].tls.clone().unwrap();
    assert_eq!(
        (tls.cert.as_path(), tls.key.as_path()),
        (Path::new("/etc/cert.pem"), Path::new("/etc/key.pem"))
    );
    assert_eq!(settings.health.unwrap().port(), 8025);
    assert_eq!(settings.agent.unwrap().port(), 8026);
    assert_eq!(settings.retry, schedule::RetryPolicy::default());
    assert_eq!(settings.hash.len(), 16);
}

#[test]
fn the_smallest_file_gives_a_node_that_stands_alone() {
    let settings = parsed(MINIMAL).unwrap();
    assert_eq!(settings.cluster.nodes.len(), 1);
    assert_eq!(settings.cluster.takeover_order, std::slice::from_ref(&settings.node.id));
    assert_eq!(settings.cluster.key_file, None);
    assert_eq!(settings.retry, schedule::RetryPolicy::default());
    assert_eq!(settings.limits.concurrency, schedule::ConcurrencyLimits::default());
    assert_eq!(settings.limits.session.limits, smtp::limits::Limits::default());
}

#[test]
fn a_default_gives_way_to_what_is_written() {
    let with = |text: &str| parsed(&format!("{MINIMAL}{text}\n")).unwrap();
    let limits = with("limits: { connections: 5, concurrency_per_destination: 700 }").limits;
    assert_eq!((limits.connections, limits.connections_per_client), (5, 5));
    assert_eq!((limits.concurrency.total, limits.concurrency.per_destination), (700, 700));
    let seconds = |text: &str| {
        let retry = with(text).retry;
        (retry.first.as_secs(), retry.max.as_secs(), retry.lifetime.as_secs())
    };
    assert_eq!(seconds("retry: { lifetime: 30s }"), (30, 30, 30));
    assert_eq!(seconds("retry: { max: 5s }"), (5, 5, 432_000));
    assert_eq!(seconds("retry: { first: 2h }"), (7_200, 7_200, 432_000));
    assert_eq!(seconds("retry: { max: 10d }"), (60, 864_000, 864_000));
}

#[test]
fn the_machines_name_is_used_if_it_is_a_full_one() {
    let named = |hostname: &str, text: &str| {
        let environment = Environment { hostname: Some(hostname.to_owned()) };
        parse(&[source("m.yaml", text)], &environment).unwrap().node.hostname.to_string()
    };
    assert_eq!(named("MX1.example.test", MINIMAL), "mx1.example.test");
    assert_eq!(named("localhost", MINIMAL), "a.demo.invalid");
    assert_eq!(named("bad_name.test", MINIMAL), "a.demo.invalid");
    let written = MINIMAL.replace("node: { id: a }", "node: { id: a, hostname: relay.test }");
    assert_eq!(named("mx1.example.test", &written), "relay.test");
}

#[test]
fn tls_is_said_for_each_listener_and_each_route() {
    use routing::{Roots, TlsPolicy};

    let text = MINIMAL
        .replace("2525 }", "2525 }, { address: 127.0.0.1:465, tls: { cert: c, key: k }, tls_mode: implicit }")
        .replace(
            "routes: [",
            "routes: [ { match: n.test, next_hop: h, tls: none }, { match: e.test, next_hop: h, tls: encrypt }, \
             { match: v.test, next_hop: h, tls: verify }, { match: f.test, next_hop: h, tls: verify, tls_roots: r.pem },",
        );
    let settings = parsed(&text).unwrap();
    let modes: Vec<_> = settings.listeners.iter().map(|listener| listener.tls_mode).collect();
    assert_eq!(modes, [settings::TlsMode::StartTls, settings::TlsMode::Implicit]);
    let policies: Vec<_> =
        settings.routes.iter().map(|route| route.target.next_hop().unwrap().tls().clone()).collect();
    assert_eq!(
        policies,
        [
            TlsPolicy::None,
            TlsPolicy::Encrypt,
            TlsPolicy::Verify(Roots::Platform),
            TlsPolicy::Verify(Roots::File("/etc/r.pem".into())),
            TlsPolicy::May
        ]
    );
    assert_eq!(settings.limits.tls_handshake, Duration::from_secs(30));
}

#[test]
fn tls_that_could_not_be_meant_is_refused() {
    let text = MINIMAL
        .replace("2525 }", "2525, tls_mode: implicit }, { address: 127.0.0.1:465, tls_mode: now }")
        .replace(
            "2526\" }",
            "2526\", tls: encrypt, tls_roots: r.pem }, { match: a.test, next_hop: h, tls: always }",
        );
    faults(
        &text,
        &expect![[r"
        /etc/m.yaml:3:51: listeners[0].tls_mode: TLS at once needs a certificate; add 'tls: { cert: …, key: … }' to this listener
        /etc/m.yaml:3:99: listeners[1].tls_mode: 'now' is no mode of TLS; write starttls or implicit
        /etc/m.yaml:4:78: routes[0].tls_roots: certificates are not looked at with 'tls: encrypt'; write 'tls: verify', or remove this
        /etc/m.yaml:4:122: routes[1].tls: 'always' is no TLS policy; write none, may, encrypt, verify, dane or mta-sts"]],
    );
}

#[test]
fn every_fault_of_a_file_is_told_at_once_with_its_place_and_a_remedy() {
    faults(
        r#"
cluster:
  id: Demo
  nodes:
    - { id: a, heartbeat: [127.0.0.1:7101] }
    - { id: a, heartbeat: [] }
    - id: c
      heartbeat: [127.0.0.1:7101, 0.0.0.0:1]
  takeover:
    window: 2
    ordr: [a]
    order: [a, a, x]
node:
  id: b
queue: { storage: promoted, segment_size: 10 MB/s, dir: '' }
listeners:
  - { adress: 127.0.0.1:25, proxy_from: ["::/0"], tls: { cert: a.pem } }
  - address: localhost
health: { address: 127.0.0.1:8025 }
agent: { address: 127.0.0.1:8025 }
relay:
  trusted_networks: [0.0.0.0/0, 10.0.0.0/33, "::ffff:10.0.0.0/104"]
  domains: ["*", example.test]
routes:
  - { match: "*", next_hop: mx }
  - { match: a b, next_hop: 10.0.0.1 }
limits:
  recipients: 50
  connections: 5
  connections_per_client: 6
  message_size: 1KiB
retry: { first: 2h, max: 1h }
launcher: systemctl
window: 3s
"#,
        &expect![[r"
            /etc/m.yaml:2:1: cluster.key_file: missing, and nodes prove themselves by it; write 'key_file: cluster.key' and run 'switchctl cluster keygen'
            /etc/m.yaml:3:7: cluster.id: 'Demo' is not a cluster's name: use 1 to 32 of a-z, 0-9 and '-', with a letter or digit at both ends
            /etc/m.yaml:6:13: cluster.nodes[1].id: node 'a' is listed twice; give every node its own name
            /etc/m.yaml:6:27: cluster.nodes[1].heartbeat: node 'a' has no heartbeat address; write 'heartbeat: [ADDRESS:PORT]', one for each path
            /etc/m.yaml:8:19: cluster.nodes[2].heartbeat[0]: 127.0.0.1:7101 is an address of a already; give each its own
            /etc/m.yaml:8:35: cluster.nodes[2].heartbeat[1]: nobody can send to 0.0.0.0:1; write the node's own address and a port
            /etc/m.yaml:10:13: cluster.takeover.window: '2' has no unit; write 2s for seconds, or use ms, m, h, d
            /etc/m.yaml:11:5: cluster.takeover.ordr: unknown key 'ordr'; did you mean 'order'?
            /etc/m.yaml:12:16: cluster.takeover.order[1]: 'a' stands in the order twice; remove one
            /etc/m.yaml:12:19: cluster.takeover.order[2]: 'x' is none of cluster.nodes; remove it, or list the node there
            /etc/m.yaml:14:7: node.id: 'b' is none of cluster.nodes (a, a, c); write one of them, or add it there
            /etc/m.yaml:15:43: queue.segment_size: '10 MB/s' is not a size; write a whole number and its unit: 64KiB, 10MiB, 1GiB, or kB, MB, GB
            /etc/m.yaml:15:57: queue.dir: the path is empty; write one, or remove the key
            /etc/m.yaml:17:5: listeners[0].address: missing; write where to listen: 0.0.0.0:25
            /etc/m.yaml:17:7: listeners[0].adress: unknown key 'adress'; did you mean 'address'?
            /etc/m.yaml:17:41: listeners[0].proxy_from: nobody is asked for a PROXY header; write 'proxy_protocol: true' too
            /etc/m.yaml:17:42: listeners[0].proxy_from[0]: '::/0' is everybody, and this would be an open relay; name your own networks
            /etc/m.yaml:17:51: listeners[0].tls.key: missing; name the private key's file (PEM)
            /etc/m.yaml:18:14: listeners[1].address: 'localhost' is not an address with a port; write an IP address and a port: 127.0.0.1:2525 or '[::1]:2525'
            /etc/m.yaml:20:19: agent.address: 127.0.0.1:8025 is the address of health.address too; give each its own
            /etc/m.yaml:22:22: relay.trusted_networks[0]: '0.0.0.0/0' is everybody, and this would be an open relay; name your own networks
            /etc/m.yaml:22:33: relay.trusted_networks[1]: '10.0.0.0/33' is not a network; write an address and a prefix: 10.0.0.0/8 or 2001:db8::/32
            /etc/m.yaml:22:46: relay.trusted_networks[2]: '::ffff:10.0.0.0/104' is IPv4 written as IPv6; write it as IPv4, for example 10.0.0.0/8
            /etc/m.yaml:23:13: relay.domains[0]: '*' would relay for everybody; name the domains, or trust the clients by 'trusted_networks'
            /etc/m.yaml:26:14: routes[1].match: 'a b' matches nothing; write '*', 'example.test', '.example.test', 'user@example.test' or '/expression/'
            /etc/m.yaml:28:15: limits.recipients: too small; write 100 or more
            /etc/m.yaml:30:27: limits.connections_per_client: more than limits.connections (5); lower this or raise that
            /etc/m.yaml:31:17: limits.message_size: too small; write 64KiB or more
            /etc/m.yaml:32:17: retry.first: longer than retry.max (1h); keep first <= max <= lifetime
            /etc/m.yaml:33:11: launcher: 'systemctl' is no launcher; write 'exec' or 'systemd'
            /etc/m.yaml:34:1: window: unknown key 'window' here; did you mean 'cluster.takeover.window'?"]],
    );
}

#[test]
fn an_empty_file_is_told_what_it_needs() {
    for text in ["", "# nothing\n", "---\n"] {
        let found = parsed(text).unwrap_err();
        let paths: Vec<&str> = found.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["cluster.id", "node.id", "listeners", "routes"], "{text:?}");
    }
}

#[test]
fn what_is_no_yaml_is_told_by_its_place() {
    faults(
        "cluster: { id: demo\nnode: {}\n",
        &expect![
            "/etc/m.yaml:2:5: not readable as YAML: did not find expected ',' or '}'; look at this line and the one above it"
        ],
    );
    faults(
        "node:\n  id: a\n  id: b\n",
        &expect![[
            r#"/etc/m.yaml:2:3: not readable as YAML: node: duplicate entry with key "id"; look at this line and the one above it"#
        ]],
    );
    faults("- a\n- b\n", &expect!["/etc/m.yaml:1:1: this is a list; write 'key: value' lines"]);
    faults(
        "1: a\n",
        &expect!["/etc/m.yaml:1:1: a key of this map is not text; keys are words, quote it if it is meant"],
    );
    faults(
        "node: a\nlisteners: 25\n",
        &expect![[r#"
            /etc/m.yaml:1:1: cluster.id: missing; name the cluster, the same on every node, for example 'id: demo'
            /etc/m.yaml:1:1: node.id: missing; name this node, for example 'id: a'
            /etc/m.yaml:1:1: routes: no route, so nothing could be delivered; add one: { match: "*", next_hop: "10.0.0.1" }
            /etc/m.yaml:1:7: node: this is text; write its keys below it: id, state_dir, hostname
            /etc/m.yaml:2:12: listeners: this is a number; write a list, for example [ … ] or lines with '- '"#]],
    );
}

#[test]
fn the_timers_keep_the_rules_of_the_protocol() {
    let with = |takeover: &str| full_but("{ window: 2s, order: [a, b] }", takeover);
    faults(
        &with("{ window: 500ms }"),
        &expect![
            "/etc/m.yaml:8:23: cluster.takeover.window: the rule is: the window must be 1s to 120s; it is 500 ms"
        ],
    );
    faults(
        &with("{ renew: 900ms, observe: 1s, own_limit: 2s, suspect: 100ms }"),
        &expect![[r"
        /etc/m.yaml:8:22: cluster.takeover.renew: the rule is: renew <= window / 5; set renew to at most 400 ms
        /etc/m.yaml:8:38: cluster.takeover.observe: the rule is: observe <= renew; set observe to at most 900 ms
        /etc/m.yaml:8:53: cluster.takeover.own_limit: the rule is: own_limit + 300ms <= 0.98 window; set own_limit to at most 1660 ms
        /etc/m.yaml:8:66: cluster.takeover.suspect: suspect must be longer than heartbeat; set it to three heartbeats or more"]],
    );
    let settings = parsed(&with("{ window: 10s, stagger: 0s, grace: 1m, order: [b] }")).unwrap();
    assert_eq!(settings.cluster.timers.window, Duration::from_secs(10));
    assert_eq!(settings.cluster.timers.stagger, Duration::ZERO);
    assert_eq!(settings.cluster.timers.grace, Duration::from_mins(1));
    let order: Vec<String> = settings.cluster.takeover_order.iter().map(ToString::to_string).collect();
    assert_eq!(order, ["b", "a"]);
}

#[test]
fn each_node_has_its_own_taker_unless_takers_are_named() {
    let with = |order: &str| {
        let nodes = "nodes: [ { id: a, heartbeat: [10.0.0.1:7100] }, { id: b, heartbeat: [10.0.0.2:7100] }, \
                     { id: c, heartbeat: [10.0.0.3:7100] }, { id: d, heartbeat: [10.0.0.4:7100] } ]";
        let text = format!(
            "cluster: {{ id: demo, key_file: k, {nodes}{order} }}\nnode: {{ id: a }}\nlisteners: [ {{ address: 127.0.0.1:25 }} ]\n\
             routes: [ {{ match: '*', next_hop: 10.0.0.9 }} ]\n"
        );
        let cluster = parsed(&text).unwrap().cluster;
        ["a", "b", "c", "d"].map(|home| {
            let takers = cluster.takers(&home.parse().unwrap());
            takers.iter().map(ToString::to_string).collect::<String>()
        })
    };
    assert_eq!(with(""), ["bcd", "cda", "dab", "abc"]);
    assert_eq!(with(", takeover: { order: [c] }"), ["cbd", "cda", "abd", "cab"]);
    assert_eq!(with(", takeover: { order: [d, c, b, a] }"), ["dcb", "dca", "dba", "cba"]);
}

#[test]
fn a_cluster_needs_its_key_file() {
    faults(
        &full_but("  key_file: cluster.key\n", ""),
        &expect![
            "/etc/m.yaml:2:1: cluster.key_file: missing, and nodes prove themselves by it; write 'key_file: cluster.key' and run 'switchctl cluster keygen'"
        ],
    );
}

#[test]
fn later_files_win_key_by_key_and_paths_start_where_they_stand() {
    let sources = [
        source("/etc/m.yaml", FULL),
        source("/etc/conf.d/10.yaml", "queue: { dir: other }\nrelay: { domains: [one.test, two.test] }\n"),
        source("/etc/conf.d/20.yaml", "# nothing\n"),
        source("/etc/conf.d/30.yaml", "limits: { hops: 7 }\nhealth:\n"),
    ];
    let settings = parse(&sources, &Environment::default()).unwrap();
    assert_eq!(settings.queue.dir, Path::new("/etc/conf.d/other"));
    assert_eq!(settings.relay.domains.len(), 2);
    assert_eq!(settings.relay.trusted_networks.len(), 1);
    assert_eq!(settings.limits.hops, 7);
    assert_eq!(settings.limits.connections_per_client, 100);
    assert_eq!(settings.health, None);
}

#[test]
fn a_fault_names_the_file_that_it_stands_in() {
    let sources = [source("m.yaml", MINIMAL), source("conf.d/1.yaml", "\nlimits: {\n  hops: 0 }\n")];
    let found = parse(&sources, &Environment::default()).unwrap_err();
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["conf.d/1.yaml:3:9: limits.hops: too small; write 1 or more"]);
}

#[test]
fn the_same_text_has_the_same_hash_and_another_text_another() {
    assert_eq!(parsed(FULL).unwrap().hash, parsed(FULL).unwrap().hash);
    assert_ne!(parsed(FULL).unwrap().hash, parsed(&format!("{FULL}# x\n")).unwrap().hash);
}

/// The rows of the reference page: key and default.
fn documented() -> Vec<(String, String)> {
    let page = settings::reference();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let mut cells = row.split(" | ");
        let key = cells.next().unwrap().trim_end_matches('`').to_owned();
        (key, cells.nth(1).unwrap().to_owned())
    })
    .collect()
}

/// YAML with one key set: `a.b[].c` becomes `{ a: { b: [ { c: VALUE } ] } }`.
fn setting(path: &str, value: &str) -> String {
    let mut text = value.to_owned();
    for part in path.rsplit('.') {
        let lists = part.matches("[]").count();
        text = format!("{{ {}: {}{text}{} }}", part.replace("[]", ""), "[".repeat(lists), "]".repeat(lists));
    }
    text
}

#[test]
fn the_documented_defaults_are_those_of_the_program() {
    for (key, default) in documented() {
        let Some(value) = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) else { continue };
        if key.contains("[]") || value.contains("NODE") {
            continue;
        }
        let written = parse(
            &[source("/m.yaml", MINIMAL), source("/d.yaml", &setting(&key, value))],
            &Environment::default(),
        );
        let plain = parse(&[source("/m.yaml", MINIMAL)], &Environment::default()).unwrap();
        assert_eq!(
            Settings { hash: String::new(), ..written.unwrap() },
            Settings { hash: String::new(), ..plain },
            "{key}"
        );
    }
}

#[test]
fn every_documented_key_is_read() {
    for (key, _) in documented() {
        // A map where a value belongs is wrong for every key that somebody reads.
        let text = setting(&key, "{ no: value }");
        let found = parse(&[source("/m.yaml", FULL), source("/d.yaml", &text)], &Environment::default());
        let told =
            found.is_err_and(|faults| faults.iter().any(|fault| fault.path.replace("[0]", "[]") == key));
        assert!(told, "{key}: nobody reads it");
    }
}

#[test]
fn a_listener_for_submission_needs_a_certificate() {
    let with = |listener: &str, auth: &str| {
        MINIMAL.replace("127.0.0.1:2525", &format!("127.0.0.1:587, {listener}")) + auth
    };
    let submission = "kind: submission, tls: { cert: c.pem, key: c.key }";
    let settings = parsed(&with(submission, "auth: { users: users }\n")).unwrap();
    assert_eq!(settings.listeners[0].kind, settings::ListenerKind::Submission);
    let auth = settings.auth;
    assert_eq!(auth.users, Path::new("/etc/users"));
    assert_eq!(auth.mechanisms, smtp::sasl::Mechanism::ALL);
    assert_eq!((auth.failure_delay, auth.failures_per_client), (Duration::from_secs(2), 20));
    let written = "auth: { users: /u, mechanisms: [LOGIN, plain, login], failure_delay: 0s }\n";
    let auth = parsed(&with(submission, written)).unwrap().auth;
    assert_eq!(auth.mechanisms, [smtp::sasl::Mechanism::Login, smtp::sasl::Mechanism::Plain]);
    assert_eq!(parsed(MINIMAL).unwrap().auth.users, Path::new("/etc/mailswitch/users"));
    faults(
        &with("kind: submission", ""),
        &expect![[r"
            /etc/m.yaml:3:46: listeners[0].kind: passwords are taken under TLS only; add 'tls: { cert: …, key: … }' to this listener"]],
    );
    faults(
        &with("kind: submit", "auth: { mechanisms: [cram-md5] }\n"),
        &expect![[r"
            /etc/m.yaml:3:46: listeners[0].kind: 'submit' is no kind of listener; write relay or submission
            /etc/m.yaml:5:22: auth.mechanisms[0]: 'cram-md5' is not known; write one of scram-sha-256, plain, login"]],
    );
}

#[test]
fn a_witness_has_no_queue_and_may_be_this_node() {
    let witness = "    - { id: w, heartbeat: [127.0.0.1:7103], control: 127.0.0.1:7203, witness: true }\n  key_file: cluster.key";
    let text = full_but("  key_file: cluster.key", witness);
    let settings = parsed(&text).unwrap();
    assert_eq!(settings.cluster.nodes.len(), 2);
    assert_eq!(settings.cluster.takeover_order.len(), 2);
    assert_eq!(settings.cluster.witness.as_ref().unwrap().id.as_str(), "w");
    assert_ne!(settings.shared_hash(), parsed(FULL).unwrap().shared_hash());
    let settings = parsed(&text.replace("  id: a\n", "  id: w\n")).unwrap();
    assert_eq!(settings.node.id.as_str(), "w");
}

#[test]
fn hooks_arbiters_and_fences_that_could_not_work_are_refused() {
    let more = "    - { id: w, heartbeat: [127.0.0.1:7103], witness: true }
    - { id: v, heartbeat: [127.0.0.1:7104], control: 127.0.0.1:7204, witness: true }
  arbiter: { etcd: [\"etcd:2379\", \"http://10.0.0.1:2379\"] }
  key_file: cluster.key";
    let text = full_but("  key_file: cluster.key", more)
        .replace("storage: shared", "promoted: { command: [], timeout: 1ms }");
    faults(
        &text,
        &expect![[r"
            /etc/m.yaml:7:7: cluster.nodes[2].control: a witness is asked there; write 'control: ADDRESS:PORT'
            /etc/m.yaml:8:79: cluster.nodes[3].witness: node 'w' is the witness already; one is enough, remove this one
            /etc/m.yaml:9:20: cluster.arbiter.etcd: node 'w' is the witness, and there is one arbiter; remove one of the two
            /etc/m.yaml:9:21: cluster.arbiter.etcd[0]: 'etcd:2379' is not the URL of an etcd member; write http://10.0.0.1:2379
            /etc/m.yaml:17:24: queue.promoted.command: this is empty; write the hook of your storage and its arguments
            /etc/m.yaml:17:37: queue.promoted.timeout: too small; write 100ms or more"]],
    );
    let hooked = full_but("launcher: exec", "fence: { command: [/bin/off, x], timeout: 40s }");
    let fence = parsed(&hooked).unwrap().fence.unwrap();
    assert_eq!((fence.command.len(), fence.timeout), (2, Duration::from_secs(40)));
}

#[test]
fn promoted_storage_needs_a_hook_two_nodes_and_an_arbiter() {
    let bare = full_but("storage: shared", "storage: promoted");
    faults(
        &bare,
        &expect![[r"
            /etc/m.yaml:14:12: queue.storage: needs the hook of your storage; write 'promoted: { command: [PROGRAM, …] }' beside it
            /etc/m.yaml:14:12: queue.storage: two copies that are cut from each other need an arbiter outside of both; add a third node with 'witness: true', or cluster.arbiter.etcd"]],
    );
    let hooked = bare.replace("storage: promoted", "storage: promoted\n  promoted: { command: [/bin/drbd] }");
    let arbitrated = hooked.replace(
        "  key_file: cluster.key",
        "  key_file: cluster.key\n  arbiter: { etcd: [http://10.0.0.1:2379] }",
    );
    let queue = parsed(&arbitrated).unwrap().queue;
    assert_eq!(queue.storage, settings::Storage::Promoted);
    assert_eq!(queue.promoted.unwrap().timeout, Duration::from_secs(10));
    let alone = MINIMAL.replace(
        "node: { id: a }",
        "node: { id: a }\nqueue: { storage: promoted, promoted: { command: [x] } }",
    );
    assert_eq!(parsed(&alone).unwrap_err().len(), 2);
}
