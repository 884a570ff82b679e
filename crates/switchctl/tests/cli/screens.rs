//! What operators see and scripts read: every command with its options, and the screens of a cluster whose programs say known things.

use std::fmt::Write;

use control::{Fault, Server, heartbeatd, switch};
use expect_test::{expect, expect_file};
use serde_json::json;

use super::Site;

/// The text of a man page without its marks.
fn plain(line: &str) -> String {
    ["\\fB", "\\fI", "\\fR"].iter().fold(line.replace("\\-", "-"), |text, mark| text.replace(mark, ""))
}

#[test]
fn every_command_has_the_options_that_scripts_know() {
    let site = Site::with("nonsense");
    let folder = site.path("man");
    assert_eq!(site.run(&["man", folder.to_str().unwrap()]).code, 0);
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut all = String::new();
    for path in names {
        let page = std::fs::read_to_string(path).unwrap();
        let after = |head: &str| {
            let mut lines = page.lines().skip_while(|line| *line != head).skip(1);
            plain(lines.next().unwrap_or_default())
        };
        let name = after(".SH NAME");
        // Every command has those that are common to all.
        let synopsis = after(".SH SYNOPSIS");
        let own: Vec<&str> = synopsis
            .split_inclusive([']', '>'])
            .map(str::trim)
            .filter(|word| {
                !["--config", "--node", "-o", "--output", "-h", "--help"]
                    .iter()
                    .any(|common| word.contains(common))
            })
            .collect();
        writeln!(all, "{name}\n    {}", own.join(" ")).unwrap();
    }
    expect_file!["commands.txt"].assert_eq(&all);
}

/// A cluster of two nodes as the heartbeatd and the switch of node a tell of it.
fn served(ready: bool, protection: &str) -> Site {
    let site = Site::new();
    std::fs::create_dir(site.path("state")).unwrap();
    let view: heartbeatd::HeartbeatdStatus = serde_json::from_value(json!({
        "node": "a", "incarnation": 7, "protection": protection, "unfit": [], "paused_until": null,
        "config_hash": "0123456789abcdef", "smtp": "192.0.2.1:25",
        "peers": [ {
            "node": "b", "state": "up", "version": env!("CARGO_PKG_VERSION"), "config_hash": "0123456789abcdef",
            "paths": [ { "address": "127.0.0.1:7102", "heard_ms_ago": 12, "up": true } ],
            "hears": [ { "node": "a", "paths": 1 } ], "smtp": "192.0.2.2:25",
        } ],
        "queues": [
            { "queue": "a", "state": "OWN", "owner": "a", "epoch": 3, "lease_state": "active", "lease_age_ms": 120,
              "seq": 99, "detail": "", "secondary_pid": null },
            { "queue": "b", "state": "HEALTHY", "owner": "b", "epoch": 5, "lease_state": "active", "lease_age_ms": 80,
              "seq": 42, "detail": "", "secondary_pid": null },
        ],
    }))
    .unwrap();
    let server = Server::bind(&control::paths::heartbeatd(&site.path("state"))).unwrap();
    tokio::spawn(server.serve(move |request: heartbeatd::Request| {
        let answer = if matches!(request, heartbeatd::Request::Status) {
            Ok(heartbeatd::Answer::Status(Box::new(view.clone())))
        } else {
            Err(Fault::failed("not asked for"))
        };
        async move { answer }
    }));
    let status: switch::SwitchStatus = serde_json::from_value(json!({
        "node": "a", "queue": "a", "epoch": 3, "role": "primary", "state": "ACTIVE", "queued_messages": 12,
        "queued_recipients": 14, "oldest_age_ms": 61_000, "in_doubt": 1, "accepted": 1204, "delivered": 1189,
        "bounced": 1, "connections": 3, "version": env!("CARGO_PKG_VERSION"), "config_hash": "x", "instance": "i",
        "pid": 1, "ready": ready, "reasons": if ready { vec![] } else { vec!["no space is left"] },
        "commit": { "batches": 1, "messages": 1, "p50_us": 300, "p99_us": 900 },
    }))
    .unwrap();
    let server = Server::bind(&control::paths::switch(&site.path("state"), &"a".parse().unwrap())).unwrap();
    tokio::spawn(server.serve(move |request: switch::Request| {
        let answer = if matches!(request, switch::Request::Status) {
            Ok(switch::Answer::Status(Box::new(status.clone())))
        } else {
            Err(Fault::failed("not asked for"))
        };
        async move { answer }
    }));
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_screens_of_a_cluster_look_as_they_did() {
    let site = served(true, "full");
    let run = |arguments: &[&str]| {
        let run = site.run(arguments);
        format!("{}\n{}{}", run.code, run.out, run.err).replace(env!("CARGO_PKG_VERSION"), "0.1.0")
    };
    expect![[r"
        0
        NODE  QUEUE  ROLE     STATE   EPOCH  READY  QUEUED  IN_DOUBT  ACCEPTED  DELIVERED  REASONS
        a     a      primary  ACTIVE  3      true   14      1         1204      1189
        protection: full
        last drill: none was ordered on this node; try: switchctl ha drill run kill --node NODE
    "]]
    .assert_eq(&run(&["status", "--node", "a"]));
    expect![[r"
        0
        node	queue	role	state	epoch	ready	queued	in_doubt	accepted	delivered	reasons
        a	a	primary	ACTIVE	3	true	14	1	1204	1189	
    "]]
    .assert_eq(&run(&["status", "--node", "a", "-o", "tsv"]));
    expect![[r"
        0
        HEARS  A       B
        a      -       1 of 1
        b      1 of 1  -
    "]]
    .assert_eq(&run(&["status", "--matrix"]));
    expect![[r#"
        0
        {"from":"a","paths":1,"paths_up":1,"to":"b"}
        {"from":"b","paths":1,"paths_up":1,"to":"a"}
    "#]]
    .assert_eq(&run(&["status", "--matrix", "-o", "jsonl"]));
    expect![[r"
        0
        QUEUE  STATE    OWNER  EPOCH  LEASE   LEASE_AGE_MS  SECONDARY_PID  DETAIL
        a      OWN      a      3      active  120           -
        b      HEALTHY  b      5      active  80            -
        protection: full
        peer b: 127.0.0.1:7102 up (12 ms ago)
    "]]
    .assert_eq(&run(&["ha", "status"]));
    expect![[r"
        0
        NODE  STATE  HEARD         VERSION  CONFIG            SMTP          PAUSED  OWNS
        a     up     itself        0.1.0    0123456789abcdef  192.0.2.1:25  false   a
        b     up     1 of 1 paths  0.1.0    0123456789abcdef  192.0.2.2:25  false   b
    "]]
    .assert_eq(&run(&["node", "show"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitoring_gets_one_line_and_the_code_of_a_plug_in() {
    for (ready, protection, wanted) in [
        (true, "full", (0, "MAILSWITCH OK - ready, 14 queued, protection full\n")),
        (true, "reduced: not heard: b", (1, "MAILSWITCH WARNING - reduced: not heard: b\n")),
        (false, "full", (2, "MAILSWITCH CRITICAL - not ready: no space is left\n")),
    ] {
        let run = served(ready, protection).run(&["status", "--check"]);
        assert_eq!((run.code, run.out.as_str()), wanted);
    }
}
