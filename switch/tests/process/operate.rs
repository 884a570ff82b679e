//! Operators' verbs: what they do at once, and what of it is still so after a crash.

use std::time::Duration;

use control::switch::{Answer, OPERATE_MESSAGES_MAX, Operated, Request, Verb};
use mail_model::MessageId;
use queue_format::record::RecipientState;
use rig::{Behaviour, Rule, Sink, SinkOptions, Stage};
use rustix::process::Signal;

use crate::site::{Config, PATIENCE, Site, begin, clock, key, send_to, until};

/// Sends a message. Its id.
async fn send(site: &Site) -> MessageId {
    let mut client = site.client().await;
    begin(&mut client).await;
    client.send("Subject: x\r\n\r\ntext\r\n.\r\n").await.unwrap();
    let reply = client.reply().await.unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    reply.text().rsplit(' ').next().unwrap().parse().unwrap()
}

async fn operate(site: &Site, verb: Verb, messages: &[&MessageId]) -> Operated {
    let messages = messages.iter().map(|id| (*id).clone()).collect();
    let reason = "ann@host.test: a test".to_owned();
    match site.ask(Request::Operate { verb, messages, reason, to: None }).await.unwrap() {
        Answer::Operated(operated) => operated,
        other @ (Answer::Status(_)
        | Answer::Ready(_)
        | Answer::Done { .. }
        | Answer::Traced(_)
        | Answer::Metrics { .. }) => {
            unreachable!("{other:?}")
        }
    }
}

fn moved(count: u64) -> Operated {
    Operated { messages: count, recipients: count, absent: 0 }
}

/// Where its only recipient stands on disk, and the attempts that ended.
fn standing(site: &Site, id: &MessageId) -> Option<(RecipientState, u16)> {
    let found = site.inspect();
    let message = found.replay.books.message(key(&id.to_string()))?;
    message.standings.first().map(|standing| (standing.state, standing.attempts))
}

#[tokio::test(flavor = "multi_thread")]
async fn hold_delete_release_and_retry_act_at_once_and_survive_sigkill() {
    let site = Site::new(&Config::default());
    let mut switch = site.start_ready().await;
    let waiting = send(&site).await;
    // Its next attempt is a minute away from here on.
    until("it was tried", || standing(&site, &waiting).is_some_and(|(_, attempts)| attempts > 0)).await;
    let (held, deleted) = (send(&site).await, send(&site).await);
    assert_eq!(operate(&site, Verb::Hold, &[&held]).await, moved(1));
    assert_eq!(operate(&site, Verb::Delete, &[&deleted]).await, moved(1));
    switch.signal(Signal::KILL);
    switch.ended().await;

    let mut switch = site.start_ready().await;
    assert_eq!(standing(&site, &held).map(|(state, _)| state), Some(RecipientState::Held));
    assert_eq!(standing(&site, &deleted), None);
    let sink = Sink::start(SinkOptions { address: site.nowhere, ..SinkOptions::new(clock()) }).unwrap();
    let retried = operate(&site, Verb::Retry, &[&waiting, &held, &deleted]).await;
    assert_eq!(retried, Operated { absent: 1, ..moved(1) });
    assert!(sink.wait_for(|tally| tally.deliveries == 1, PATIENCE).await, "{:?}", sink.tally());
    until("its end is on disk", || standing(&site, &waiting).is_none()).await;
    assert_eq!(standing(&site, &held).map(|(state, _)| state), Some(RecipientState::Held));
    assert_eq!(operate(&site, Verb::Release, &[&held]).await, moved(1));
    assert!(sink.wait_for(|tally| tally.deliveries == 2, PATIENCE).await, "{:?}", sink.tally());

    switch.signal(Signal::TERM);
    assert_eq!(switch.ended().await, 0);
    let found = site.inspect();
    let (totals, balance) = (found.replay.books.totals(), found.replay.books.balance());
    assert!(balance.holds && found.replay.faults.is_empty(), "{balance:?} {:?}", found.replay.faults);
    assert_eq!((totals.delivered, totals.deleted, totals.queued()), (2, 1, Some(0)));
    assert_eq!(sink.deliveries().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_runs_is_not_torn_and_the_books_balance() {
    let slow = Rule::at(Stage::FinalDot).after(Duration::from_secs(2));
    let sink =
        Sink::start(SinkOptions { behaviour: Behaviour::with(slow), ..SinkOptions::new(clock()) }).unwrap();
    let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
    let mut switch = site.start_ready().await;
    let (held, deleted) = (send(&site).await, send(&site).await);
    until("both attempts run", || sink.tally().connections == 2).await;
    until("both attempts are durable", || site.inspect().replay.books.open_attempts().count() == 2).await;
    assert_eq!(operate(&site, Verb::Hold, &[&held]).await, moved(1));
    assert_eq!(operate(&site, Verb::Delete, &[&deleted]).await, moved(1));
    assert!(sink.wait_for(|tally| tally.deliveries == 2, PATIENCE).await, "{:?}", sink.tally());

    switch.signal(Signal::TERM);
    assert_eq!(switch.ended().await, 0);
    let found = site.inspect();
    let (totals, balance) = (found.replay.books.totals(), found.replay.books.balance());
    assert!(balance.holds && found.replay.faults.is_empty(), "{balance:?} {:?}", found.replay.faults);
    assert_eq!((totals.delivered, totals.deleted, totals.queued()), (1, 1, Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_queue_is_counted_apart_and_a_wrong_order_changes_nothing() {
    let site = Site::new(&Config::default());
    let _switch = site.start_ready().await;
    let id = send(&site).await;
    let elsewhere = MessageId { queue: "b".parse().unwrap(), ..id.clone() };
    let never = MessageId { sequence: 4_711, ..id.clone() };
    let operated = operate(&site, Verb::Hold, &[&elsewhere, &never, &id, &id]).await;
    assert_eq!(operated, Operated { absent: 2, ..moved(1) });
    assert_eq!(operate(&site, Verb::Hold, &[&id]).await, moved(0));

    let many = (1..).map(|sequence| MessageId { sequence, ..id.clone() }).take(OPERATE_MESSAGES_MAX + 1);
    let wrong = [
        (many.collect(), "ann@host.test: too many"),
        (vec![id.clone()], "two\nlines"),
        (vec![id.clone()], " "),
    ];
    for (messages, reason) in wrong {
        let request = Request::Operate { verb: Verb::Delete, messages, reason: reason.into(), to: None };
        match site.ask(request).await {
            Err(control::CallError::Fault(fault)) => assert_eq!(fault.code, control::Code::Invalid),
            other => unreachable!("{reason}: {other:?}"),
        }
    }
    assert_eq!(standing(&site, &id).map(|(state, _)| state), Some(RecipientState::Held));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_given_up_is_bounced_once_and_a_running_attempt_is_left_to_end() {
    let slow = Rule::at(Stage::FinalDot).after(Duration::from_secs(2));
    let sink =
        Sink::start(SinkOptions { behaviour: Behaviour::with(slow), ..SinkOptions::new(clock()) }).unwrap();
    let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
    let mut switch = site.start_ready().await;
    let running = send(&site).await;
    until("the attempt is durable", || site.inspect().replay.books.open_attempts().count() == 1).await;
    assert_eq!(operate(&site, Verb::Bounce, &[&running]).await, Operated::default());
    assert!(sink.wait_for(|tally| tally.deliveries == 1, PATIENCE).await, "{:?}", sink.tally());

    let held = send(&site).await;
    operate(&site, Verb::Hold, &[&held]).await;
    assert!(sink.wait_for(|tally| tally.deliveries == 2, PATIENCE).await, "the attempt that ran");
    let gone: MessageId = "a-1-fff".parse().unwrap();
    assert_eq!(operate(&site, Verb::Bounce, &[&gone]).await, Operated { absent: 1, ..Operated::default() });
    switch.signal(Signal::TERM);
    assert_eq!(switch.ended().await, 0);
    drop(sink);

    let site = Site::new(&Config::default());
    let mut switch = site.start_ready().await;
    let waiting = send(&site).await;
    until("it was tried", || standing(&site, &waiting).is_some_and(|(_, attempts)| attempts > 0)).await;
    assert_eq!(operate(&site, Verb::Bounce, &[&waiting]).await, moved(1));
    until("its bounce is made", || standing(&site, &waiting).is_none()).await;
    assert_eq!(
        operate(&site, Verb::Bounce, &[&waiting]).await,
        Operated { absent: 1, ..Operated::default() }
    );
    switch.signal(Signal::TERM);
    assert_eq!(switch.ended().await, 0);
    let found = site.inspect();
    let (totals, balance) = (found.replay.books.totals(), found.replay.books.balance());
    assert!(balance.holds && found.replay.faults.is_empty(), "{balance:?} {:?}", found.replay.faults);
    assert_eq!((totals.bounced, totals.generated, totals.queued()), (1, 1, Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirection_outlives_its_owner_and_leads_past_the_route() {
    let site = Site::new(&Config::default());
    let mut switch = site.start_ready().await;
    let id = send(&site).await;
    assert_eq!(operate(&site, Verb::Hold, &[&id]).await, moved(1));
    let sink = Sink::start(SinkOptions::new(clock())).unwrap();
    let redirect = |to: &str| Request::Operate {
        verb: Verb::Redirect,
        messages: vec![id.clone()],
        reason: "ann@host.test: a test".to_owned(),
        to: Some(to.to_owned()),
    };
    let refused = site.ask(redirect("not:a:hop")).await.unwrap_err().to_string();
    assert!(refused.contains("a:hop' is not a port"), "{refused}");
    assert!(matches!(site.ask(redirect(&sink.address().to_string())).await, Ok(Answer::Operated(_))));
    switch.signal(Signal::KILL);
    switch.ended().await;
    let _switch = site.start_ready().await;
    assert_eq!(standing(&site, &id).map(|(state, _)| state), Some(RecipientState::Held), "it stays held");
    assert_eq!(operate(&site, Verb::Release, &[&id]).await, moved(1));
    assert!(sink.wait_for(|tally| tally.deliveries == 1, PATIENCE).await, "{:?}", sink.tally());
    until("its end is on disk", || standing(&site, &id).is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_to_a_suspended_domain_until_it_is_over_and_a_restart_does_not_end_it() {
    let sink = Sink::start(SinkOptions::new(clock())).unwrap();
    let site = Site::new(&Config { next_hop: Some(sink.address()), ..Config::default() });
    let mut switch = site.start_ready().await;
    let reason = || "ann@host.test: a test".to_owned();
    let suspend = |domain: &str, for_ms| Request::Suspend { domain: domain.into(), for_ms, reason: reason() };
    assert!(site.ask(suspend("not a domain", 1)).await.is_err());
    let done = site.ask(suspend("example.test", 3_600_000)).await;
    assert!(matches!(done, Ok(Answer::Done { .. })), "{done:?}");
    for deliveries in [1, 2] {
        let both = ["a@example.test", "b@other.test"];
        assert_eq!(send_to(&site, &both).await.1.code, 250);
        assert!(sink.wait_for(|tally| tally.deliveries == deliveries, PATIENCE).await, "{}", switch.log());
        until("its end is on disk", || site.inspect().replay.books.totals().delivered == deliveries).await;
        switch.signal(Signal::KILL);
        switch.ended().await;
        switch = site.start_ready().await;
    }
    let others = |sink: &Sink| sink.deliveries().iter().all(|one| one.recipients == ["b@other.test"]);
    assert!(others(&sink));
    let resume = || Request::Unsuspend { domain: "example.test".into(), reason: reason() };
    assert!(matches!(site.ask(resume()).await, Ok(Answer::Done { .. })));
    assert!(sink.wait_for(|tally| tally.deliveries == 4, PATIENCE).await, "{}", switch.log());
    assert!(site.ask(resume()).await.is_err(), "it is over");
}
