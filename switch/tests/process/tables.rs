//! Tables: aliases, recipients, senders and routes, while they change and while they are out of reach.

use std::path::Path;

use queue_format::books::Balance;
use rig::{Sink, SinkOptions};
use rustix::process::Signal;

use crate::site::{Config, PATIENCE, Site, clock, send_to, until};

fn balance(site: &Site) -> Balance {
    let balance = site.inspect().replay.books.balance();
    assert!(balance.holds, "{balance:?}");
    balance
}

fn sink() -> Sink {
    Sink::start(SinkOptions { keep_bytes_max: 1 << 20, ..SinkOptions::new(clock()) }).unwrap()
}

/// As a careful program does it.
fn put(site: &Site, name: &str, text: &str) {
    let new = site.path().join(format!("{name}.new"));
    std::fs::write(&new, text).unwrap();
    rustix::fs::rename(&new, site.path().join(name)).unwrap();
}

fn codes(replies: &[rig::Answer]) -> Vec<u16> {
    replies.iter().map(|reply| reply.code).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_and_senders_are_replaced_before_the_250_and_the_ledger_counts_them() {
    let sink = sink();
    let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
    site.configure_more("tables: { aliases: ../aliases, senders: ../senders }\n");
    put(
        &site,
        "aliases",
        "team@example.test ann@example.test, bob@other.test, lead@example.test\nlead@example.test ann@example.test\nloop@example.test loop2@example.test\nloop2@example.test loop@example.test\n",
    );
    put(&site, "senders", "client.test @mask.test\n");
    let mut switch = site.start_ready().await;
    let (replies, last) =
        send_to(&site, &["team@example.test", "loop@example.test", "eve@example.test"]).await;
    assert_eq!(codes(&replies), [250, 451, 250], "{replies:?}");
    assert_eq!(last.code, 250, "{last:?}");
    assert!(sink.wait_for(|tally| tally.deliveries == 1, PATIENCE).await, "{:?}", sink.tally());
    let delivery = sink.deliveries().remove(0);
    assert_eq!(delivery.recipients, ["ann@example.test", "bob@other.test", "eve@example.test"]);
    assert_eq!(delivery.reverse_path, "a@mask.test");
    until("the books know", || balance(&site).queued == 0).await;
    switch.signal(Signal::TERM);
    assert_eq!(switch.ended().await, 0);
    let totals = balance(&site).totals;
    assert_eq!((totals.messages, totals.accepted, totals.delivered), (1, 3, 3), "{totals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_is_taken_into_use_and_a_faulty_one_changes_nothing() {
    let sink = sink();
    let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
    site.configure_more("tables: { recipients: ../people, routes: ../more }\n");
    put(&site, "people", "ann@example.test\n/^team-/\n");
    put(&site, "more", "gone@example.test error: 5.1.6 moved away\n");
    let switch = site.start_ready().await;
    let to = ["ann@example.test", "joe@example.test", "team-1@example.test", "joe@elsewhere.test"];
    assert_eq!(codes(&send_to(&site, &to).await.0), [250, 550, 250, 250]);

    put(&site, "people", "ann@example.test\njoe@example.test\ngone@example.test\n");
    until("the table is in use", || switch.log().contains("table.reloaded")).await;
    let (replies, _) = send_to(&site, &["ann@example.test", "joe@example.test", "gone@example.test"]).await;
    assert_eq!(codes(&replies), [250, 250, 550]);
    assert_eq!(replies[2].text(), "5.1.6 moved away");

    // Half a file, an empty file, no file: what was known stays known.
    for text in ["ann@example.test\n(joe@\n", "", "# nothing\n"] {
        let told = switch.log().matches("table.refused").count();
        put(&site, "people", text);
        if text != "# nothing\n" {
            until("the fault is told", || switch.log().matches("table.refused").count() > told).await;
        }
        let (replies, _) = send_to(&site, &["joe@example.test", "team-1@example.test"]).await;
        assert_eq!(codes(&replies), [250, 550], "{text:?}");
    }
    // A reload is refused as a whole.
    let refused = switch.log().matches("config.refused").count();
    switch.signal(Signal::HUP);
    until("the reload is refused", || switch.log().matches("config.refused").count() > refused).await;
    assert_eq!(codes(&send_to(&site, &["joe@example.test"]).await.0), [250]);
}

fn is_absent(path: &Path) -> bool {
    !path.exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_never_there_puts_off_and_loses_nothing() {
    let sink = sink();
    let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
    site.configure_more(
        "retry: { first: 200ms, max: 300ms }\ntables: { recipients: ../people, routes: ../more }\n",
    );
    assert!(is_absent(&site.path().join("people")));
    let switch = site.start_ready().await;
    assert!(switch.log().contains("table.unavailable"), "{}", switch.log());
    let (replies, last) = send_to(&site, &["joe@example.test", "joe@elsewhere.test"]).await;
    assert_eq!((codes(&replies), last.code), (vec![450, 250], 250));
    // It waits: what the missing table says of it nobody knows.
    until("it was put off", || switch.log().contains("delivery.attempt")).await;
    assert_eq!((balance(&site).queued, sink.tally().deliveries), (1, 0));
    put(&site, "people", "joe@example.test\n");
    put(&site, "more", "other.test discard\n");
    assert!(sink.wait_for(|tally| tally.deliveries == 1, PATIENCE).await, "{:?}", sink.tally());
    assert_eq!(codes(&send_to(&site, &["joe@example.test", "ann@example.test"]).await.0), [250, 550]);
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_and_senders_that_were_never_there_put_off_too() {
    for (table, at_rcpt, at_last) in [("aliases", 450, 554), ("senders", 250, 451)] {
        let sink = sink();
        let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
        site.configure_more(&format!("tables: {{ {table}: ../table }}\n"));
        let switch = site.start_ready().await;
        let (replies, last) = send_to(&site, &["ann@example.test"]).await;
        assert_eq!((codes(&replies), last.code), (vec![at_rcpt], at_last), "{table}: {last:?}");
        assert_eq!(balance(&site).totals.messages, 0);
        put(&site, "table", "other.test @example.test\n");
        until("the table is in use", || switch.log().contains("table.reloaded")).await;
        assert_eq!(send_to(&site, &["ann@example.test"]).await.1.code, 250, "{table}");
        assert!(sink.wait_for(|tally| tally.deliveries == 1, PATIENCE).await, "{:?}", sink.tally());
    }
}
