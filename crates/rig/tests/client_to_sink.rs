//! The client speaks to the sink, without a relay between them: what one says it sent, the other must have seen.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

mod common;

use std::time::Duration;

use common::clock;
use rig::{Act, Balance, Behaviour, Dialogue, Extensions, Load, Probe, Rate, Rule, Sink, SinkOptions, Stage};

const PATIENCE: Duration = Duration::from_secs(20);

fn sink(behaviour: Behaviour) -> Sink {
    Sink::start(SinkOptions { behaviour, ..SinkOptions::new(clock()) }).unwrap()
}

/// Sends `total` messages as fast as they go and closes the books.
async fn send(sink: &Sink, total: u64, change: impl FnOnce(&mut Load)) -> (Balance, Vec<Probe>) {
    let mut load = Load::new(sink.address(), "run");
    (load.rate, load.total, load.sessions) = (Rate::Unlimited, Some(total), 4);
    load.patience.retry = Duration::from_millis(1);
    change(&mut load);
    let probes = load.start(clock()).finish(PATIENCE).await;
    assert_eq!(sink.violations(), []);
    (sink.inspect(|deliveries| Balance::close("run", &probes, deliveries)), probes)
}

#[tokio::test]
async fn all_that_was_accepted_is_at_the_sink_unharmed() {
    let sink = sink(Behaviour::default());
    let recipients = vec!["one@example.test".to_owned(), "two@example.test".to_owned()];
    let (balance, probes) = send(&sink, 300, |load| load.recipients = recipients).await;
    assert_eq!(balance, Balance { begun: 300, accepted: 300, delivered: 300, ..Balance::default() });
    assert!(probes.iter().all(|probe| probe.submissions == 1 && probe.first_submitted.is_some()));
    // 75 messages a session at 20 per connection, give or take how the sessions share.
    assert!(sink.tally().connections >= 15);
}

#[tokio::test]
async fn every_manner_of_server_is_served() {
    let plain = Extensions { pipelining: false, size_max_bytes: None, ..Extensions::default() };
    for behaviour in [
        Behaviour { extensions: plain.clone(), ..Behaviour::default() },
        Behaviour { helo_only: true, extensions: plain, ..Behaviour::default() },
        Behaviour { multi_line: true, ..Behaviour::default() },
    ] {
        let (balance, _) = send(&sink(behaviour), 30, |_| {}).await;
        assert_eq!(balance, Balance { begun: 30, accepted: 30, delivered: 30, ..Balance::default() });
    }
}

#[tokio::test]
async fn a_message_without_its_250_is_sent_until_it_has_it() {
    for stage in [Stage::Connect, Stage::Hello, Stage::Mail, Stage::Recipient, Stage::Data, Stage::FinalDot] {
        for act in [Act::Reply { code: 451, text: "4.3.0 later".to_owned() }, Act::Drop] {
            let cut_after_dot = stage == Stage::FinalDot && act == Act::Drop;
            let rule = Rule { act, ..Rule::at(stage).first(5) };
            let (balance, probes) = send(&sink(Behaviour::with(rule)), 20, |_| {}).await;
            assert_eq!(
                balance,
                Balance { begun: 20, accepted: 20, delivered: 20, ..Balance::default() },
                "{stage:?}"
            );
            let cuts: u32 = probes.iter().map(|probe| probe.cuts_after_dot).sum();
            assert_eq!(cuts, if cut_after_dot { 5 } else { 0 }, "{stage:?}");
        }
    }
}

#[tokio::test]
async fn what_was_taken_without_a_reply_is_counted_as_the_clients_retry() {
    let sink = sink(Behaviour::with(Rule::at(Stage::FinalDot).take_then_drop().first(3)));
    let (balance, probes) = send(&sink, 20, |_| {}).await;
    assert_eq!((balance.accepted, balance.delivered, balance.client_retries_delivered_twice), (20, 20, 3));
    assert!(balance.is_whole() && balance.duplicates == 0);
    assert_eq!(probes.iter().map(|probe| probe.cuts_after_dot).sum::<u32>(), 3);
}

#[tokio::test]
async fn a_refusal_for_good_is_not_tried_again() {
    let sink =
        sink(Behaviour::with(Rule::at(Stage::Recipient).reply(550, "5.1.1 nobody").for_local_part("no*")));
    let (balance, probes) =
        send(&sink, 10, |load| load.recipients = vec!["nobody@example.test".to_owned()]).await;
    assert_eq!((balance.refused, balance.accepted, balance.delivered), (10, 0, 0));
    assert!(
        probes
            .iter()
            .all(|probe| probe.submissions == 1 && probe.refused.as_deref() == Some("550 5.1.1 nobody"))
    );
}

#[tokio::test]
async fn a_reply_that_never_comes_is_given_up_and_counted_in_doubt() {
    let hour = Duration::from_hours(1);
    let sink = sink(Behaviour::with(Rule::at(Stage::FinalDot).after(hour).first(1)));
    let (balance, probes) = send(&sink, 1, |load| load.patience.reply = Duration::from_millis(100)).await;
    assert_eq!((balance.accepted, probes[0].submissions, probes[0].cuts_after_dot), (1, 2, 1));
}

#[tokio::test]
async fn a_run_keeps_its_rate_and_stops_when_told() {
    let sink = sink(Behaviour::default());
    let mut load = Load::new(sink.address(), "run");
    load.rate = Rate::PerSecond(200);
    let run = load.start(clock());
    assert!(sink.wait_for(|tally| tally.probes >= 40, PATIENCE).await);
    run.stop();
    let probes = run.finish(PATIENCE).await;
    let moments: Vec<u64> = probes.iter().filter_map(|probe| Some(probe.first_submitted?.0)).collect();
    let (first, last) = (moments.iter().min().unwrap(), moments.iter().max().unwrap());
    // 40 messages at 5 ms. Slower is the machine's fault, faster would be the client's.
    assert!(last - first >= 180, "{} messages in {} ms", moments.len(), last - first);
    assert!(sink.inspect(|deliveries| Balance::close("run", &probes, deliveries)).is_whole());
}

#[tokio::test]
async fn one_seed_sends_the_same_bytes_and_they_can_be_kept() {
    let options = SinkOptions { keep_bytes_max: 1 << 20, ..SinkOptions::new(clock()) };
    let sink = Sink::start(options).unwrap();
    send(&sink, 1, |load| (load.seed, load.message_size_bytes) = (9, 50_000)).await;
    let plain = rig::Content::new("run", "probe@client.test", 9, 50_000).plain(1);
    assert_eq!(sink.deliveries()[0].content.as_deref(), Some(plain.as_slice()));
}

#[tokio::test]
async fn behaviour_changes_within_a_session() {
    let sink = sink(Behaviour::default());
    let mut dialogue = Dialogue::connect(sink.address(), PATIENCE).await.unwrap();
    assert_eq!(dialogue.reply().await.unwrap().code, 220);
    assert_eq!(dialogue.command("EHLO c").await.unwrap().code, 250);
    sink.behave(Behaviour::with(Rule::at(Stage::Mail).reply(421, "4.3.2 going down")));
    assert_eq!(dialogue.command("MAIL FROM:<>").await.unwrap().code, 421);
    dialogue.closed().await.unwrap();
}

#[tokio::test]
async fn a_stopped_sink_cuts_its_sessions_and_keeps_its_records() {
    let sink = sink(Behaviour::default());
    send(&sink, 5, |_| {}).await;
    let mut dialogue = Dialogue::connect(sink.address(), PATIENCE).await.unwrap();
    dialogue.reply().await.unwrap();
    sink.stop().await;
    dialogue.closed().await.unwrap();
    assert!(Dialogue::connect(sink.address(), PATIENCE).await.is_err());
    assert_eq!(sink.deliveries().len(), 5);
    // Another can take its place at once.
    let options = SinkOptions { address: sink.address(), ..SinkOptions::new(clock()) };
    assert!(Sink::start(options).is_ok());
}

#[tokio::test]
async fn violations_name_the_client_and_the_breach() {
    let sink = sink(Behaviour::default());
    let mut dialogue = Dialogue::connect(sink.address(), PATIENCE).await.unwrap();
    dialogue.send("EHLO c\n").await.unwrap();
    assert_eq!(dialogue.reply().await.unwrap().code, 220);
    assert_eq!(dialogue.reply().await.unwrap().code, 500);
    dialogue.send("EHL").await.unwrap();
    dialogue.half_close().await.unwrap();
    dialogue.closed().await.unwrap();
    let what: Vec<_> = sink.violations().iter().map(|violation| violation.what).collect();
    assert_eq!(what, ["a command line that ends in a bare LF", "closed within a command line"]);
}
