//! How long a queue of many messages takes from the claim to ACTIVE, and what a message costs in memory.
//!
//! `cargo run --release -p queue-store --example recovery -- 100000 /var/tmp`

#![expect(clippy::print_stdout, reason = "it prints what it measured")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure ends it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::Timers;
use cluster::instance::{Order, State};
use mail_model::{
    BootId, Clock, Domain, Envelope, Epoch, InstanceId, Mailbox, Moment, NodeId, Reason, Recipient,
    ReversePath, Role, WallTime,
};
use queue_format::record::{Content, MessageRecord, encode_envelope};
use queue_store::{Queue, QueueOptions};

#[derive(Debug)]
struct Boot;

impl Clock for Boot {
    fn now(&self) -> Moment {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Moment(u64::try_from(t.tv_sec * 1_000 + t.tv_nsec / 1_000_000).unwrap())
    }
    fn wall(&self) -> WallTime {
        WallTime(1_700_000_000_000)
    }
}

fn options(dir: &Path, expected: u64) -> QueueOptions {
    QueueOptions {
        dir: dir.to_owned(),
        cluster: "measure".into(),
        queue: "a".parse().unwrap(),
        owner: NodeId::new("b").unwrap(),
        instance: InstanceId(u128::from(expected) + 1),
        boot: BootId(u128::from(expected)),
        role: Role::Secondary,
        order: Some(Order { expected: Epoch(expected), reason: Reason::Forced }),
        timers: Timers::default(),
        segment_size: 64 << 20,
        free_space_reserve: 0,
        clock: Arc::new(Boot),
        proof: None,
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

async fn active(queue: &Queue) {
    let state = *queue.state().wait_for(|s| *s == State::Active || s.is_final()).await.unwrap();
    assert_eq!(state, State::Active);
}

async fn fill(queue: &Queue, count: u64) {
    let domain = Domain::new("example.test").unwrap();
    let mut envelope =
        Envelope::from_sender(ReversePath::Mailbox(Mailbox::new("from", domain.clone()).unwrap()));
    envelope.recipients.push(Recipient::plain(Mailbox::new("somebody", domain).unwrap()));
    let envelope = encode_envelope(&envelope);
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (queue, envelope) = (queue.clone(), envelope.clone());
            tokio::spawn(async move {
                for _ in 0..count / 64 {
                    let record = MessageRecord {
                        key: queue.next_key(),
                        received: WallTime(1_700_000_000_000),
                        size: 4_096,
                        origin: "client 127.0.0.1".into(),
                        envelope: envelope.clone(),
                        content: Content::Inline,
                        settles: None,
                        handover: None,
                    };
                    queue.accept(record, Bytes::from(vec![b'x'; 4_096])).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().collect();
    let count = words.get(1).map_or(100_000, |word| word.parse().unwrap());
    let spool = words.get(2).map_or_else(std::env::temp_dir, PathBuf::from).join("mailswitch-recovery");
    std::fs::remove_dir_all(&spool).ok();
    std::fs::create_dir_all(&spool).unwrap();
    if words.len() > 3 {
        println!("ignored: {:?}", &words[3..]);
    }
    let dir = spool.join("a");
    let first = Queue::open(options(&dir, 0)).unwrap();
    active(&first).await;
    fill(&first, count).await;
    // Held twice from here on: the difference is what one more set of books costs.
    let before = resident_bytes();
    let clock = Boot;
    let start = clock.now();
    let second = Queue::open(options(&dir, 1)).unwrap();
    active(&second).await;
    let took = clock.now().since(start);
    let messages = second.books(queue_format::books::Books::len).unwrap();
    let each = resident_bytes().saturating_sub(before) / (messages.max(1) as u64);
    println!("{messages} messages: ACTIVE after {} ms, about {each} bytes of memory each", took.as_millis());
    second.drain();
    tokio::time::timeout(Duration::from_secs(5), second.release()).await.ok();
    std::fs::remove_dir_all(&spool).ok();
}
