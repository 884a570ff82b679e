//! What the log says: the line of an attempt, levels that change while the switch runs, and silence about checks.

use control::switch::{Answer, Request};
use control::{CallError, Code};
use rig::{Sink, SinkOptions};
use tokio::net::TcpStream;

use crate::certificates;
use crate::site::{Config, Site, begin, clock, say, until};

async fn order(site: &Site, order: &str) -> String {
    match site.ask(Request::Log { order: order.to_owned() }).await {
        Ok(Answer::Done { message }) => message,
        Err(CallError::Fault(fault)) if fault.code == Code::Invalid => fault.message,
        other => unreachable!("{other:?}"),
    }
}

async fn send(site: &Site) {
    let mut client = site.client().await;
    begin(&mut client).await;
    client.send(b"Subject: logged\r\n\r\none\r\n").await.unwrap();
    assert_eq!(say(&mut client, ".").await.code, 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_one_line_with_id_from_to_relay_delays_and_reply() {
    let sink = Sink::start(SinkOptions::new(clock())).unwrap();
    let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
    let running = site.start_ready().await;
    send(&site).await;
    until("it is tried", || running.log().contains("delivery.attempt")).await;
    let log = running.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(" delivery.attempt ")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for part in [
        " id=a-1-1 ",
        " from=a@client.test ",
        " to=b@example.test ",
        " relay=[127.0.0.1]",
        " delivered=1 ",
        " delay_ms=",
        " took_ms=",
        " reply=\"250 ",
    ] {
        assert!(lines[0].contains(part), "{part} in {}", lines[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_of_a_part_changes_while_the_switch_runs() {
    let site = Site::new(&Config::default());
    let running = site.start_ready().await;
    assert_eq!(order(&site, "").await, "all=info");
    assert!(order(&site, "mail=debug").await.contains("is no subsystem"));
    assert_eq!(order(&site, "intake=error").await, "all=info intake=error");
    send(&site).await;
    assert!(!running.log().contains("message.accepted"), "{}", running.log());
    assert_eq!(order(&site, "all=info").await, "all=info");
    send(&site).await;
    until("what follows is logged", || running.log().contains(" message.accepted ")).await;
    assert_eq!(running.log().matches(" message.accepted ").count(), 1, "{}", running.log());
    assert_eq!(running.log().matches(" log.levels_changed ").count(), 2, "{}", running.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_only_connects_is_no_warning() {
    for mode in ["", "tls_mode: implicit"] {
        let listener = format!("tls: {{ cert: mx.pem, key: mx.key }}\n    {mode}").leak();
        let site = Site::new(&Config { listener, ..Config::default() });
        certificates::write(site.path(), "mx", "mx.example.test");
        let running = site.start_ready().await;
        for _ in 0..3 {
            drop(TcpStream::connect(site.smtp).await.unwrap());
        }
        assert_eq!(order(&site, "all=debug").await, "all=debug");
        for _ in 0..3 {
            drop(TcpStream::connect(site.smtp).await.unwrap());
        }
        while site.status().await.connections > 0 {
            tokio::task::yield_now().await;
        }
        let log = running.log();
        let loud = |line: &&str| {
            let level = line.split(' ').nth(1);
            matches!(level, Some("WARN" | "ERROR")) && !line.contains("log.levels_changed")
        };
        assert_eq!(log.lines().find(loud), None, "{mode}");
    }
}
