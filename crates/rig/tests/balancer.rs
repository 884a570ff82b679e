//! The balancer between client and sinks: who is dead gets nothing, and nobody waits for the dead.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

mod common;

use std::time::Duration;

use common::clock;
use rig::{
    Backend, Balance, Balancer, BalancerOptions, Behaviour, Dialogue, Health, Load, Rate, Rule, Sink,
    SinkOptions, Stage,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(20);

fn sink() -> Sink {
    Sink::start(SinkOptions::new(clock())).unwrap()
}

fn balancer(sinks: &[&Sink]) -> Balancer {
    let backend = |sink: &&Sink| Backend { address: sink.address(), health: Health::Greeting };
    let quick = Duration::from_millis(20);
    let options = BalancerOptions::new(sinks.iter().map(backend).collect());
    Balancer::start(BalancerOptions { check_interval: quick, ..options }).unwrap()
}

#[tokio::test]
async fn a_dead_backend_loses_no_message() {
    let (one, two) = (sink(), sink());
    let balancer = balancer(&[&one, &two]);
    let mut load = Load::new(balancer.address(), "run");
    (load.rate, load.total, load.messages_per_connection) = (Rate::PerSecond(1000), Some(600), 7);
    let run = load.start(clock());
    assert!(one.wait_for(|tally| tally.probes >= 50, PATIENCE).await);
    assert!(two.wait_for(|tally| tally.probes >= 50, PATIENCE).await);
    one.stop().await;
    assert!(balancer.wait_for(|healthy| healthy == [false, true], PATIENCE).await);
    let probes = run.finish(PATIENCE).await;

    let mut deliveries = one.deliveries();
    deliveries.extend(two.deliveries());
    let balance = Balance::close("run", &probes, &deliveries);
    assert_eq!((balance.accepted, balance.delivered), (600, 600));
    assert!(balance.is_whole(), "{balance:?}");
    assert_eq!((one.violations(), two.violations()), (vec![], vec![]));

    // It comes back at its old place, and gets work again.
    let back = Sink::start(SinkOptions { address: one.address(), ..SinkOptions::new(clock()) }).unwrap();
    assert!(balancer.wait_for(|healthy| healthy == [true, true], PATIENCE).await);
    let mut load = Load::new(balancer.address(), "more");
    (load.total, load.messages_per_connection) = (Some(20), 1);
    load.start(clock()).finish(PATIENCE).await;
    assert!(back.tally().probes > 0);
}

#[tokio::test]
async fn a_frozen_backend_is_cut_off_its_clients() {
    let (frozen, living) = (sink(), sink());
    let balancer = balancer(&[&frozen, &living]);
    let mut dialogue = Dialogue::connect(balancer.address(), PATIENCE).await.unwrap();
    assert_eq!(dialogue.reply().await.unwrap().code, 220);
    // The greeting never comes, though the connection is taken. Which of the two the client has is not known.
    for sink in [&frozen, &living] {
        sink.behave(Behaviour::with(Rule::at(Stage::Connect).after(Duration::from_hours(1))));
    }
    dialogue.closed().await.unwrap();
    assert!(balancer.wait_for(|healthy| healthy == [false, false], PATIENCE).await);
    // With nobody left a client learns so at once.
    let mut dialogue = Dialogue::connect(balancer.address(), PATIENCE).await.unwrap();
    dialogue.closed().await.unwrap();
}

#[tokio::test]
async fn a_disabled_backend_keeps_its_connections_and_gets_no_new_ones() {
    let one = sink();
    let balancer = balancer(&[&one]);
    let mut open = Dialogue::connect(balancer.address(), PATIENCE).await.unwrap();
    open.reply().await.unwrap();
    balancer.set_enabled(0, false);
    Dialogue::connect(balancer.address(), PATIENCE).await.unwrap().closed().await.unwrap();
    assert_eq!(open.command("NOOP").await.unwrap().code, 250);
    balancer.set_enabled(0, true);
    let mut again = Dialogue::connect(balancer.address(), PATIENCE).await.unwrap();
    assert_eq!(again.reply().await.unwrap().code, 220);
    balancer.stop().await;
    open.closed().await.unwrap();
}

#[tokio::test]
async fn a_client_that_closed_its_side_still_reads_its_replies() {
    let one = sink();
    let balancer = balancer(&[&one]);
    let mut dialogue = Dialogue::connect(balancer.address(), PATIENCE).await.unwrap();
    dialogue.send("NOOP\r\n").await.unwrap();
    dialogue.half_close().await.unwrap();
    assert_eq!(dialogue.reply().await.unwrap().code, 220);
    assert_eq!(dialogue.reply().await.unwrap().code, 250);
    dialogue.closed().await.unwrap();
}

#[tokio::test]
async fn readiness_over_http_decides_where_it_is_asked_for() {
    let one = sink();
    let pages = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let health = Health::Ready(pages.local_addr().unwrap());
    let (status, mut answer) = tokio::sync::watch::channel("503 Service Unavailable");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = pages.accept().await.unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /health/ready HTTP/1.1\r\n"));
            let page = format!("HTTP/1.1 {}\r\nContent-Length: 0\r\n\r\n", *answer.borrow_and_update());
            stream.write_all(page.as_bytes()).await.unwrap();
        }
    });
    let backends = vec![Backend { address: one.address(), health }];
    let options =
        BalancerOptions { check_interval: Duration::from_millis(20), ..BalancerOptions::new(backends) };
    let balancer = Balancer::start(options).unwrap();
    assert!(balancer.wait_for(|healthy| healthy == [false], PATIENCE).await);
    status.send_replace("200 OK");
    assert!(balancer.wait_for(|healthy| healthy == [true], PATIENCE).await);
}
