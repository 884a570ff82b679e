//! The generator and the sink that only count, against each other and against the careful ones.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use rig::{Behaviour, Drain, Flood, Rule, Sink, SinkOptions, Stage};

const PATIENCE: Duration = Duration::from_secs(20);

fn flood(target: SocketAddr, messages_per_connection: u32) -> Flood {
    Flood {
        target,
        sessions: 5,
        messages_per_connection,
        message_size_bytes: 4096,
        time: PATIENCE,
        total: Some(57),
        rate: None,
        recipient: Flood::RECIPIENT.to_owned(),
    }
}

#[tokio::test]
async fn what_is_accepted_is_counted_on_both_ends() {
    let drain = Drain::start(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    for messages_per_connection in [1, 7, 1000] {
        drain.reset();
        let flooded = flood(drain.address(), messages_per_connection).run().await;
        assert_eq!((flooded.accepted, flooded.failed), (57, 0), "{:?}", flooded.first_failure);
        assert!(drain.wait_for(57, PATIENCE).await);
        assert_eq!((drain.messages(), flooded.answers_us.len()), (57, 57));
    }
}

#[tokio::test]
async fn it_speaks_the_protocol_without_a_fault() {
    let sink = Sink::start(SinkOptions::new(common::clock())).unwrap();
    let flooded = flood(sink.address(), 10).run().await;
    assert_eq!((flooded.accepted, sink.tally().deliveries), (57, 57));
    assert_eq!(sink.violations(), []);
}

#[tokio::test]
async fn a_refusal_is_a_failure_and_is_named() {
    let mut options = SinkOptions::new(common::clock());
    let refuse = Rule::at(Stage::FinalDot).reply(452, "4.3.1 no room");
    options.behaviour = Behaviour { rules: vec![refuse], ..Behaviour::default() };
    let sink = Sink::start(options).unwrap();
    let flooded = flood(sink.address(), 10).run().await;
    assert_eq!((flooded.accepted, flooded.failed), (0, 57));
    assert_eq!(flooded.first_failure.as_deref(), Some("452 4.3.1 no room"));
}
