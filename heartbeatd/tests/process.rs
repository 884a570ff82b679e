//! Real heartbeatds on loopback, against leases that the test writes and a `switch` that is a script.

#![cfg(test)]

#[path = "process/alerts.rs"]
mod alerts;
mod common;
#[path = "process/foreign.rs"]
mod foreign;
mod launcher;
#[path = "process/monitor.rs"]
mod monitor;
#[path = "process/witness.rs"]
mod witness;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::heartbeat::{ClusterKey, Header, Heartbeat, seal};
use common::{Site, until};
use control::client::CallError;
use control::heartbeatd::{Answer, Request};
use control::switch;
use control::{Code, Server};
use daemon_kit::SystemClock;
use mail_model::{Clock, Epoch, InstanceId, NodeId};
use nix::sys::signal::Signal;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn code(result: Result<Answer, CallError>) -> Option<Code> {
    match result {
        Err(CallError::Fault(fault)) => Some(fault.code),
        _ => None,
    }
}

#[tokio::test]
async fn a_stand_alone_node_reports_takes_nothing_and_ends_in_order() {
    let site = Site::of(&["a"], "1s");
    let mut a = site.start("a");
    let status = a.until("answers", |_| true).await;
    assert!(status.protection.starts_with("none: stand-alone"), "{}", status.protection);
    assert_eq!(status.queues.len(), 1);
    assert_eq!(a.ended().await, Some(0));
    assert!(site.started("a").is_empty());
}

#[tokio::test]
async fn a_wrong_configuration_is_told_with_its_place() {
    let site = Site::of(&["a"], "1s");
    std::fs::write(site.config("a"), "cluster: { id: test, colour: red }\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_heartbeatd"))
        .args(["run", "--config"])
        .arg(site.config("a"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("a.yaml:1:") && text.contains("colour"), "{text}");
}

#[tokio::test]
async fn two_nodes_hear_each_other_and_a_restarted_one_is_believed_again() {
    let site = Site::of(&["a", "b"], "1s");
    let (a, b) = (site.start("a"), site.start("b"));
    let heard = |status: &control::heartbeatd::HeartbeatdStatus| {
        status.peers.len() == 1 && status.peers[0].paths[0].up && status.peers[0].state == "up"
    };
    a.until("a hears b", heard).await;
    b.until("b hears a", heard).await;
    let first = a.until("answers", |_| true).await.incarnation;
    drop(a);
    b.until("b misses a", |status| !status.peers[0].paths[0].up).await;
    let a = site.start("a");
    b.until("b hears a again", heard).await;
    let again = a.until("a hears b again", heard).await;
    assert!(again.incarnation > first);
    assert_eq!(again.protection, "full");
}

#[tokio::test]
async fn forged_foreign_and_unproved_datagrams_are_counted_and_believed_by_nobody() {
    let site = Site::of(&["a", "b"], "1s");
    let b = site.start("b");
    b.until("answers", |_| true).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = ("127.0.0.1", site.nodes[1].1);
    let header =
        |counter| Header { path: 0, incarnation: InstanceId(5), counter, from: node("a"), to: node("b") };
    let beat = Heartbeat { state: "up".into(), waiting: true, ..Heartbeat::default() };
    let foreign = seal(&ClusterKey::new([1; 32]), "test", &header(1), &beat).unwrap();
    // The right key, as in a recording of an old run: it cannot echo.
    let recorded = seal(&ClusterKey::new([7; 32]), "test", &header(2), &beat).unwrap();
    let mut flipped = recorded.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for datagram in [b"hello".as_slice(), &foreign, &flipped, &recorded, &recorded[..60], &recorded] {
        socket.send_to(datagram, target).unwrap();
    }
    let log = site.path("b.log");
    until("all six are counted", || {
        b.signal(Signal::SIGUSR1);
        let text = std::fs::read_to_string(&log).unwrap();
        text.contains("Malformed: 1") && text.contains("Forged: 3") && text.contains("unproved: 2")
    })
    .await;
    let status = b.until("answers", |_| true).await;
    assert_eq!((status.peers[0].state.as_str(), status.peers[0].paths[0].heard_ms_ago), ("", None));
}

#[tokio::test]
async fn a_dead_owner_is_taken_in_time_with_the_exact_command_and_its_evidence() {
    let site = Site::of(&["a", "b"], "1s");
    let mut lease = site.lease("a", 1, "a");
    let mut b = site.start("b");
    b.until_state("a", "HEALTHY").await;
    b.until("the lease is seen", |s| s.queues.iter().any(|q| q.epoch == Epoch(1))).await;
    let last = lease.die();
    until("a secondary is started", || !site.started("b").is_empty()).await;
    let took = SystemClock.now().since(last);
    assert!(took >= Duration::from_secs(1), "taken {took:?} after the last renewal, before the window");
    assert!(took < Duration::from_secs(3), "taken {took:?} after the last renewal");
    let config = site.config("b");
    let wanted = format!(
        "run --config {} --queue a --secondary --expected-epoch 1 --reason expired",
        config.display()
    );
    assert_eq!(site.started("b"), [wanted.as_str()]);
    let record = b.until_recorded("a", "take", "stale_window").await;
    let evidence = &record["evidence"];
    assert!(evidence["reads"].as_u64() >= Some(5) && evidence["span_ms"].as_u64() >= Some(1000), "{record}");
    assert!(evidence["probe_ms"].is_u64(), "{record}");

    let _claimed = site.lease("a", 2, "b");
    b.until_state("a", "HOLDING").await;
    let status =
        b.until("the secondary is known", |s| s.queues.iter().any(|q| q.secondary_pid.is_some())).await;
    assert!(status.protection.starts_with("none"), "{}", status.protection);
    b.until_recorded("a", "taken", "stale_window").await;
    // The end of heartbeatd is the end of its children, in order.
    assert_eq!(b.ended().await, Some(0));
    assert_eq!(site.started("b"), [wanted.as_str(), "ended"]);
}

#[tokio::test]
async fn a_pause_prevents_a_takeover_survives_a_restart_and_ends_by_order() {
    let site = Site::of(&["a", "b"], "1s");
    let mut lease = site.lease("a", 1, "a");
    let b = site.start("b");
    b.until("answers", |_| true).await;
    let pause = Request::Pause { for_ms: 600_000, reason: "test".into() };
    assert!(matches!(b.ask(pause).await, Ok(Answer::Done { .. })));
    drop(b);
    let b = site.start("b");
    b.until("still paused", |status| status.paused_until.is_some()).await;
    lease.die();
    b.until_recorded("a", "not_taken", "paused").await;
    b.until_state("a", "PAUSED").await;
    assert!(site.started("b").is_empty());
    assert!(matches!(b.ask(Request::Resume).await, Ok(Answer::Done { .. })));
    until("a secondary is started", || !site.started("b").is_empty()).await;
    let Ok(Answer::Records(history)) = b.ask(Request::History { limit: 100 }).await else { panic!() };
    let decisions: Vec<_> = history.iter().filter_map(|r| r["decision"].as_str()).collect();
    assert!(decisions.contains(&"paused") && decisions.contains(&"resumed"), "{decisions:?}");
}

#[tokio::test]
async fn when_the_own_lease_is_stale_too_nobody_takes() {
    let site = Site::of(&["a", "b"], "1s");
    let (mut theirs, mut own) = (site.lease("a", 1, "a"), site.lease("b", 1, "b"));
    // Somebody holds the lock of the own queue: its process is there and hangs, so nobody restarts it.
    let lock = std::fs::File::create(site.path("spool/b/lock")).unwrap();
    let whole = nix::libc::flock {
        l_type: i16::try_from(nix::libc::F_WRLCK).unwrap(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&lock, nix::fcntl::FcntlArg::F_OFD_SETLK(&whole)).unwrap();
    let b = site.start("b");
    b.until("both are seen", |s| s.queues.iter().all(|q| q.epoch == Epoch(1))).await;
    own.die();
    theirs.die();
    b.until_recorded("a", "not_taken", "own_lease_stale").await;
    b.until_state("a", "INELIGIBLE").await;
    assert!(site.started("b").is_empty());
}

#[tokio::test]
async fn a_network_that_is_down_is_an_alarm_and_no_takeover_while_the_lease_is_fresh() {
    let site = Site::of(&["a", "b"], "1s");
    let _lease = site.lease("a", 1, "a");
    let (a, b) = (site.start("a"), site.start("b"));
    b.until("b hears a", |status| status.peers[0].paths[0].up).await;
    drop(a);
    b.until_recorded("a", "alarm", "network_down").await;
    b.until_state("a", "HEALTHY").await;
    assert!(site.started("b").is_empty());
}

#[tokio::test]
async fn an_operator_takes_a_healthy_queue_at_once_and_not_twice() {
    let site = Site::of(&["a", "b"], "1s");
    let mut lease = site.lease("a", 1, "a");
    let b = site.start("b");
    b.until("the lease is seen", |s| s.queues.iter().any(|q| q.epoch == Epoch(1))).await;
    let order = || Request::Takeover { queue: "a".parse().unwrap(), reason: "drill".into() };
    assert!(matches!(b.ask(order()).await, Ok(Answer::Done { .. })));
    assert_eq!(code(b.ask(order()).await), Some(Code::Busy));
    until("a secondary is started", || !site.started("b").is_empty()).await;
    assert!(site.started("b")[0].ends_with("--expected-epoch 1 --reason forced"), "{:?}", site.started("b"));
    lease.die();
    let _claimed = site.lease("a", 2, "b");
    b.until_state("a", "HOLDING").await;
    assert_eq!(code(b.ask(order()).await), Some(Code::RefusedUnsafe));
    let unknown = Request::Takeover { queue: "z".parse().unwrap(), reason: String::new() };
    assert_eq!(code(b.ask(unknown).await), Some(Code::NotFound));
}

fn waiting_switch() -> switch::Answer {
    switch::Answer::Ready(switch::Readiness { state: "INIT".into(), ready: false, reasons: Vec::new() })
}

#[tokio::test]
async fn an_adopted_queue_is_handed_back_to_a_home_that_waits() {
    let site = Site::of(&["a", "b"], "1s");
    let mut lease = site.lease("a", 2, "b");
    let (a, b) = (site.start("a"), site.start("b"));
    b.until_recorded("a", "adopted", "lease").await;
    b.until_state("a", "HOLDING").await;
    let order = || Request::Handback { node: node("a") };
    assert_eq!(code(b.ask(order()).await), Some(Code::RefusedUnsafe), "its home does not wait yet");

    a.until("answers", |_| true).await;
    let home = Server::bind(&control::paths::switch(&a.state_dir, &"a".parse().unwrap())).unwrap();
    tokio::spawn(home.serve(|_: switch::Request| async { Ok(waiting_switch()) }));
    b.until_state("a", "HANDBACK_WAIT").await;

    let drained = Arc::new(AtomicBool::new(false));
    let secondary = Server::bind(&control::paths::switch(&b.state_dir, &"a".parse().unwrap())).unwrap();
    let note = Arc::clone(&drained);
    tokio::spawn(secondary.serve(move |request: switch::Request| {
        let asked = matches!(request, switch::Request::Drain { grace_ms: 10_000, notice_ms: 0 });
        note.fetch_or(asked, Ordering::Relaxed);
        async { Ok(switch::Answer::Done { message: String::new() }) }
    }));
    assert!(matches!(b.ask(order()).await, Ok(Answer::Done { .. })));
    until("the secondary is asked to drain", || drained.load(Ordering::Relaxed)).await;
    b.until_state("a", "HANDING_BACK").await;
    lease.release();
    let _home = site.lease("a", 3, "a");
    b.until_recorded("a", "handed_back", "lease").await;
    b.until_state("a", "HEALTHY").await;
    assert!(site.started("b").is_empty());
}

#[tokio::test]
async fn the_own_primary_is_started_again_before_anybody_takes_its_queue() {
    let site = Site::of(&["a", "b"], "1s");
    let mut lease = site.lease("a", 1, "a");
    let (a, b) = (site.start("a"), site.start("b"));
    a.until("a hears b", |status| status.peers[0].paths[0].up).await;
    b.until("b hears a", |status| status.peers[0].paths[0].up).await;
    lease.die();
    a.until_recorded("a", "restart", "primary_ended").await;
    until("the primary is started", || !site.started("a").is_empty()).await;
    assert_eq!(site.started("a"), [format!("run --config {}", site.config("a").display())]);
    // The script never claims. The peer waits for it, and says so.
    b.until_recorded("a", "not_taken", "local_restart").await;
    assert!(site.started("b").is_empty());
}
