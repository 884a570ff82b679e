//! What senders are told, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use daemon_kit::clock::SystemClock;
use mail_model::{Clock, Notify, Recipient};
use queue_format::record::RecipientState;
use rig::{Behaviour, Extensions, Rule, Sink, Stage};
use routing::tables::{self, Slot};
use routing::{Tables, recipient};
use settings::DoubleBounce;

use crate::site::{BODY, PATIENCE, Site, envelope, mailbox, took};

fn asked(address: &str) -> Recipient {
    let notify = Some(Notify { success: true, failure: true, delay: false });
    Recipient { notify, ..Recipient::plain(mailbox(address)) }
}

fn notice(sink: &Sink) -> String {
    let found = sink.deliveries().into_iter().find(|delivery| delivery.reverse_path.is_empty()).unwrap();
    String::from_utf8(found.content.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn success_is_reported_by_us_where_the_next_host_does_not_offer_to() {
    let extensions = Extensions { dsn: false, ..Extensions::default() };
    let (mut site, sink) = Site::with_sink(Behaviour { extensions, ..Behaviour::default() }).await;
    site.start();
    let mut message = envelope("from@example.test", &["quiet@example.test"]);
    message.recipients.push(asked("to@example.test"));
    message.envid = Some("QQ7".into());
    site.accept_at(&message, BODY, SystemClock.wall()).await;
    took(&sink, 2).await;
    let balance = site.until("told", |b| b.queued == 0).await;
    assert_eq!((balance.totals.accepted, balance.totals.delivered, balance.totals.generated), (2, 3, 1));
    let text = notice(&sink);
    for wanted in [
        "Subject: Successful mail delivery report\r\n",
        "Original-Envelope-Id: QQ7\r\n",
        "Final-Recipient: rfc822;to@example.test\r\nAction: relayed\r\nStatus: 2.",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    assert!(!text.contains("quiet@") && !text.contains("bye"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_offers_to_report_success_is_asked_to_and_we_say_nothing() {
    let (mut site, _sink) = Site::with_sink(Behaviour::default()).await;
    site.start();
    let mut message = envelope("from@example.test", &[]);
    message.recipients.push(asked("to@example.test"));
    site.accept_at(&message, BODY, SystemClock.wall()).await;
    let balance = site.until("delivered", |b| b.queued == 0).await;
    assert_eq!((balance.totals.delivered, balance.totals.generated), (1, 0));
}

/// As it is queued when `team@example.test` stands for three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_stands_for_several_addresses_success_is_told_once_whatever_the_next_host_offers() {
    for dsn in [true, false] {
        let extensions = Extensions { dsn, ..Extensions::default() };
        let (mut site, sink) = Site::with_sink(Behaviour { extensions, ..Behaviour::default() }).await;
        site.start();
        let aliases = "team@example.test a@example.test, b@example.test, c@example.test\n";
        let tables = Tables {
            aliases: Slot::Loaded(Arc::new(tables::read_aliases(aliases).unwrap())),
            ..Tables::default()
        };
        let mut message = envelope("from@example.test", &[]);
        message.recipients = recipient::expand(&tables, vec![asked("team@example.test")]).unwrap();
        assert_eq!(message.recipients.len(), 3);
        site.accept_at(&message, BODY, SystemClock.wall()).await;
        took(&sink, 2).await;
        let balance = site.until("told", |b| b.queued == 0).await;
        assert_eq!((balance.totals.delivered, balance.totals.generated), (4, 1), "dsn {dsn}");
        let text = notice(&sink);
        let wanted = "Original-Recipient: rfc822;team@example.test\r\nFinal-Recipient: rfc822;team@example.test\r\n\
                      Action: expanded\r\nStatus: 2.";
        assert!(text.contains(wanted) && !text.contains("a@example.test"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_is_told_once_that_its_message_waits_and_what_waits_goes_on() {
    let rules = vec![Rule::at(Stage::Recipient).for_local_part("slow*").reply(450, "4.2.1 mailbox busy")];
    let (mut site, sink) = Site::with_sink(Behaviour { rules, ..Behaviour::default() }).await;
    site.settings.bounces.warn = Some(Duration::from_hours(1));
    site.settings.retry.lifetime = Duration::from_hours(2);
    let received = mail_model::WallTime(SystemClock.wall().0 - 3_600_000);
    let mut message = envelope("from@example.test", &["slow@example.test"]);
    let silent = Notify { success: false, failure: true, delay: false };
    let silent = Recipient { notify: Some(silent), ..Recipient::plain(mailbox("slowly@example.test")) };
    message.recipients.push(silent);
    let key = site.accept_at(&message, BODY, received).await;
    site.start();
    took(&sink, 1).await;
    site.until("told", |b| b.totals.delivered == 1).await;
    let text = notice(&sink);
    for wanted in [
        "Subject: Delayed mail (still being tried)\r\n",
        "Final-Recipient: rfc822;slow@example.test\r\nAction: delayed\r\nStatus: 4.",
        "Will-Retry-Until: ",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    assert!(!text.contains("slowly@"), "{text}");
    // A new owner knows that it was said, and delivers when it can.
    site.delivery().stop().await;
    sink.behave(Behaviour::default());
    site.start();
    let balance = site.until("delivered", |b| b.queued == 0).await;
    assert_eq!((balance.totals.generated, balance.totals.delivered), (1, 3));
    assert!(site.queue.books(|books| books.message(key).is_none()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_without_a_sender_that_fails_is_set_aside_or_goes_to_the_postmaster_as_it_is_set() {
    let rules = vec![Rule::at(Stage::Recipient).for_local_part("no*").reply(550, "5.1.1 no such user")];
    let (mut site, sink) = Site::with_sink(Behaviour { rules, ..Behaviour::default() }).await;
    site.settings.bounces.double = DoubleBounce::Hold;
    site.start();
    let key = site.accept("", &["nobody@example.test"]).await;
    let begun = SystemClock.now();
    let state = || site.queue.books(|books| Some(books.message(key)?.standings.first()?.state)).flatten();
    while state() != Some(RecipientState::Held) {
        assert!(SystemClock.now().since(begun) < PATIENCE, "never held: {:?}", state());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(site.counters.double_bounces.read(), 1);
    site.settings.bounces.double = DoubleBounce::Postmaster;
    site.settings.bounces.postmaster = mailbox("chief@example.test");
    site.live.store(std::sync::Arc::new(site.settings.clone()));
    site.accept("", &["nobody@example.test"]).await;
    took(&sink, 1).await;
    let told = sink.deliveries().remove(0);
    assert_eq!(told.recipients, ["chief@example.test"]);
    // And when the postmaster is not there either, it ends.
    site.settings.bounces.postmaster = mailbox("nochief@example.test");
    site.live.store(std::sync::Arc::new(site.settings.clone()));
    site.accept("", &["none@example.test"]).await;
    let balance = site.until("ended", |b| b.totals.bounced == 3).await;
    assert_eq!((balance.totals.generated, balance.queued), (2, 1));
}

/// With one transaction at a time toward the destination, and notifications there that each take long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_never_waits_for_notifications_to_the_same_destination() {
    let slow = Rule::at(Stage::Recipient).for_local_part("slow*").after(Duration::from_secs(2));
    let (mut site, sink) = Site::with_sink(Behaviour { rules: vec![slow], ..Behaviour::default() }).await;
    site.settings.limits.concurrency.per_destination = 1;
    for n in 0..8 {
        site.accept("", &[&format!("slow{n}@example.test")]).await;
    }
    site.start();
    assert!(sink.wait_for(|tally| tally.connections >= 1, PATIENCE).await);
    for n in 0..5 {
        site.accept("from@example.test", &[&format!("fast{n}@example.test")]).await;
    }
    took(&sink, 5).await;
    let first: Vec<String> = sink.deliveries().into_iter().take(5).map(|d| d.reverse_path).collect();
    let mail = first.iter().filter(|path| !path.is_empty()).count();
    assert!(mail >= 4, "{first:?}");
}
