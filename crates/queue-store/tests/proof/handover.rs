//! What was handed over under a name is known for as long as it may be repeated, whoever owns the queue.

use std::time::Duration;

use bytes::Bytes;
use cluster::instance::State;
use mail_model::Epoch;
use queue_format::record::{Content, Handover, MessageKey, MessageRecord, Verdict};
use queue_store::{Queue, QueueOptions};

use crate::drive::{message, options, started};
use crate::golden::{accept, settle};

async fn owner(dir: &std::path::Path, expected: u64) -> Queue {
    let small = QueueOptions { segment_size: 8 << 10, ..options(dir, Epoch(expected)) };
    let queue = Queue::open(small).unwrap();
    assert_eq!(started(&queue, || false).await, State::Active);
    queue
}

fn known(queue: &Queue) -> Option<Vec<MessageKey>> {
    queue.books(|books| books.handed_over("x").map(|(key, _)| key).collect())
}

#[tokio::test(flavor = "current_thread")]
async fn a_name_outlives_its_message_and_its_segment_until_it_is_over() {
    let scratch = crate::model::scratch();
    let dir = scratch.path().join("queue");
    let queue = owner(&dir, 0).await;
    let key = queue.next_key();
    let handover = Handover {
        id: "x".into(),
        sender: "from@example.test".into(),
        octets: 2,
        crc: 7,
        recipients: vec!["to0@example.test".into(), "to1@example.test".into()].into(),
    };
    let record =
        MessageRecord { handover: Some(Box::new(handover.clone())), ..message(key, 1, 2, Content::Inline) };
    queue.accept(record, Bytes::from_static(b"hi")).await.unwrap();
    settle(&queue, key, 0, Verdict::Delivered).await;
    let mut filled = 0;
    while queue.books(|books| books.first_live().number).unwrap() == 0 {
        filled += 1;
        assert!(filled < 500, "its segment is never removed");
        let done = accept(&queue, 1, 900).await;
        settle(&queue, done, 0, Verdict::Delivered).await;
    }
    assert_eq!(known(&queue), Some(vec![key]));

    let queue = owner(&dir, 1).await;
    assert_eq!(known(&queue), Some(vec![key]));
    let same = queue.books(|books| books.handed_over("x").all(|(_, kept)| *kept == handover));
    assert_eq!(same, Some(true));
    queue.forget(key);
    for _ in 0..100 {
        accept(&queue, 1, 10).await;
        if known(&queue) == Some(vec![]) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(known(&queue), Some(vec![]));
    assert_eq!(queue.books(|books| (books.handovers(), books.handovers_weight())), Some((0, 0)));
    let queue = owner(&dir, 2).await;
    assert_eq!(known(&queue), Some(vec![]));
}
