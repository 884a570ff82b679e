//! A taker whose first frames were torn: its SEGMENT is on the disk, its SEAL is not.

use std::path::Path;

use bytes::Bytes;
use cluster::instance::State;
use mail_model::{Epoch, SegmentId, WallTime};
use queue_format::names::{lease_file, segment_file};
use queue_format::record::Content;
use queue_store::Queue;
use queue_store::inspect::{self, Depth};

use crate::damage::copy;
use crate::drive::{message, options, started};
use crate::model::{content, scratch};

async fn taken(dir: &Path, expected: Epoch) -> Queue {
    let queue = Queue::open(options(dir, expected)).unwrap();
    assert_eq!(started(&queue, || false).await, State::Active);
    queue
}

/// The third epoch scanned before the second wrote that an attempt is in doubt, and died before its SEAL was durable. So
/// nobody sealed the second, what it wrote counts, and the third's older sums must not replace it.
#[tokio::test(flavor = "current_thread")]
async fn the_sums_of_a_taker_that_sealed_nothing_do_not_count() {
    let spool = scratch();
    let (dir, other) = (spool.path().join("queue"), spool.path().join("as the third saw it"));
    let first = taken(&dir, Epoch(0)).await;
    let key = first.next_key();
    let record = message(key, 1, 100, Content::Inline);
    first.accept(record, Bytes::from(content(key, 100))).await.unwrap();
    first.begin_attempt(key, vec![0], "hop".into(), WallTime(1)).await.unwrap();
    drop(first);
    copy(&dir, &other);

    let second = taken(&dir, Epoch(1)).await;
    assert_eq!(second.books(|books| books.totals().in_doubt), Some(1));
    drop(second);
    let lease = |epoch| Path::new("lease").join(lease_file(Epoch(epoch)));
    std::fs::copy(dir.join(lease(2)), other.join(lease(2))).unwrap();
    drop(taken(&other, Epoch(2)).await);

    let torn = Path::new("segments").join(segment_file(SegmentId { epoch: Epoch(3), number: 0 }));
    let bytes = std::fs::read(other.join(&torn)).unwrap();
    let head = usize::try_from(queue_format::frame::peek(&bytes).unwrap().frame_len()).unwrap();
    std::fs::copy(other.join(lease(3)), dir.join(lease(3))).unwrap();
    std::fs::write(dir.join(&torn), &bytes[..head]).unwrap();

    let found = inspect::inspect(&dir, "test", &"a".parse().unwrap(), Depth::Everything).unwrap();
    assert_eq!(found.replay.faults, []);
    assert_eq!(found.replay.books.totals().in_doubt, 1);
    assert!(found.replay.books.balance().holds);
}
