//! A queue directory that version 1 wrote, and that every later reader must take for the same queue.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cluster::instance::State;
use mail_model::{Epoch, Reply, WallTime};
use queue_format::record::{
    Content, Failure, MessageKey, MessageRecord, OperateRecord, OutcomeGroup, OutcomeRecord, Settles, Told,
    Verb, Verdict,
};
use queue_store::inspect::{self, Depth, Inspection};
use queue_store::{Queue, QueueOptions};

use crate::drive::{message, options, started};
use crate::model::content;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../queue-format/golden/v1")
}

/// The books in words.
fn told(seen: &Inspection) -> String {
    let books = &seen.replay.books;
    let mut text = String::new();
    writeln!(text, "{:?}", books.balance()).unwrap();
    writeln!(text, "faults {:?}, late frames {}", seen.replay.faults, seen.replay.late_frames).unwrap();
    for doubt in books.doubts().chain(books.open_attempts()) {
        writeln!(text, "{doubt:?}").unwrap();
    }
    let mut messages: Vec<_> = books.messages().collect();
    messages.sort_by_key(|(key, _)| *key);
    for (key, message) in messages {
        let mut reader = seen.content(key).unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = reader.next_piece() {
            bytes.extend_from_slice(&piece.unwrap());
        }
        let whole = bytes == content(key, bytes.len());
        writeln!(text, "{key:?}: {} bytes, whole: {whole}, {:?}", message.size, message.standings).unwrap();
    }
    text
}

fn seen(dir: &Path) -> Inspection {
    inspect::inspect(dir, "test", &"a".parse().unwrap(), Depth::Everything).unwrap()
}

#[test]
fn a_queue_of_version_1_reads_back_to_the_same_books() {
    let wanted = std::fs::read_to_string(golden().join("books.txt")).unwrap();
    assert_eq!(told(&seen(&golden().join("queue"))), wanted);
}

pub(crate) async fn accept(queue: &Queue, recipients: u16, len: usize) -> MessageKey {
    let key = queue.next_key();
    let body = Bytes::from(content(key, len));
    queue.accept(message(key, recipients, len, Content::Inline), body).await.unwrap();
    key
}

pub(crate) async fn settle(queue: &Queue, message: MessageKey, recipient: u16, verdict: Verdict) {
    let number = queue.begin_attempt(message, vec![recipient], "hop:25".into(), WallTime(5)).await.unwrap();
    let reply = Some(Reply { code: 450, enhanced: None, text: "later".into() });
    let groups = vec![OutcomeGroup { verdict, reply, recipients: vec![recipient] }];
    let attempt = Some((queue.epoch(), number));
    queue.settle(OutcomeRecord { message, attempt, at: WallTime(6), groups }).await.unwrap();
}

/// Nearly every kind of record and standing, three segments and two owners.
async fn fill(queue: &Queue) {
    let failed = Verdict::Failed { how: Failure::Bounced, owed: true };
    let mixed = accept(queue, 6, 300).await;
    settle(queue, mixed, 0, Verdict::Delivered).await;
    settle(queue, mixed, 1, Verdict::Deferred { due: WallTime(9_000) }).await;
    settle(queue, mixed, 2, failed).await;
    settle(queue, mixed, 3, Verdict::Failed { how: Failure::Expired, owed: false }).await;
    for (verb, recipient) in [(Verb::Hold, 4), (Verb::Delete, 5)] {
        let by = "root: test".to_owned();
        let recipients = vec![recipient];
        queue
            .operate(OperateRecord { message: mixed, verb, recipients, at: WallTime(7), by, to: None })
            .await
            .unwrap();
    }
    let refused = accept(queue, 1, 10).await;
    settle(queue, refused, 0, failed).await;
    let key = queue.next_key();
    let settles = Some(Settles { message: refused, recipients: vec![(0, Told::Failed(Failure::Bounced))] });
    let bounce = MessageRecord { settles, ..message(key, 1, 40, Content::Inline) };
    queue.accept(bounce, Bytes::from(content(key, 40))).await.unwrap();
    let large = queue.next_key();
    let body = Bytes::from(content(large, 2_000));
    let mut chunks = Vec::new();
    for piece in [body.slice(..1_500), body.slice(1_500..)] {
        chunks.push(queue.append_chunk(large, piece).await.unwrap());
    }
    queue.accept(message(large, 1, 2_000, Content::Chunks(chunks)), Bytes::new()).await.unwrap();
    queue.replied(large);
    for _ in 0..8 {
        let done = accept(queue, 1, 900).await;
        settle(queue, done, 0, Verdict::Delivered).await;
    }
    let open = accept(queue, 1, 20).await;
    queue.begin_attempt(open, vec![0], "hop:25".into(), WallTime(5)).await.unwrap();
}

/// Makes the golden directory anew, for a new version only: `QUEUE_GOLDEN=DIR cargo nextest run -p queue-store golden`.
#[tokio::test(flavor = "current_thread")]
async fn a_queue_for_a_golden_directory_can_be_made() {
    let scratch = crate::model::scratch();
    let dir = std::env::var("QUEUE_GOLDEN").map_or_else(|_| scratch.path().to_owned(), PathBuf::from);
    for life in 0..2 {
        let small = QueueOptions { segment_size: 8 << 10, ..options(&dir.join("queue"), Epoch(life)) };
        let queue = Queue::open(small).unwrap();
        assert_eq!(started(&queue, || false).await, State::Active);
        if life == 0 {
            fill(&queue).await;
        } else {
            queue.drain();
            queue.release().await;
        }
    }
    let made = seen(&dir.join("queue"));
    assert_eq!(made.replay.faults, []);
    std::fs::write(dir.join("books.txt"), told(&made)).unwrap();
}
