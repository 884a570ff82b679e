//! What becomes of mail of which nobody knows whether it arrived, and of mail that may be what crashes its owner.

use std::time::Duration;

use cluster::instance::{Order, State};
use daemon_kit::clock::SystemClock;
use mail_model::{Clock, Reason, WallTime};
use queue_format::books::Standing;
use queue_format::record::{MessageKey, OperateRecord, RecipientState, Verb};
use queue_store::Queue;
use rig::{Behaviour, Rule, Stage};
use routing::{InDoubt, Routes};

use crate::site::{PATIENCE, Site, open, took};

fn in_doubt(site: &mut Site, policy: InDoubt) {
    let routes = site.settings.routes.iter().cloned().map(|mut route| {
        route.target = route.target.with_in_doubt(policy);
        route
    });
    site.settings.routes = Routes::new(routes.collect());
}

fn standing(queue: &Queue, key: MessageKey) -> Option<Standing> {
    queue.books(|books| books.message(key)?.standings.first().cloned()).flatten()
}

async fn until_held(queue: &Queue, key: MessageKey) {
    let begun = SystemClock.now();
    while standing(queue, key).is_none_or(|standing| standing.state != RecipientState::Held) {
        assert!(SystemClock.now().since(begun) < PATIENCE, "never held: {:?}", standing(queue, key));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The next owner of its queue, which did not end in order.
async fn crash(site: &mut Site) {
    let epoch = site.queue.epoch();
    let owner = if epoch.0 % 2 == 1 { "b" } else { "c" };
    let order = Order { expected: epoch, reason: Reason::Forced };
    let taken = open(site.spool.path(), owner, Some(order)).await;
    let mut state = site.queue.state();
    assert!(tokio::time::timeout(PATIENCE, state.wait_for(|s| *s == State::Fenced)).await.is_ok());
    site.queue = taken;
}

async fn begin(site: &Site, key: MessageKey) {
    site.queue.begin_attempt(key, vec![0], "hop".into(), WallTime(1)).await.unwrap();
}

async fn release(site: &Site, key: MessageKey) {
    let (verb, at, by) = (Verb::Release, WallTime(2), "test".to_owned());
    let record = OperateRecord { message: key, verb, recipients: vec![0], at, by, to: None };
    site.queue.operate(record).await.unwrap();
    site.delivery().notice(key);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_in_flight_at_three_crashes_in_a_row_is_held_by_whoever_has_the_queue_then() {
    let (mut site, sink) = Site::with_sink(Behaviour::default()).await;
    let poison = site.accept("from@example.test", &["poison@example.test"]).await;
    let usual = site.accept("from@example.test", &["usual@example.test"]).await;
    for crashes in 1..=3 {
        begin(&site, poison).await;
        if crashes < 3 {
            begin(&site, usual).await;
        }
        crash(&mut site).await;
        assert_eq!(standing(&site.queue, poison).unwrap().crashes, crashes);
    }
    site.start();
    until_held(&site.queue, poison).await;
    took(&sink, 1).await;
    site.until("delivered", |b| b.totals.delivered == 1).await;
    assert_eq!(sink.deliveries().remove(0).recipients, ["usual@example.test"]);
    // A person looked at it.
    release(&site, poison).await;
    took(&sink, 2).await;
    site.until("delivered", |b| b.queued == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doubt_is_held_where_the_route_says_so_whoever_has_the_queue_and_goes_again_when_released() {
    let (mut site, sink) = Site::with_sink(Behaviour::default()).await;
    in_doubt(&mut site, InDoubt::Hold);
    let key = site.accept("from@example.test", &["a@example.test"]).await;
    begin(&site, key).await;
    crash(&mut site).await;
    site.start();
    until_held(&site.queue, key).await;
    assert_eq!((sink.tally().connections, site.balance().totals.in_doubt), (0, 1));
    release(&site, key).await;
    took(&sink, 1).await;
    site.until("delivered", |b| b.queued == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_doubt_too_and_is_told_where_the_route_says_bounce() {
    let rule = Rule::at(Stage::FinalDot).take_then_drop().first(1);
    let (mut site, sink) = Site::with_sink(Behaviour::with(rule)).await;
    in_doubt(&mut site, InDoubt::Bounce);
    site.start();
    site.accept("from@example.test", &["a@example.test"]).await;
    took(&sink, 2).await;
    let balance = site.until("told", |b| b.queued == 0).await;
    let totals = balance.totals;
    assert_eq!((totals.in_doubt, totals.bounced, totals.delivered, totals.generated), (1, 1, 1, 1));
    let text = String::from_utf8(sink.deliveries().remove(1).content.unwrap()).unwrap();
    assert!(text.contains("Status: 5.4.2\r\n"), "{text}");
}
