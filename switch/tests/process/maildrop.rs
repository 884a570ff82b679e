//! Mail that programs of this machine leave for the switch.

use control::maildrop::{self, Letter, Wishes};
use mail_model::{Mailbox, ReversePath};
use rig::{Behaviour, Extensions, Sink, SinkOptions};
use rustix::process::Signal;

use crate::site::{Config, PATIENCE, Site, clock, until};

const TEXT: &[u8] = b"Subject: left\r\n\r\ntext\r\n";

fn letter(to: &str) -> Letter {
    let from = ReversePath::Mailbox(Mailbox::parse_stored("me@example.test").unwrap());
    Letter::new(&from, &[Mailbox::parse_stored(to).unwrap()], false)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_while_the_switch_was_down_is_sent_and_what_is_left_later_too() {
    let sink = Sink::start(SinkOptions::new(clock())).unwrap();
    let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
    let drop = maildrop::directory(&site.path().join("state"));
    std::fs::create_dir_all(&drop).unwrap();
    maildrop::leave(&drop, "1", &letter("a@example.test"), TEXT).unwrap();
    let mut switch = site.start_ready().await;
    assert!(sink.wait_for(|tally| tally.deliveries == 1, PATIENCE).await, "{:?}", sink.tally());
    let large = [TEXT, b"0123456789\r\n".repeat(50_000).as_slice()].concat();
    maildrop::leave(&drop, "2", &letter("b@example.test"), &large).unwrap();
    assert!(sink.wait_for(|tally| tally.deliveries == 2, PATIENCE).await, "{:?}", sink.tally());
    until("the maildrop is empty", || maildrop::slots(&drop).unwrap().is_empty()).await;
    switch.signal(Signal::TERM);
    assert_eq!(switch.ended().await, 0);
    let totals = site.inspect().replay.books.totals();
    assert_eq!((totals.accepted, totals.delivered), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_is_set_aside_and_does_not_stop_the_rest() {
    let sink = Sink::start(SinkOptions::new(clock())).unwrap();
    let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
    let drop = maildrop::directory(&site.path().join("state"));
    std::fs::create_dir_all(&drop).unwrap();
    std::fs::write(drop.join("0.letter"), b"what is this\n").unwrap();
    // A switch that was killed had taken this one.
    let taken = maildrop::leave(&drop, "1", &letter("a@example.test"), TEXT).unwrap();
    maildrop::slots(&drop).unwrap().remove(1).take().unwrap();
    assert!(!taken.exists());
    let mut switch = site.start_ready().await;
    assert!(sink.wait_for(|tally| tally.deliveries == 1, PATIENCE).await, "{:?}", sink.tally());
    until("only what was refused is left", || {
        maildrop::slots(&drop).unwrap().is_empty() && drop.join("0.refused").exists()
    })
    .await;
    switch.signal(Signal::TERM);
    assert_eq!(switch.ended().await, 0);
    let log = std::fs::read_to_string(site.path().join("switch.log")).unwrap();
    assert!(log.contains("maildrop.in_doubt") && log.contains("maildrop.refused"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_made_as_it_was_wished_by_who_left_the_message() {
    let extensions = Extensions { dsn: false, ..Extensions::default() };
    let behaviour = Behaviour { extensions, ..Behaviour::default() };
    let sink = Sink::start(SinkOptions { behaviour, ..SinkOptions::new(clock()) }).unwrap();
    let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
    let drop = maildrop::directory(&site.path().join("state"));
    std::fs::create_dir_all(&drop).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let wishes =
        Wishes { notify: text("success"), ret: text("hdrs"), envid: text("id 1"), ..Wishes::default() };
    maildrop::leave(&drop, "1", &letter("a@example.test").wishing(wishes), TEXT).unwrap();
    let _switch = site.start_ready().await;
    assert!(sink.wait_for(|tally| tally.deliveries >= 1, PATIENCE).await, "{:?}", sink.tally());
    // The next hop makes no reports, so this switch does.
    assert!(sink.wait_for(|tally| tally.deliveries >= 2, PATIENCE).await, "{:?}", sink.tally());
    let report = sink.deliveries().pop().unwrap();
    assert_eq!(report.recipients, ["me@example.test"]);
    let all = site.inspect().replay.books.totals();
    assert_eq!(all.generated, 1);
}
