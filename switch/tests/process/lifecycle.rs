//! From waiting for the queue to giving it up, and losing it.

use std::time::Duration;

use bytes::Bytes;
use cluster::instance::{Order, State};
use control::switch::{Answer, Request};
use mail_model::{Envelope, Epoch, LeaseState, Reason, Recipient, ReversePath};
use queue_format::books::Books;
use queue_format::record::{Content, MessageRecord, encode_envelope};
use queue_store::Queue;
use queue_store::inspect::top_lease;
use rustix::process::Signal;

use crate::site::{Config, Site, begin, clock, key, say, until};

async fn active(queue: &Queue) {
    tokio::time::timeout(crate::site::PATIENCE, queue.state().wait_for(|state| *state == State::Active))
        .await
        .unwrap()
        .unwrap();
}

/// Epoch and last word of the top lease.
fn lease(site: &Site) -> (u64, LeaseState) {
    let (claim, renewal) = top_lease(&site.queue_dir()).unwrap().unwrap();
    (claim.epoch.0, renewal.unwrap().state)
}

#[tokio::test]
async fn until_the_queue_comes_home_clients_get_421_and_probes_503() {
    let site = Site::new(&Config::default());
    let elsewhere = site.open_elsewhere(None);
    active(&elsewhere).await;
    let _switch = site.start();
    until("it answers probes", || site.probe().starts_with("HTTP/1.1 503")).await;
    assert!(site.probe().contains("\"not_ready\"") && site.probe().contains("INIT"), "{}", site.probe());
    let (mut client, greeting) = site.connect().await;
    assert!(greeting.code == 421 && greeting.text().starts_with("4.3.2"), "{greeting:?}");
    client.closed().await.unwrap();
    let status = site.status().await;
    assert_eq!((status.state.as_str(), status.ready, status.epoch), ("INIT", false, Epoch(0)));
    assert!(status.reasons[0].contains("another owner"), "{:?}", status.reasons);

    elsewhere.release().await;
    until("the queue is home", || site.probe().starts_with("HTTP/1.1 200")).await;
    let (_, greeting) = site.connect().await;
    assert_eq!(greeting.code, 220);
    assert_eq!(lease(&site), (2, LeaseState::Active));
}

#[tokio::test]
async fn a_switch_that_waits_for_its_queue_ends_on_sigterm_and_claims_nothing() {
    let site = Site::new(&Config::default());
    let elsewhere = site.open_elsewhere(None);
    active(&elsewhere).await;
    let mut switch = site.start();
    until("it answers probes", || site.probe().contains("INIT")).await;
    switch.signal(Signal::TERM);
    assert_eq!(switch.ended().await, 0);
    assert_eq!(lease(&site), (1, LeaseState::Active));
    elsewhere.release().await;
}

#[tokio::test]
async fn sigterm_finishes_sessions_releases_the_queue_and_ends_with_0() {
    let site = Site::new(&Config::default());
    let mut switch = site.start_ready().await;
    let (mut idle, mut busy) = (site.client().await, site.client().await);
    begin(&mut busy).await;
    switch.signal(Signal::TERM);
    let reply = idle.reply().await.unwrap();
    assert!(reply.code == 421 && reply.text().starts_with("4.3.2"), "{reply:?}");
    idle.closed().await.unwrap();
    assert!(site.probe().starts_with("HTTP/1.1 503"), "{}", site.probe());
    let (_, greeting) = site.connect().await;
    assert_eq!(greeting.code, 421, "no new client is taken");

    busy.send("this one may finish\r\n.\r\n").await.unwrap();
    let accepted = busy.reply().await.unwrap();
    assert_eq!(accepted.code, 250);
    assert_eq!(busy.reply().await.unwrap().code, 421);
    busy.closed().await.unwrap();
    assert_eq!(switch.ended().await, 0);
    assert_eq!(lease(&site), (1, LeaseState::Released));
    let found = site.inspect();
    assert!(found.replay.books.is_clean() && found.replay.books.message(key(accepted.text())).is_some());
}

#[tokio::test]
async fn an_ordered_drain_tells_probes_first_and_clients_after_the_notice() {
    let site = Site::new(&Config::default());
    let mut switch = site.start_ready().await;
    let mut busy = site.client().await;
    begin(&mut busy).await;
    let (grace_ms, notice_ms) = (5_000, 2_000);
    site.ask(Request::Drain { grace_ms, notice_ms }).await.unwrap();
    until("probes hear of it", || site.probe().starts_with("HTTP/1.1 503")).await;
    let (mut late, greeting) = site.connect().await;
    assert_eq!(greeting.code, 220, "within the notice clients are greeted");
    assert_eq!(say(&mut late, "EHLO client.test").await.code, 250);
    begin(&mut late).await;
    late.send("within the notice\r\n.\r\n").await.unwrap();
    let within = late.reply().await.unwrap();
    assert_eq!(within.code, 250);
    // It is closed when the notice is over, and from then on nobody is greeted.
    assert_eq!(late.reply().await.unwrap().code, 421);
    let (_, greeting) = site.connect().await;
    assert_eq!(greeting.code, 421);

    busy.send("this one may finish\r\n.\r\n").await.unwrap();
    let accepted = busy.reply().await.unwrap();
    assert_eq!(accepted.code, 250);
    assert_eq!(switch.ended().await, 3, "a service manager must not start it again");
    assert_eq!(lease(&site), (1, LeaseState::Released));
    let books = site.inspect().replay.books;
    assert!(books.is_clean() && [&within, &accepted].iter().all(|r| books.message(key(r.text())).is_some()));
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let site = Site::new(&Config::default());
    let mut switch = site.start_ready().await;
    let mut client = site.client().await;
    begin(&mut client).await;
    switch.signal(Signal::TERM);
    until("it drains", || switch.log().contains("switch.draining")).await;
    switch.signal(Signal::TERM);
    assert_eq!(switch.ended().await, 0);
    assert!(switch.log().contains("switch.ended_at_once"));
    assert_eq!(lease(&site), (1, LeaseState::Active), "nothing was released");
}

#[tokio::test]
async fn a_frozen_switch_whose_queue_was_taken_says_no_250_and_ends_with_75() {
    let site = Site::new(&Config::default());
    let mut switch = site.start_ready().await;
    let (mut client, mut open) = (site.client().await, site.client().await);
    begin(&mut client).await;
    begin(&mut open).await;
    client.send("sent before the freeze, ").await.unwrap();
    switch.freeze().await;
    client.send("and ended within it\r\n.\r\n").await.unwrap();
    let taker = site.open_elsewhere(Some(Order { expected: Epoch(1), reason: Reason::Expired }));
    active(&taker).await;
    assert_eq!(taker.books(Books::len), Some(0));

    switch.signal(Signal::CONT);
    // Where the end of a message had come, nobody there knows whether it was stored: silence is allowed, 250 is not.
    if let Ok(reply) = client.reply().await {
        assert_eq!(reply.code, 421, "{reply:?}");
    }
    let reply = open.reply().await.unwrap();
    assert_eq!(reply.code, 421, "{reply:?}");
    open.closed().await.unwrap();
    assert_eq!(switch.ended().await, 75);
    assert!(switch.log().contains("state=FENCED"), "{}", switch.log());
    taker.release().await;
    let found = site.inspect();
    assert_eq!((found.replay.books.len(), found.replay.faults), (0, vec![]));
}

#[tokio::test]
async fn new_mail_is_refused_with_452_while_the_disk_is_full_and_taken_when_it_is_not() {
    let probe = tempfile::tempdir().unwrap();
    let free = rustix::fs::statvfs(probe.path()).unwrap();
    // With less than this free it counts as full; the file below takes it under that.
    let reserve = (free.f_bavail * free.f_frsize - (2 << 30)) >> 20;
    let site = Site::new(&Config { queue: format!("free_space_reserve: {reserve}MiB"), ..Config::default() });
    let _switch = site.start_ready().await;
    let mut client = site.client().await;
    assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 250);
    assert_eq!(say(&mut client, "RCPT TO:<b@example.test>").await.code, 250);

    let ballast = site.path().join("ballast");
    let file = std::fs::File::create(&ballast).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 4 << 30).unwrap();
    until("it is seen that the disk is full", || site.probe().contains("not enough free space")).await;
    let reply = say(&mut client, "DATA").await;
    assert!(reply.code == 452 && reply.text().starts_with("4.3.1"), "{reply:?}");
    assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 452);

    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    until("there is space again", || site.probe().starts_with("HTTP/1.1 200")).await;
    begin(&mut client).await;
    client.send("now there is room\r\n.\r\n").await.unwrap();
    assert_eq!(client.reply().await.unwrap().code, 250);
}

/// Makes this site node b of a cluster in which a is dead, with one message in a's queue.
async fn orphan(site: &Site) {
    site.becomes_survivor();
    let queue = site.open_elsewhere(None);
    active(&queue).await;
    let mut envelope = Envelope::from_sender(ReversePath::Null);
    envelope.recipients.push(Recipient::plain(mail_model::Mailbox::parse_stored("b@example.test").unwrap()));
    let record = MessageRecord {
        key: queue.next_key(),
        received: clock().wall(),
        size: 4,
        origin: "test".into(),
        envelope: encode_envelope(&envelope),
        content: Content::Inline,
        settles: None,
        handover: None,
    };
    queue.accept(record, Bytes::from_static(b"hi\r\n")).await.unwrap();
    queue.release().await;
}

#[tokio::test]
async fn a_secondary_listens_nowhere_and_gives_the_queue_back_on_order() {
    let site = Site::new(&Config::default());
    orphan(&site).await;
    let mut switch = site.take_over("1");
    until("it has the queue", || switch.log().contains("switch.active queue=a epoch=2 role=secondary")).await;
    let status = site.status().await;
    assert_eq!((status.state.as_str(), status.ready, status.queued_messages), ("ACTIVE", false, 1));
    assert!(std::net::TcpStream::connect(site.smtp).is_err() && site.probe().is_empty());

    let grace_ms = u64::try_from(Duration::from_secs(5).as_millis()).unwrap();
    let answer = site.ask(Request::Drain { grace_ms, notice_ms: 0 }).await.unwrap();
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    assert_eq!(switch.ended().await, 0);
    assert_eq!(lease(&site), (2, LeaseState::Released));
    assert_eq!(site.inspect().replay.books.len(), 1);
}

#[tokio::test]
async fn a_secondary_that_comes_too_late_takes_nothing_and_ends_with_75() {
    let site = Site::new(&Config::default());
    orphan(&site).await;
    let mut switch = site.take_over("7");
    assert_eq!(switch.ended().await, 75);
    assert!(switch.log().contains("switch.gave_up"), "{}", switch.log());
    assert_eq!(lease(&site), (1, LeaseState::Released));
}
