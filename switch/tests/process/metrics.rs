//! What a monitoring reads: the page of a switch that did some work, and whether its node could take over.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use control::heartbeatd;
use control::switch::{Answer, Request};
use rig::{Sink, SinkOptions};

use crate::certificates;
use crate::site::{Config, PATIENCE, Running, Site, begin, clock, say, until};

fn get(site: &Site, path: &str) -> String {
    let mut stream = TcpStream::connect(site.health).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

pub(crate) fn page(site: &Site) -> String {
    let answer = get(site, "/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    body.to_owned()
}

/// The row with this name and these labels among others.
pub(crate) fn value(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let row = page.lines().find(|row| {
        row.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| row.contains(label))
    })?;
    row.rsplit(' ').next()?.parse().ok()
}

async fn with_work() -> (Site, Running, Sink) {
    let sink = Sink::start(SinkOptions::new(clock())).unwrap();
    let listener = "tls: { cert: mx.pem, key: mx.key }";
    let site = Site::new(&Config { listener, next_hop: Some(sink.address()), ..Config::default() });
    certificates::write(site.path(), "mx", "mx.example.test");
    let running = site.start_ready().await;
    let mut client = site.client().await;
    begin(&mut client).await;
    client.send(b"Subject: counted\r\n\r\none\r\n").await.unwrap();
    assert_eq!(say(&mut client, ".").await.code, 250);
    until("it is delivered", || {
        value(&page(&site), "mailswitch_ledger_recipients_total", &["fate=\"delivered\""]) == Some(1.0)
    })
    .await;
    (site, running, sink)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_switch_does_can_be_read_off_its_metrics() {
    let (site, _running, _sink) = with_work().await;
    let page = page(&site);
    let is = |name: &str, labels: &[&str], wanted: f64| {
        assert_eq!(value(&page, name, labels), Some(wanted), "{name} {labels:?} in\n{page}");
    };
    let own = ["node=\"a\"", "queue=\"a\"", "role=\"primary\""];
    is("mailswitch_messages_accepted_total", &own, 1.0);
    is("mailswitch_delivery_recipients_total", &["result=\"delivered\"", "reply=\"2xx\""], 1.0);
    is("mailswitch_queue_state", &["state=\"ACTIVE\""], 1.0);
    is("mailswitch_queue_state", &["state=\"FENCED\""], 0.0);
    is("mailswitch_queue_epoch", &own, 1.0);
    is("mailswitch_queue_messages", &own, 0.0);
    is("mailswitch_ledger_imbalance", &own, 0.0);
    is("mailswitch_ready", &own, 1.0);
    is("mailswitch_smtp_connections", &own, 0.0);
    for name in ["mailswitch_commit_seconds_count", "mailswitch_commit_records_sum"] {
        assert!(value(&page, name, &[]) >= Some(3.0), "{name} in\n{page}");
    }
    assert!(value(&page, "mailswitch_lease_renewal_age_seconds", &[]) < Some(2.0), "{page}");
    assert!(
        value(&page, "mailswitch_ownership_phase_seconds", &["phase=\"RECOVERING\""]).is_some(),
        "{page}"
    );
    // rcgen's certificates end in the year 4096.
    assert!(value(&page, "mailswitch_certificate_expiry_timestamp_seconds", &[]) > Some(6e10), "{page}");

    // The same over the control socket: a secondary has no other way.
    let Answer::Metrics { page } = site.ask(Request::Metrics).await.unwrap() else { panic!("no page") };
    assert_eq!(value(&page, "mailswitch_messages_accepted_total", &own), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_no_fault_with_the_page() {
    if Command::new("promtool").arg("--version").output().is_err() {
        println!("skipped: needs promtool (Debian package prometheus)");
        return;
    }
    let (site, _running, _sink) = with_work().await;
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(page(&site).as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

/// Every series of a page, the destination's name aside.
fn series(page: &str) -> Vec<String> {
    let rows = page.lines().filter(|row| !row.starts_with('#'));
    let series = rows.filter_map(|row| row.rsplit_once(' ')).map(|(series, _)| {
        match series.split_once("destination=\"") {
            Some((before, rest)) => format!("{before}{}", rest.split_once('"').unwrap().1),
            None => series.to_owned(),
        }
    });
    let mut series: Vec<String> = series.collect();
    series.sort_unstable();
    series
}

/// Each of many clients sends to a next hop of its own, at which nobody is, and errs.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_does_not_grow_with_clients_and_destinations() {
    let site = Site::new(&Config { trusted: "127.0.0.0/8", ..Config::default() });
    let routes = (1..=80).map(|n| format!("{{ match: d{n}.test, next_hop: '127.0.2.{n}:9' }}"));
    site.configure_more(&format!("routes: [ {} ]", routes.collect::<Vec<_>>().join(", ")));
    let _switch = site.start_ready().await;
    let mut pages = Vec::new();
    for clients in [1..=40, 41..=80] {
        let sent = *clients.end();
        for n in clients {
            let mut client = site.connect_from(&format!("127.0.1.{n}")).await;
            assert_eq!(client.reply().await.unwrap().code, 220);
            assert_eq!(say(&mut client, "EHLO client.test").await.code, 250);
            assert_eq!(say(&mut client, "NONSENSE").await.code, 500);
            assert_eq!(say(&mut client, &format!("MAIL FROM:<a@c{n}.test>")).await.code, 250);
            assert_eq!(say(&mut client, &format!("RCPT TO:<b@d{n}.test>")).await.code, 250);
            assert_eq!(say(&mut client, "DATA").await.code, 354);
            assert_eq!(say(&mut client, "Subject: x\r\n\r\nx\r\n.").await.code, 250);
        }
        let tried = || {
            let page = page(&site);
            let deferred = value(&page, "mailswitch_delivery_recipients_total", &["result=\"deferred\""]);
            deferred >= Some(f64::from(sent))
        };
        until("each was tried", tried).await;
        pages.push(page(&site));
    }
    let [first, second] = &pages[..] else { unreachable!() };
    assert_eq!(series(first), series(second));
    // Nobody has a row but the destinations with the most to send, and of those there are twenty.
    for page in &pages {
        assert!(!page.contains("127.0.1.") && !page.contains('@'), "{page}");
        let named: std::collections::BTreeSet<&str> =
            page.lines().filter_map(|row| row.split("destination=\"").nth(1)?.split('"').next()).collect();
        assert_eq!(named.len(), 20, "{named:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_of_takeover_says_what_heartbeatd_says() {
    let site = Site::new(&Config::default());
    let _running = site.start_ready().await;
    let answer = get(&site, "/health/takeover");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("heartbeatd is not running"), "{answer}");

    let server = control::Server::bind(&control::paths::heartbeatd(&site.path().join("state"))).unwrap();
    let unfit = std::sync::Arc::new(parking_lot::Mutex::new(vec!["paused".to_owned()]));
    let says = std::sync::Arc::clone(&unfit);
    tokio::spawn(server.serve(move |_: heartbeatd::Request| {
        let status = heartbeatd::HeartbeatdStatus {
            node: "a".parse().unwrap(),
            incarnation: 1,
            peers: Vec::new(),
            queues: Vec::new(),
            protection: "full".to_owned(),
            unfit: says.lock().clone(),
            paused_until: None,
            config_hash: String::new(),
            smtp: None,
            drill: None,
        };
        async move { Ok(heartbeatd::Answer::Status(Box::new(status))) }
    }));
    let answer = get(&site, "/health/takeover");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"reasons\":[\"paused\"]"), "{answer}");
    unfit.lock().clear();
    let answer = get(&site, "/health/takeover");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"state\":\"ready\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_destinations_and_people_there_are_the_page_stays_as_long_as_it_was() {
    let site = Site::new(&Config::default());
    let lines = (0..60).map(|n| format!("  - {{ match: d{n}.test, next_hop: \"127.1.2.{n}:9\" }}\n"));
    site.configure_more(&format!("routes:\n{}", lines.collect::<String>()));
    let running = site.start_ready().await;
    let rows = |page: &str, name: &str| page.lines().filter(|row| row.starts_with(name)).count();
    let long = |page: &str| page.lines().filter(|row| !row.starts_with("mailswitch_destination_")).count();
    let before = long(&page(&site));
    let mut client = site.client().await;
    say(&mut client, "EHLO client.example.test").await;
    assert_eq!(say(&mut client, "MAIL FROM:<somebody@sender.test>").await.code, 250);
    for n in 0..60 {
        assert_eq!(say(&mut client, &format!("RCPT TO:<person{n}@d{n}.test>")).await.code, 250);
    }
    say(&mut client, "DATA").await;
    client.send(b"Subject: many\r\n\r\nx\r\n").await.unwrap();
    assert_eq!(say(&mut client, ".").await.code, 250);
    until("destinations are on the page", || rows(&page(&site), "mailswitch_destination_waiting{") == 20)
        .await;
    let page = page(&site);
    assert_eq!(rows(&page, "mailswitch_destination_unreachable{"), 20, "{page}");
    // Replies and results that were not met before may have got a row, people and domains not.
    assert!(long(&page) <= before + 12, "{before} rows before, now:\n{page}");
    for text in ["person", "somebody", "client.example", "127.0.0.1"] {
        assert!(!page.contains(text), "{text} in\n{page}");
    }
    drop(running);
}
