//! Delivery against a real sink, from a real queue: who gets what, how often, and what the books say afterwards.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by it, in its helpers too"
)]

mod doubt;
mod manner;
mod notices;
mod share;
mod site;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::instance::{Order, State};
use daemon_kit::clock::SystemClock;
use mail_model::{BodyType, Clock, DsnReturn, Epoch, Notify, OriginalRecipient, Reason, Recipient};
use queue_format::record::{Content, MessageRecord, encode_envelope};
use rig::{Behaviour, Extensions, Rule, Stage};
use schedule::ConcurrencyLimits;
use settings::EightBit;

use self::site::{BODY, PATIENCE, Site, dead_address, envelope, mailbox, open, recipients, sink_at, took};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_transaction_carries_all_recipients_and_every_byte_unchanged() {
    for extensions in [
        Extensions::default(),
        Extensions { chunking: false, ..Extensions::default() },
        Extensions { chunking: false, pipelining: false, dsn: false, ..Extensions::default() },
    ] {
        let (mut site, sink) = Site::with_sink(Behaviour { extensions, ..Behaviour::default() }).await;
        site.start();
        site.accept("from@example.test", &["a@example.test", "b@example.test", "c@other.test"]).await;
        took(&sink, 1).await;
        site.until("delivered", |b| b.totals.delivered == 3 && b.queued == 0).await;
        let delivery = sink.deliveries().remove(0);
        assert_eq!(delivery.reverse_path, "from@example.test");
        assert_eq!(delivery.recipients, ["a@example.test", "b@example.test", "c@other.test"]);
        assert_eq!(delivery.content.as_deref(), Some(BODY));
        assert_eq!(sink.tally().deliveries, 1);
        assert_eq!(site.counters.delivered.read(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_knows_only_helo_is_served_line_by_line() {
    let behaviour = Behaviour { helo_only: true, multi_line: true, ..Behaviour::default() };
    let (mut site, sink) = Site::with_sink(behaviour).await;
    site.start();
    site.accept("from@example.test", &["a@example.test"]).await;
    took(&sink, 1).await;
    assert_eq!(sink.deliveries().remove(0).content.as_deref(), Some(BODY));
    site.until("delivered", |b| b.totals.delivered == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_goes_out_piece_by_piece_and_unchanged() {
    for chunking in [true, false] {
        let extensions = Extensions { chunking, ..Extensions::default() };
        let (mut site, sink) = Site::with_sink(Behaviour { extensions, ..Behaviour::default() }).await;
        let key = site.queue.next_key();
        let whole =
            [b"Subject: x\r\n\r\n".as_slice(), &b".a line with a dot in front\r\n".repeat(20_000)].concat();
        let mut chunks = Vec::new();
        for piece in whole.chunks(100_001) {
            chunks.push(site.queue.append_chunk(key, Bytes::copy_from_slice(piece)).await.unwrap());
        }
        let record = MessageRecord {
            key,
            received: SystemClock.wall(),
            size: whole.len() as u64,
            origin: "client 127.0.0.1".into(),
            envelope: encode_envelope(&envelope("from@example.test", &["a@example.test"])),
            content: Content::Chunks(chunks),
            settles: None,
            handover: None,
        };
        site.queue.accept(record, Bytes::new()).await.unwrap();
        site.start();
        took(&sink, 1).await;
        assert!(sink.deliveries().remove(0).content.as_deref() == Some(&whole[..]), "the bytes differ");
        site.until("delivered", |b| b.totals.delivered == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_without_a_route_waits_for_one() {
    let (mut site, sink) = Site::with_sink(Behaviour::default()).await;
    let routed = site.settings.clone();
    site.settings.routes = routing::Routes::default();
    site.start();
    site.accept("from@example.test", &["a@example.test"]).await;
    site.until("put off", |_| site.counters.deferred.read() >= 1).await;
    site.live.store(Arc::new(routed));
    took(&sink, 1).await;
    site.until("delivered", |b| b.totals.delivered == 1 && b.queued == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_queued_before_the_start_is_delivered_over_few_connections() {
    let (mut site, sink) = Site::with_sink(Behaviour::default()).await;
    for n in 0..200 {
        site.accept("from@example.test", &[&format!("r{n}@example.test")]).await;
    }
    site.settings.limits.concurrency = ConcurrencyLimits { per_destination: 2, total: 10, initial: 2 };
    site.start();
    took(&sink, 200).await;
    site.until("delivered", |b| b.totals.delivered == 200).await;
    assert_eq!(sink.tally().deliveries, 200, "each once");
    assert!(sink.tally().connections <= 2, "{:?}", sink.tally());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_serves_the_next_message_and_a_dead_one_costs_no_attempt() {
    let (mut site, sink) = Site::with_sink(Behaviour::default()).await;
    site.start();
    for n in 1..=3 {
        site.accept("from@example.test", &["a@example.test"]).await;
        took(&sink, n).await;
        site.until("delivered", |b| b.totals.delivered == n).await;
    }
    assert_eq!(sink.tally().connections, 1);
    // The peer loses patience with the idle connection: it says 421 to the next MAIL.
    sink.behave(Behaviour::with(Rule::at(Stage::Mail).reply(421, "4.4.2 idle too long").first(1)));
    site.accept("from@example.test", &["a@example.test"]).await;
    took(&sink, 4).await;
    site.until("delivered", |b| b.totals.delivered == 4).await;
    assert_eq!(sink.tally().connections, 2);
    assert_eq!(site.counters.deferred.read(), 0, "it was not put off");
    // And once it just closes.
    sink.behave(Behaviour::with(Rule::at(Stage::Mail).drop_connection().first(1)));
    site.accept("from@example.test", &["a@example.test"]).await;
    took(&sink, 5).await;
    assert_eq!((sink.tally().connections, site.counters.deferred.read()), (3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_tried_in_order() {
    let any = "127.0.0.1:0".parse().unwrap();
    let refusing = sink_at(any, Behaviour::with(Rule::at(Stage::Connect).reply(554, "5.3.2 no service")));
    let second = sink_at(any, Behaviour::default());
    let third = sink_at(any, Behaviour::default());
    let hop =
        format!("{}, {}, {}, {}", dead_address(), refusing.address(), second.address(), third.address());
    let mut site = Site::new(&hop).await;
    site.start();
    site.accept("from@example.test", &["a@example.test"]).await;
    took(&second, 1).await;
    assert_eq!((refusing.tally().connections, third.tally().connections), (1, 0));
    site.until("delivered", |b| b.totals.delivered == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_breaks_off_before_it_took_anything_is_followed_by_the_next() {
    let any = "127.0.0.1:0".parse().unwrap();
    let first = sink_at(any, Behaviour::with(Rule::at(Stage::Mail).reply(421, "4.3.2 shutting down")));
    let second = sink_at(any, Behaviour::with(Rule::at(Stage::Recipient).drop_connection()));
    let third = sink_at(any, Behaviour::default());
    let hop = format!("{}, {}, {}", first.address(), second.address(), third.address());
    let mut site = Site::new(&hop).await;
    site.start();
    site.accept("from@example.test", &["a@example.test"]).await;
    took(&third, 1).await;
    site.until("delivered", |b| b.totals.delivered == 1).await;
    assert_eq!(
        (first.tally().connections, second.tally().connections, site.counters.deferred.read()),
        (1, 1, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_recipient_has_its_own_fate_and_only_the_deferred_one_is_tried_again() {
    let rules = vec![
        Rule::at(Stage::Recipient).for_local_part("later").reply(450, "4.2.1 busy").first(2),
        Rule::at(Stage::Recipient).for_local_part("never").reply(550, "5.1.1 no such user"),
    ];
    let (mut site, sink) = Site::with_sink(Behaviour { rules, ..Behaviour::default() }).await;
    site.start();
    // The null sender: nobody is told of the one that failed.
    site.accept("", &["now@example.test", "later@example.test", "never@example.test"]).await;
    took(&sink, 2).await;
    let balance = site.until("done", |b| b.queued == 0).await;
    assert_eq!((balance.totals.delivered, balance.totals.bounced, balance.totals.generated), (2, 1, 0));
    assert_eq!(recipients(&sink), [["now@example.test"], ["later@example.test"]]);
    assert_eq!(site.counters.deferred.read(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_final_dot_is_tried_again_or_bounced_by_its_first_digit() {
    let (mut site, sink) =
        Site::with_sink(Behaviour::with(Rule::at(Stage::FinalDot).reply(451, "4.3.0 later").first(1))).await;
    site.start();
    site.accept("", &["a@example.test"]).await;
    took(&sink, 1).await;
    sink.behave(Behaviour::with(Rule::at(Stage::FinalDot).reply(554, "5.7.1 spam").first(1)));
    site.accept("", &["b@example.test"]).await;
    let balance = site.until("done", |b| b.queued == 0).await;
    assert_eq!((balance.totals.delivered, balance.totals.bounced), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_reported_once_to_the_sender_with_all_its_recipients() {
    let rules = vec![Rule::at(Stage::Recipient).for_local_part("no*").reply(550, "5.1.1 no such user")];
    let (mut site, sink) = Site::with_sink(Behaviour { rules, ..Behaviour::default() }).await;
    site.start();
    let mut envelope = envelope("from@example.test", &["nobody@example.test", "yes@example.test"]);
    envelope.ret = Some(DsnReturn::Full);
    envelope.envid = Some("QQ1".into());
    let original = OriginalRecipient { address_type: "rfc822".into(), address: "alias@example.test".into() };
    envelope
        .recipients
        .push(Recipient { original: Some(original), ..Recipient::plain(mailbox("none@other.test")) });
    let silent =
        Recipient { notify: Some(Notify::NEVER), ..Recipient::plain(mailbox("noreport@example.test")) };
    envelope.recipients.push(silent);
    let key = site.accept_at(&envelope, BODY, SystemClock.wall()).await;
    took(&sink, 2).await;
    let balance = site.until("done", |b| b.queued == 0).await;
    assert_eq!((balance.totals.delivered, balance.totals.bounced, balance.totals.generated), (2, 3, 1));
    let bounce = sink.deliveries().remove(1);
    assert_eq!(
        (bounce.reverse_path.as_str(), bounce.recipients.as_slice()),
        ("", &["from@example.test".to_owned()][..])
    );
    let text = String::from_utf8(bounce.content.unwrap()).unwrap();
    let about = site.queue.message_id(key).to_string();
    for wanted in [
        "Content-Type: multipart/report; report-type=\"delivery-status\"",
        "Auto-Submitted: auto-replied\r\n",
        "Original-Envelope-Id: QQ1\r\n",
        "Original-Recipient: rfc822;alias@example.test\r\nFinal-Recipient: rfc822;none@other.test\r\n",
        "Final-Recipient: rfc822;nobody@example.test\r\nAction: failed\r\nStatus: 5.1.1\r\n",
        "Diagnostic-Code: smtp;550 5.1.1 no such user\r\n",
        "Remote-MTA: dns;[127.0.0.1]\r\n",
        &about,
        std::str::from_utf8(BODY).unwrap(),
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    assert!(!text.contains("noreport"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounce_that_fails_is_reported_to_nobody() {
    let (mut site, sink) =
        Site::with_sink(Behaviour::with(Rule::at(Stage::Recipient).reply(550, "5.1.1 no such user"))).await;
    site.start();
    site.accept("from@example.test", &["a@example.test"]).await;
    let balance = site.until("done", |b| b.totals.bounced == 2 && b.queued == 0).await;
    assert_eq!((balance.totals.generated, sink.tally().deliveries), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_gets_one_last_try_at_the_end_of_its_lifetime_and_is_then_reported() {
    let rules = vec![Rule::at(Stage::Recipient).for_local_part("slow").reply(450, "4.2.1 mailbox busy")];
    let (mut site, sink) = Site::with_sink(Behaviour { rules, ..Behaviour::default() }).await;
    site.settings.retry.lifetime = Duration::from_secs(2);
    site.start();
    site.accept("from@example.test", &["slow@example.test"]).await;
    took(&sink, 1).await;
    let balance = site.until("expired", |b| b.totals.expired == 1 && b.queued == 0).await;
    assert_eq!((balance.totals.bounced, balance.totals.generated), (0, 1));
    let text = String::from_utf8(sink.deliveries().remove(0).content.unwrap()).unwrap();
    assert!(text.contains("Status: 4.4.7\r\nRemote-MTA"), "{text}");
    assert!(text.contains("Diagnostic-Code: smtp;450 4.2.1 mailbox busy\r\n"), "{text}");
    assert!(text.contains("Content-Type: text/rfc822-headers") && !text.contains(".dot first"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_dead_destination_expires_there() {
    let mut site = Site::new(&dead_address().to_string()).await;
    site.settings.retry.lifetime = Duration::from_secs(2);
    site.start();
    for _ in 0..50 {
        site.accept("", &["a@example.test"]).await;
    }
    let balance = site.until("expired", |b| b.queued == 0).await;
    assert_eq!(balance.totals.expired, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_the_final_dot_is_counted_as_doubt_and_sent_again() {
    let (mut site, sink) =
        Site::with_sink(Behaviour::with(Rule::at(Stage::FinalDot).take_then_drop().first(1))).await;
    site.start();
    site.accept("from@example.test", &["a@example.test"]).await;
    took(&sink, 2).await;
    let balance = site.until("delivered", |b| b.totals.delivered == 1).await;
    assert_eq!(balance.totals.in_doubt, 1);
    assert_eq!(sink.tally().deliveries, 2, "one more than delivered, and that one is in doubt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_was_down_gets_everything_when_it_is_up_and_no_storm_before() {
    let address = dead_address();
    let mut site = Site::new(&address.to_string()).await;
    site.start();
    for n in 0..100 {
        site.accept("from@example.test", &[&format!("r{n}@example.test")]).await;
    }
    site.until("tried", |_| site.counters.deferred.read() >= 1).await;
    assert!(site.counters.deferred.read() <= 40, "one window and a few probes, not a hundred attempts");
    let sink = sink_at(address, Behaviour::default());
    took(&sink, 100).await;
    site.until("delivered", |b| b.totals.delivered == 100).await;
    assert_eq!(sink.tally().deliveries, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_transactions_run_at_once_than_allowed() {
    let slow = Rule::at(Stage::FinalDot).after(Duration::from_millis(50));
    let (mut site, sink) = Site::with_sink(Behaviour::with(slow)).await;
    site.settings.limits.concurrency = ConcurrencyLimits { per_destination: 3, total: 100, initial: 3 };
    for n in 0..30 {
        site.accept("from@example.test", &[&format!("r{n}@example.test")]).await;
    }
    site.start();
    took(&sink, 30).await;
    assert_eq!(sink.tally().connections, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_waits_for_what_runs_and_begins_nothing() {
    let slow = Rule::at(Stage::FinalDot).after(Duration::from_millis(300));
    let (mut site, sink) = Site::with_sink(Behaviour::with(slow)).await;
    site.settings.limits.concurrency = ConcurrencyLimits { per_destination: 1, total: 1, initial: 1 };
    for _ in 0..5 {
        site.accept("from@example.test", &["a@example.test"]).await;
    }
    site.start();
    assert!(sink.wait_for(|tally| tally.connections == 1, PATIENCE).await);
    site.queue.drain();
    site.delivery().drain(PATIENCE).await;
    let delivered = sink.tally().deliveries;
    assert!(delivered <= 2, "what ran is finished, the rest stays: {delivered}");
    let id = site.queue.id().clone();
    site.queue.release().await;
    let next = open(site.spool.path(), "b", None).await;
    let balance = next.books(queue_format::books::Books::balance).unwrap();
    assert_eq!(
        (balance.totals.delivered, balance.queued, balance.totals.in_doubt),
        (delivered, 5 - delivered, 0),
        "{id}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_grace_a_slow_peer_is_dropped_before_its_final_dot() {
    let slow = Rule::at(Stage::Data).after(Duration::from_mins(1));
    let extensions = Extensions { chunking: false, ..Extensions::default() };
    let (mut site, sink) =
        Site::with_sink(Behaviour { rules: vec![slow], extensions, ..Behaviour::default() }).await;
    site.start();
    site.accept("from@example.test", &["a@example.test"]).await;
    assert!(sink.wait_for(|tally| tally.connections == 1, PATIENCE).await);
    let begun = SystemClock.now();
    site.delivery().drain(Duration::from_millis(300)).await;
    assert!(SystemClock.now().since(begun) < Duration::from_secs(5));
    let balance = site.until("deferred", |_| site.counters.deferred.read() == 1).await;
    assert_eq!((balance.queued, balance.totals.in_doubt, sink.tally().deliveries), (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_owner_sends_no_final_dot() {
    let slow = Rule::at(Stage::Data).after(Duration::from_secs(2)).first(1);
    let extensions = Extensions { chunking: false, ..Extensions::default() };
    let (mut site, sink) =
        Site::with_sink(Behaviour { rules: vec![slow], extensions, ..Behaviour::default() }).await;
    site.start();
    site.accept("from@example.test", &["a@example.test"]).await;
    assert!(sink.wait_for(|tally| tally.connections == 1, PATIENCE).await);
    let open_attempts = || site.queue.books(|books| books.open_attempts().count());
    site.until("begun", |_| open_attempts() == Some(1)).await;
    let order = Order { expected: Epoch(1), reason: Reason::Forced };
    let taken = open(site.spool.path(), "b", Some(order)).await;
    let mut state = site.queue.state();
    assert!(tokio::time::timeout(PATIENCE, state.wait_for(|s| *s == State::Fenced)).await.is_ok());
    // Delivery is not told: the question before the final dot is enough. Draining waits for the transaction's end.
    site.delivery().drain(PATIENCE).await;
    assert_eq!(sink.tally().deliveries, 0, "the fenced owner sent it all the same");
    let balance = taken.books(queue_format::books::Books::balance).unwrap();
    assert_eq!((balance.queued, balance.totals.delivered), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_peer_cannot_take_is_returned() {
    let extensions = Extensions { size_max_bytes: Some(100), smtp_utf8: false, ..Extensions::default() };
    let (mut site, sink) = Site::with_sink(Behaviour { extensions, ..Behaviour::default() }).await;
    site.start();
    let big = [b"Subject: x\r\n\r\n".as_slice(), &b"0123456789\r\n".repeat(20)].concat();
    site.accept_at(&envelope("", &["a@example.test"]), &big, SystemClock.wall()).await;
    site.accept("", &["jürgen@example.test"]).await;
    let balance = site.until("returned", |b| b.totals.bounced == 2).await;
    assert_eq!((balance.queued, sink.tally().deliveries), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_needs_8bitmime_or_smtputf8_is_returned_where_they_are_not_offered() {
    let extensions = Extensions { eight_bit_mime: false, smtp_utf8: false, ..Extensions::default() };
    let (mut site, sink) = Site::with_sink(Behaviour { extensions, ..Behaviour::default() }).await;
    site.start();
    let mut asking = envelope("", &["a@example.test"]);
    (asking.body, asking.smtputf8) = (BodyType::EightBitMime, true);
    site.accept_at(&asking, BODY, SystemClock.wall()).await;
    took(&sink, 1).await;
    site.accept_at(&asking, "Subject: x\r\n\r\nf\u{fc}r\r\n".as_bytes(), SystemClock.wall()).await;
    site.accept_at(&asking, "Subject: f\u{fc}r\r\n\r\nx\r\n".as_bytes(), SystemClock.wall()).await;
    let balance = site.until("returned", |b| b.totals.bounced == 2).await;
    assert_eq!((balance.queued, balance.totals.delivered), (0, 1));
    site.settings.delivery.eight_bit = EightBit::Send;
    site.live.store(Arc::new(site.settings.clone()));
    asking.smtputf8 = false;
    site.delivery().drain(PATIENCE).await;
    site.start();
    site.accept_at(&asking, "Subject: x\r\n\r\nf\u{fc}r\r\n".as_bytes(), SystemClock.wall()).await;
    took(&sink, 2).await;
    site.until("delivered", |b| b.totals.delivered == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_content_is_held_and_never_delivered() {
    let (mut site, sink) = Site::with_sink(Behaviour::default()).await;
    let marked = b"Subject: x\r\n\r\nUNMISTAKABLE\r\n";
    let key =
        site.accept_at(&envelope("from@example.test", &["a@example.test"]), marked, SystemClock.wall()).await;
    flip(&site.spool.path().join("a/segments"), b"UNMISTAKABLE");
    site.start();
    let begun = SystemClock.now();
    let held = || {
        let state = |books: &queue_format::books::Books| Some(books.message(key)?.standings.first()?.state);
        site.queue.books(state).flatten() == Some(queue_format::record::RecipientState::Held)
    };
    while !held() {
        assert!(SystemClock.now().since(begun) < PATIENCE, "never held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(sink.tally().connections, 0);
}

/// Damages one byte of `mark` on disk.
fn flip(segments: &Path, mark: &[u8]) {
    for file in std::fs::read_dir(segments).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(mark.len()).position(|w| w == mark) {
            *bytes.get_mut(at).unwrap() ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("the mark is in no segment");
}
