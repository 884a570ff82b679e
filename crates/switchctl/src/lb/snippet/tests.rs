//! What is printed, word for word where HAProxy and nginx are tried with it elsewhere.

use std::net::IpAddr;

use expect_test::expect;

use super::*;

const ALL: &str = "
cluster:
  id: demo
  nodes:
    - { id: a, heartbeat: [10.0.0.1:7101] }
    - { id: b, heartbeat: [10.0.0.2:7101] }
  key_file: cluster.key
node: { id: a }
listeners:
  - { address: 0.0.0.0:25, proxy_protocol: true, proxy_from: [10.0.0.5] }
health: { address: 0.0.0.0:8025 }
agent: { address: 0.0.0.0:8026 }
routes: [ { match: '*', next_hop: 10.0.0.9 } ]
";

fn printed(text: &str, kind: Kind, address: Option<IpAddr>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.yaml");
    std::fs::write(&file, text).unwrap();
    let settings = daemon_kit::configuration::load(&file).unwrap().settings;
    written(&Site::of(&settings, None), kind, Front { address })
}

#[test]
fn haproxy_gets_health_agent_and_proxy_header() {
    expect![[r"
        # mailswitch, cluster demo: HAProxy 2.4 or later
        # Made by: switchctl lb snippet
        # Mind: Node b is not heard: its address is where its heartbeats go.

        defaults mailswitch
            mode tcp
            timeout connect 2s
            timeout check 2s
            timeout client 11m
            timeout server 11m
            retries 3
            option redispatch 1

        frontend mailswitch-25 from mailswitch
            bind *:25
            default_backend mailswitch-25

        backend mailswitch-25 from mailswitch
            balance leastconn
            option httpchk
            http-check send meth GET uri /health/ready
            http-check expect status 200
            default-server check inter 1s fastinter 250ms downinter 1s fall 2 rise 2 slowstart 10s tcp-ut 30s port 8025 agent-check agent-inter 1s agent-port 8026 send-proxy-v2
            server a 10.0.0.1:25
            server b 10.0.0.2:25
    "]]
    .assert_eq(&printed(ALL, Kind::Haproxy, None));
}

#[test]
fn nginx_gets_a_block_of_its_own() {
    let text = printed(ALL, Kind::Nginx, Some("10.0.0.5".parse().unwrap()));
    for wanted in [
        "server 10.0.0.2:25 max_fails=1 fail_timeout=5s; # node b",
        "listen 10.0.0.5:25;",
        "proxy_protocol on;",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn what_is_doubtful_is_said_where_it_is_read() {
    let text = ALL
        .replace(", proxy_protocol: true, proxy_from: [10.0.0.5]", "")
        .replace("health: { address: 0.0.0.0:8025 }", "health: { address: 127.0.0.1:8025 }");
    let printed_text = printed(&text, Kind::Haproxy, None);
    assert!(printed_text.contains("# Mind: Without the PROXY protocol"), "{printed_text}");
    assert!(printed_text.contains("# Mind: health.address is a loopback address"), "{printed_text}");
    assert!(!printed_text.contains("send-proxy"), "{printed_text}");
    let blind =
        ALL.replace("health: { address: 0.0.0.0:8025 }", "").replace("agent: { address: 0.0.0.0:8026 }", "");
    let printed_text = printed(&blind, Kind::Haproxy, None);
    assert!(printed_text.contains("option smtpchk EHLO balancer.invalid"), "{printed_text}");
    assert!(!printed_text.contains("agent-check"), "{printed_text}");
}

#[test]
fn keepalived_and_f5_are_told_the_health_port() {
    let text = printed(ALL, Kind::Keepalived, None);
    assert!(text.contains("keepalived-check http 127.0.0.1:8025\""), "{text}");
    let text = printed(ALL, Kind::F5, None);
    assert!(text.contains("destination *:8025") && text.contains("10.0.0.1:25 10.0.0.2:25"), "{text}");
}
