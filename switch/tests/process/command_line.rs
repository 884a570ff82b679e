//! What the program says of its command line, its configuration and its directories before it does anything.

use std::process::Command;

use crate::site::{Config, Site, until};

/// Exit code, and all it said.
fn said(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_switch")).args(arguments).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[test]
fn it_says_its_version_and_its_usage() {
    let (code, text) = said(&["--version"]);
    assert_eq!((code, text.trim()), (Some(0), concat!("switch ", env!("CARGO_PKG_VERSION"))));
    for wrong in [&["run", "--secondary"][..], &["run", "--expected-epoch", "3"], &["walk"], &[]] {
        let (code, text) = said(wrong);
        assert!(code == Some(2) && text.contains("Usage"), "{wrong:?}: {code:?} {text}");
    }
}

#[test]
fn every_fault_of_a_configuration_is_told_at_once_with_its_place() {
    let site = Site::new(&Config {
        trusted: "nobody",
        queue: "dri: x".to_owned(),
        limits: "hops: many",
        next_hop: None,
        ..Config::default()
    });
    let file = site.config_file();
    let (code, text) = said(&["run", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(2), "{text}");
    for fault in ["nobody", "dri", "limits.hops"] {
        assert!(
            text.lines().any(|line| line.contains(fault) && line.contains("mailswitch.yaml:")),
            "{fault}: {text}"
        );
    }
    assert!(!site.queue_dir().exists() && !site.path().join("state").exists(), "something was made");
    let (code, text) = said(&["run", "--config", "/nowhere/m.yaml"]);
    assert!(code == Some(2) && text.contains("/nowhere/m.yaml") && text.contains("--config"), "{text}");
}

#[test]
fn a_queue_that_is_not_this_nodes_needs_the_word_secondary() {
    let site = Site::new(&Config::default());
    let file = site.config_file();
    let config = file.to_str().unwrap();
    for (arguments, wanted) in
        [(&["--queue", "b"][..], "cluster.nodes"), (&["--queue", "a", "--secondary"], "home node")]
    {
        let (code, text) = said(&[&["run", "--config", config], arguments].concat());
        assert!(code == Some(2) && text.contains(wanted), "{text}");
    }
}

#[tokio::test]
async fn a_queue_of_another_cluster_is_refused_and_not_touched() {
    let site = Site::new(&Config::default());
    let queue = site.open_elsewhere(None);
    queue.state().wait_for(|state| *state == cluster::instance::State::Active).await.unwrap();
    queue.release().await;
    let before = listing(&site);
    let config = std::fs::read_to_string(site.config_file()).unwrap().replace("id: demo", "id: other");
    std::fs::write(site.config_file(), config).unwrap();
    let mut switch = site.start();
    assert_eq!(switch.ended().await, 1);
    let log = switch.log();
    assert!(log.contains("of cluster 'demo'") && log.contains("set queue.dir and cluster.id"), "{log}");
    assert_eq!(listing(&site), before);
}

#[tokio::test]
async fn an_order_in_a_file_is_followed_and_a_bad_one_is_refused() {
    let site = Site::new(&Config::default());
    let mut home = site.start_ready().await;
    home.signal(rustix::process::Signal::TERM);
    assert_eq!(home.ended().await, 0);
    // This node is now another one, and takes the queue of the first.
    let config = std::fs::read_to_string(site.config_file()).unwrap();
    let config = config.replace("cluster:\n  id: demo\nnode:\n  id: a\n", TWO_NODES);
    std::fs::write(site.config_file(), config).unwrap();
    std::fs::write(site.path().join("k"), format!("{}\n", "07".repeat(32))).unwrap();
    let (file, order) = (site.config_file(), site.path().join("order"));
    let arguments = ["run", "--config", file.to_str().unwrap(), "--queue", "a", "--secondary", "--order"];
    let arguments = [&arguments[..], &[order.to_str().unwrap()]].concat();
    for bad in [None, Some("expected_epoch=1\n"), Some("expected_epoch=x\nreason=expired\n")] {
        if let Some(bad) = bad {
            std::fs::write(&order, bad).unwrap();
        }
        let (code, text) = said(&arguments);
        assert!(code == Some(2) && text.contains("heartbeatd writes it"), "{text}");
    }
    // The wrong epoch: it gives up.
    std::fs::write(&order, "expected_epoch=7\nreason=expired\n").unwrap();
    assert_eq!(site.run(&arguments).ended().await, 75);
    std::fs::write(&order, "expected_epoch=1\nreason=released\n").unwrap();
    let taker = site.run(&arguments);
    until("the queue is taken", || taker.log().contains("switch.active")).await;
}

const TWO_NODES: &str = "cluster:\n  id: demo\n  key_file: k\n  nodes:\n    - { id: a, heartbeat: [\"127.0.0.1:1\"] }\n    \
    - { id: b, heartbeat: [\"127.0.0.1:2\"] }\nnode:\n  id: b\n";

#[tokio::test]
async fn two_switches_of_one_node_do_not_run_at_once() {
    let site = Site::new(&Config::default());
    let _switch = site.start_ready().await;
    let file = site.config_file();
    let (code, text) = said(&["run", "--config", file.to_str().unwrap()]);
    assert!(code == Some(1) && text.contains("twice"), "{text}");
    assert!(site.probe().starts_with("HTTP/1.1 200"), "the first goes on");
}

#[tokio::test]
async fn an_address_in_use_is_named_before_the_queue_is_claimed() {
    let site = Site::new(&Config::default());
    let _other = std::net::TcpListener::bind(site.smtp).unwrap();
    let mut switch = site.start();
    assert_eq!(switch.ended().await, 1);
    assert!(switch.log().contains(&format!("cannot listen on {}", site.smtp)), "{}", switch.log());
    assert!(!site.queue_dir().join("lease").exists());
}

fn listing(site: &Site) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for folder in ["lease", "segments"] {
        for entry in std::fs::read_dir(site.queue_dir().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}
