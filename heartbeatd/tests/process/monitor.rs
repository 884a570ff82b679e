//! What a monitoring reads off a heartbeatd.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use control::switch;
use control::{Server, paths};

use crate::common::{LIMIT, Site, until};

fn get(address: SocketAddr, path: &str) -> String {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    };
    ask().unwrap_or_default()
}

fn site_with_monitor() -> (Site, SocketAddr) {
    let mut site = Site::of(&["a", "b"], "1s");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.more = format!("monitor: {{ address: \"{address}\" }}");
    site.configure("b");
    (site, address)
}

/// In place of a secondary, which is a script here.
fn secondary(state_dir: &std::path::Path) {
    let socket = Server::bind(&paths::switch(state_dir, &"a".parse().unwrap())).unwrap();
    let told =
        "# HELP mailswitch_ready 1 if.\n# TYPE mailswitch_ready gauge\nmailswitch_ready{queue=\"a\"} 0\n";
    tokio::spawn(socket.serve(move |_: switch::Request| async move {
        Ok(switch::Answer::Metrics { page: told.to_owned() })
    }));
}

#[tokio::test]
async fn a_secondary_that_another_run_started_is_on_the_page_too() {
    let (site, address) = site_with_monitor();
    let _others = site.lease("a", 1, "a");
    let _own = site.lease("b", 1, "b");
    let b = site.start("b");
    b.until_state("a", "HEALTHY").await;
    secondary(&b.state_dir);
    let page = tokio::task::spawn_blocking(move || get(address, "/metrics")).await.unwrap();
    assert!(page.contains("mailswitch_ready{queue=\"a\"} 0"), "{page}");
    assert!(site.started("b").is_empty());
}

#[tokio::test]
async fn a_takeover_can_be_read_off_the_metrics_with_those_of_the_secondary() {
    let (site, address) = site_with_monitor();
    let mut lease = site.lease("a", 1, "a");
    let _own = site.lease("b", 1, "b");
    let b = site.start("b");
    b.until_state("a", "HEALTHY").await;
    until("the node could take over", || get(address, "/health/takeover").starts_with("HTTP/1.1 200")).await;
    lease.die();
    until("a secondary is started", || !site.started("b").is_empty()).await;
    let _claimed = site.lease("a", 2, "b");
    b.until_state("a", "HOLDING").await;

    secondary(&b.state_dir);
    let page = tokio::task::spawn_blocking(move || get(address, "/metrics")).await.unwrap();
    let (_, page) = page.split_once("\r\n\r\n").unwrap();
    for row in [
        "mailswitch_decisions_total{node=\"b\",queue=\"a\",verdict=\"taken\"} 1",
        "mailswitch_queue_away{node=\"b\",queue=\"a\"} 1.0",
        "mailswitch_lease_epoch{node=\"b\",queue=\"a\"} 2.0",
        "mailswitch_takeover_phase_seconds{node=\"b\",queue=\"a\",phase=\"take\"} ",
        "mailswitch_watch_state{node=\"b\",queue=\"a\",state=\"HOLDING\"} 1.0",
        "mailswitch_protection_level{node=\"b\"} 0.0",
        "mailswitch_lease_io_p999_seconds{node=\"b\",queue=\"a\"} 0.0005",
        "mailswitch_ready{queue=\"a\"} 0",
    ] {
        assert!(page.contains(row), "{row} in\n{page}");
    }

    if Command::new("promtool").arg("--version").output().is_err() {
        println!("skipped: needs promtool (Debian package prometheus)");
        return;
    }
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn a_paused_node_says_that_it_could_not_take_over() {
    let (site, address) = site_with_monitor();
    let _own = site.lease("b", 1, "b");
    let b = site.start("b");
    until("the node could take over", || get(address, "/health/takeover").starts_with("HTTP/1.1 200")).await;
    let pause = control::heartbeatd::Request::Pause { for_ms: 60_000, reason: "work".to_owned() };
    b.ask(pause).await.unwrap();
    let answer = get(address, "/health/takeover");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("paused"), "{answer}");
}
