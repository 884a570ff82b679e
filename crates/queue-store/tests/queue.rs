//! The queue on real files: what was accepted is there after whatever happened.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cluster::Timers;
use cluster::instance::{Order, State};
use mail_model::{
    BootId, Clock, Domain, EnhancedStatus, Envelope, Epoch, InstanceId, Mailbox, Moment, NodeId, Reason,
    Recipient, Reply, ReversePath, Role, WallTime,
};
use queue_format::record::{
    Content, Failure, MessageKey, MessageRecord, OperateRecord, OutcomeGroup, OutcomeRecord, Settles, Told,
    Verb, Verdict, encode_envelope,
};
use queue_store::inspect::{self, Depth};
use queue_store::{AppendError, OpenError, Proof, Queue, QueueOptions, Refusal, Standing};

#[derive(Debug)]
struct TestClock;

impl Clock for TestClock {
    fn now(&self) -> Moment {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Moment(u64::try_from(t.tv_sec * 1000 + t.tv_nsec / 1_000_000).unwrap())
    }
    fn wall(&self) -> WallTime {
        WallTime(1_700_000_000_000)
    }
}

static INSTANCES: AtomicU64 = AtomicU64::new(1);

fn options(spool: &Path, owner: &str) -> QueueOptions {
    QueueOptions {
        dir: spool.join("a"),
        cluster: "test".into(),
        queue: "a".parse().unwrap(),
        owner: NodeId::new(owner).unwrap(),
        instance: InstanceId(u128::from(INSTANCES.fetch_add(1, Ordering::Relaxed))),
        boot: BootId(1),
        role: if owner == "a" { Role::Primary } else { Role::Secondary },
        order: None,
        timers: Timers::default(),
        segment_size: 256 << 10,
        free_space_reserve: 0,
        clock: Arc::new(TestClock),
        proof: None,
    }
}

async fn opened(options: QueueOptions) -> Queue {
    let queue = Queue::open(options).unwrap();
    reached(&queue, State::Active).await;
    queue
}

async fn reached(queue: &Queue, wanted: State) {
    let mut state = queue.state();
    let found = tokio::time::timeout(Duration::from_secs(20), state.wait_for(|s| *s == wanted)).await;
    assert!(found.is_ok(), "never became {wanted:?}");
}

fn envelope(recipients: u16) -> Vec<u8> {
    let domain = Domain::new("example.test").unwrap();
    let mut envelope =
        Envelope::from_sender(ReversePath::Mailbox(Mailbox::new("from", domain.clone()).unwrap()));
    for n in 0..recipients {
        envelope.recipients.push(Recipient::plain(Mailbox::new(&format!("to{n}"), domain.clone()).unwrap()));
    }
    encode_envelope(&envelope)
}

fn message(key: MessageKey, recipients: u16, size: usize, content: Content) -> MessageRecord {
    MessageRecord {
        key,
        received: WallTime(1_700_000_000_000),
        size: size as u64,
        origin: "client 127.0.0.1".into(),
        envelope: envelope(recipients),
        content,
        settles: None,
        handover: None,
    }
}

async fn accept(queue: &Queue, recipients: u16, body: &[u8]) -> MessageKey {
    let key = queue.next_key();
    let record = message(key, recipients, body.len(), Content::Inline);
    queue.accept(record, Bytes::copy_from_slice(body)).await.unwrap();
    key
}

fn outcome(key: MessageKey, attempt: Option<mail_model::AttemptNumber>, verdict: Verdict) -> OutcomeRecord {
    OutcomeRecord {
        message: key,
        attempt: attempt.map(|n| (key.epoch, n)),
        at: WallTime(1),
        groups: vec![OutcomeGroup { verdict, reply: None, recipients: vec![0] }],
    }
}

fn whole(queue: &Queue, key: MessageKey) -> Vec<u8> {
    let mut reader = queue.content(key).unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next_piece() {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

/// Ends an owner as a crash would: its lock goes, its lease stays as it was.
async fn taken_by_b(spool: &Path, epoch: u64) -> Queue {
    let order = Order { expected: Epoch(epoch), reason: Reason::Forced };
    opened(QueueOptions { order: Some(order), ..options(spool, "b") }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_there_for_the_next_owner_with_all_its_standing() {
    let spool = tempfile::tempdir().unwrap();
    let first = opened(options(spool.path(), "a")).await;
    let delivered = accept(&first, 1, b"delivered").await;
    let open = accept(&first, 1, b"in doubt").await;
    let waiting = accept(&first, 2, b"waiting").await;
    let number = first.begin_attempt(delivered, vec![0], "hop".into(), WallTime(1)).await.unwrap();
    first.settle(outcome(delivered, Some(number), Verdict::Delivered)).await.unwrap();
    first.begin_attempt(open, vec![0], "hop".into(), WallTime(1)).await.unwrap();

    let second = taken_by_b(spool.path(), 1).await;
    let balance = second.books(queue_format::books::Books::balance).unwrap();
    assert!(balance.holds, "{balance:?}");
    assert_eq!((balance.totals.accepted, balance.totals.delivered, balance.queued), (4, 1, 3));
    assert_eq!(balance.totals.in_doubt, 1);
    assert!(second.content(delivered).is_none());
    assert_eq!(whole(&second, open), b"in doubt");
    assert_eq!(whole(&second, waiting), b"waiting");
    // The former owner is alive and does not know: it can do nothing.
    let key = first.next_key();
    let late = first.accept(message(key, 1, 4, Content::Inline), Bytes::from_static(b"late")).await;
    assert!(late.is_err(), "{late:?}");
    reached(&first, State::Fenced).await;
    assert!(matches!(first.may_act(), Err(Refusal::NotActive(State::Fenced))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_goes_home_after_it_was_released() {
    let spool = tempfile::tempdir().unwrap();
    let first = opened(options(spool.path(), "a")).await;
    let key = accept(&first, 1, b"stays").await;
    let secondary = taken_by_b(spool.path(), 1).await;
    reached(&first, State::Fenced).await;
    drop(first);
    let home = Queue::open(options(spool.path(), "a")).unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(*home.state().borrow(), State::Init, "a live secondary is never claimed over");
    secondary.drain();
    secondary.release().await;
    assert_eq!(*secondary.state().borrow(), State::Released);
    reached(&home, State::Active).await;
    assert_eq!(home.epoch(), Epoch(3));
    assert_eq!(whole(&home, key), b"stays");
    let balance = home.books(queue_format::books::Books::balance).unwrap();
    assert_eq!((balance.holds, balance.totals.in_doubt), (true, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_switch_of_the_same_node_is_refused() {
    let spool = tempfile::tempdir().unwrap();
    let first = opened(options(spool.path(), "a")).await;
    assert!(matches!(Queue::open(options(spool.path(), "a")), Err(OpenError::Busy(_))));
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_another_cluster_is_refused_and_not_touched() {
    let spool = tempfile::tempdir().unwrap();
    let first = opened(options(spool.path(), "a")).await;
    first.drain();
    first.release().await;
    let other = QueueOptions { cluster: "other".into(), ..options(spool.path(), "a") };
    let error = Queue::open(other).unwrap_err().to_string();
    assert!(error.contains("cluster 'test'") && error.contains("cluster.id"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_use_follows_the_queue_and_not_its_history() {
    let spool = tempfile::tempdir().unwrap();
    let queue = opened(options(spool.path(), "a")).await;
    let stuck = accept(&queue, 1, &[b's'; 3000]).await;
    let body = vec![b'x'; 8 << 10];
    for round in 0..60 {
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (queue, body) = (queue.clone(), body.clone());
                tokio::spawn(async move {
                    let key = accept(&queue, 1, &body).await;
                    let n = queue.begin_attempt(key, vec![0], "hop".into(), WallTime(1)).await.unwrap();
                    queue.settle_lazily(outcome(key, Some(n), Verdict::Delivered)).await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(whole(&queue, stuck), [b's'; 3000], "round {round}");
    }
    // 60 x 20 x 8 KiB went through: 9.6 MiB, nearly 40 segments.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let files = || std::fs::read_dir(spool.path().join("a/segments")).unwrap().count();
    while files() > 4 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(files() <= 4, "{} segments are left", files());
    queue.drain();
    queue.release().await;
    let seen = inspect::inspect(&spool.path().join("a"), "test", queue.id(), Depth::Everything).unwrap();
    assert_eq!(seen.replay.faults, []);
    let balance = seen.replay.books.balance();
    assert!(balance.holds && balance.totals.accepted == 1201 && balance.queued == 1, "{balance:?}");
    assert!(seen.replay.books.is_clean());
    let after = opened(options(spool.path(), "a")).await;
    assert_eq!(whole(&after, stuck), [b's'; 3000]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_of_records_with_little_content_ends_before_its_digest_is_large() {
    let spool = tempfile::tempdir().unwrap();
    let queue = opened(QueueOptions { segment_size: 64 << 20, ..options(spool.path(), "a") }).await;
    let files = |kind: &str| {
        let entries = std::fs::read_dir(spool.path().join("a").join(kind)).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).collect::<Vec<_>>()
    };
    let mut messages = 0;
    while files("digests").is_empty() {
        accept(&queue, 5_000, b"x").await;
        messages += 1;
        assert!(messages < 1_000, "{:?}", files("segments"));
    }
    let (digests, segments) = (files("digests"), files("segments"));
    assert!(digests[0] > 8 << 20 && digests[0] < 9 << 20, "{digests:?}");
    assert!(segments.len() == 2 && segments.iter().min() < Some(&(10 << 20)), "{segments:?}");
    drop(queue);
    let seen =
        inspect::inspect(&spool.path().join("a"), "test", &"a".parse().unwrap(), Depth::Everything).unwrap();
    assert_eq!(seen.replay.faults, []);
    assert_eq!(seen.replay.books.len(), messages);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_in_chunks_survives_rotation_carrying_and_takeover() {
    let spool = tempfile::tempdir().unwrap();
    let queue = opened(options(spool.path(), "a")).await;
    let key = queue.next_key();
    let pieces: Vec<Vec<u8>> = (0u8..12).map(|n| vec![n; 64 << 10]).collect();
    let mut chunks = Vec::new();
    for piece in &pieces {
        chunks.push(queue.append_chunk(key, Bytes::from(piece.clone())).await.unwrap());
    }
    let size = pieces.iter().map(Vec::len).sum();
    queue.accept(message(key, 1, size, Content::Chunks(chunks)), Bytes::new()).await.unwrap();
    for _ in 0..200 {
        let small = accept(&queue, 1, &[b'y'; 16 << 10]).await;
        queue.settle(outcome(small, None, Verdict::Delivered)).await.unwrap();
    }
    assert_eq!(whole(&queue, key), pieces.concat());
    let taker = taken_by_b(spool.path(), 1).await;
    assert_eq!(whole(&taker, key), pieces.concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounce_settles_what_it_reports_in_one_write() {
    let spool = tempfile::tempdir().unwrap();
    let queue = opened(options(spool.path(), "a")).await;
    let failed = accept(&queue, 1, b"no such user").await;
    let verdict = Verdict::Failed { how: Failure::Bounced, owed: true };
    queue.settle(outcome(failed, None, verdict)).await.unwrap();
    assert_eq!(queue.books(|b| b.owed().count()), Some(1));
    let key = queue.next_key();
    let settles = Settles { message: failed, recipients: vec![(0, Told::Failed(Failure::Bounced))] };
    let bounce = MessageRecord { settles: Some(settles), ..message(key, 1, 6, Content::Inline) };
    queue.accept(bounce, Bytes::from_static(b"bounce")).await.unwrap();
    let balance = queue.books(queue_format::books::Books::balance).unwrap();
    assert!(balance.holds);
    assert_eq!((balance.totals.bounced, balance.totals.generated, balance.queued), (1, 1, 1));
    assert_eq!(queue.books(|b| b.owed().count()), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_share_a_sync() {
    let spool = tempfile::tempdir().unwrap();
    let queue = opened(QueueOptions { segment_size: 16 << 20, ..options(spool.path(), "a") }).await;
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                for _ in 0..5 {
                    accept(&queue, 1, &[b'z'; 4096]).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let status = queue.status();
    assert_eq!(status.messages, 1000);
    assert!(status.batches * 3 < 1000, "{} commits for 1000 messages", status.batches);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_releases_with_an_attempt_open_is_not_clean_and_the_attempt_is_counted() {
    let spool = tempfile::tempdir().unwrap();
    let queue = opened(options(spool.path(), "a")).await;
    let key = accept(&queue, 1, b"in transaction").await;
    queue.begin_attempt(key, vec![0], "hop".into(), WallTime(1)).await.unwrap();
    queue.drain();
    queue.release().await;
    let seen = inspect::inspect(&spool.path().join("a"), "test", queue.id(), Depth::Everything).unwrap();
    assert!(!seen.replay.books.is_clean());
    assert_eq!(seen.replay.books.open_attempts().count(), 1);
    let next = opened(options(spool.path(), "a")).await;
    let balance = next.books(queue_format::books::Books::balance).unwrap();
    assert_eq!((balance.holds, balance.totals.in_doubt, balance.queued), (true, 1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_outlives_its_message_s_segment_is_still_in_doubt_after_a_crash() {
    let spool = tempfile::tempdir().unwrap();
    let queue = opened(options(spool.path(), "a")).await;
    let slow = accept(&queue, 1, b"its next hop takes long to answer").await;
    let number = queue.begin_attempt(slow, vec![0], "hop".into(), WallTime(1)).await.unwrap();
    let place = |seen: &Queue| seen.books(|books| books.message(slow).unwrap().place.segment).unwrap();
    let born = place(&queue);
    for turn in 0.. {
        let quick = accept(&queue, 1, &[b'q'; 16 << 10]).await;
        queue.settle(outcome(quick, None, Verdict::Delivered)).await.unwrap();
        // It was carried, and what was left where it came from is more than the cleaner would keep.
        if place(&queue) != born && turn > 200 {
            break;
        }
        assert!(turn < 2_000, "never carried");
    }
    let taker = taken_by_b(spool.path(), 1).await;
    let balance = taker.books(queue_format::books::Books::balance).unwrap();
    assert_eq!((balance.holds, balance.totals.in_doubt, balance.queued), (true, 1, 1));
    // Now nothing holds the old segments any more, and the doubt keeps its name without them.
    let quick = accept(&taker, 1, b"gives the cleaner its turns").await;
    taker.settle(outcome(quick, None, Verdict::Delivered)).await.unwrap();
    taker.settle(OutcomeRecord { attempt: None, ..outcome(slow, None, Verdict::Delivered) }).await.unwrap();
    let deadline = TestClock.now() + Duration::from_secs(20);
    while taker.books(|books| books.first_live().epoch) != Some(Epoch(2)) {
        assert!(TestClock.now() < deadline, "the old epoch is never retired");
        let quick = accept(&taker, 1, &[b'q'; 16 << 10]).await;
        taker.settle(outcome(quick, None, Verdict::Delivered)).await.unwrap();
    }
    taker.drain();
    taker.release().await;
    let seen = inspect::inspect(&spool.path().join("a"), "test", taker.id(), Depth::Books).unwrap();
    let doubts: Vec<_> = seen.replay.books.doubts().collect();
    assert_eq!(doubts.len(), 1, "{doubts:?}");
    assert_eq!((doubts[0].attempt, doubts[0].next_hop.as_str()), (number, "hop"));
}

/// Two hosts, say, and only one of them can have said it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_it_was_taken_before_settles_a_doubt_and_none_of_several() {
    let spool = tempfile::tempdir().unwrap();
    let queue = opened(options(spool.path(), "a")).await;
    let (once, twice) = (accept(&queue, 1, b"one doubt").await, accept(&queue, 1, b"two doubts").await);
    for (key, doubts) in [(once, 1), (twice, 2)] {
        for _ in 0..doubts {
            let n = queue.begin_attempt(key, vec![0], "hop".into(), WallTime(1)).await.unwrap();
            queue.settle(outcome(key, Some(n), Verdict::InDoubt { due: WallTime(2) })).await.unwrap();
        }
        let n = queue.begin_attempt(key, vec![0], "hop".into(), WallTime(3)).await.unwrap();
        let mut settled = outcome(key, Some(n), Verdict::Delivered);
        let text = format!("{} b-1-1", mail_model::TAKEN_BEFORE);
        settled.groups[0].reply = Some(Reply::local(250, EnhancedStatus::new(2, 0, 0), text));
        queue.settle(settled).await.unwrap();
    }
    let named = queue.books(|books| books.doubts().map(|doubt| doubt.message).collect::<Vec<_>>()).unwrap();
    assert_eq!(named, [twice, twice]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_deleted_while_it_is_delivered_is_counted_once() {
    let spool = tempfile::tempdir().unwrap();
    let queue = opened(options(spool.path(), "a")).await;
    let key = accept(&queue, 1, b"unwanted").await;
    let number = queue.begin_attempt(key, vec![0], "hop".into(), WallTime(1)).await.unwrap();
    let operate = OperateRecord {
        message: key,
        verb: Verb::Delete,
        recipients: vec![0],
        at: WallTime(2),
        by: "operator".into(),
        to: None,
    };
    queue.operate(operate.clone()).await.unwrap();
    queue.settle(outcome(key, Some(number), Verdict::Delivered)).await.unwrap();
    queue.operate(operate).await.unwrap();
    let balance = queue.books(queue_format::books::Books::balance).unwrap();
    assert_eq!((balance.holds, balance.totals.deleted, balance.totals.delivered), (true, 1, 0));
    let taker = taken_by_b(spool.path(), 1).await;
    assert_eq!(taker.books(queue_format::books::Books::balance), Some(balance));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_was_abandoned_cannot_be_named() {
    let spool = tempfile::tempdir().unwrap();
    let queue = opened(options(spool.path(), "a")).await;
    let key = queue.next_key();
    let chunk = queue.append_chunk(key, Bytes::from_static(b"piece")).await.unwrap();
    queue.abandon(key);
    let late = queue.accept(message(key, 1, 5, Content::Chunks(vec![chunk])), Bytes::new()).await;
    assert_eq!(late, Err(Refusal::Append(AppendError::ContentGone)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_stands_still_is_told_apart_from_one_that_rests() {
    let spool = tempfile::tempdir().unwrap();
    let queue = opened(options(spool.path(), "a")).await;
    // The cleaner's turn counts as the storage's. Held up there, it is tried again.
    for turn in 0.. {
        if is_told_apart(&queue).await {
            break;
        }
        assert!(turn < 10, "the storage is blamed each time");
    }
}

/// Holds the books, and with them the journal, outside the storage. True if the silence is the journal's alone.
async fn is_told_apart(queue: &Queue) -> bool {
    let key = accept(queue, 1, b"text").await;
    silence_becomes(queue, |s| s.journal < Duration::from_millis(300)).await;
    let (let_go, told) = std::sync::mpsc::channel::<()>();
    let (held, holds) = std::sync::mpsc::channel();
    let other = queue.clone();
    let holder = std::thread::spawn(move || {
        other.books(|_| {
            held.send(()).unwrap();
            told.recv().ok();
        });
    });
    holds.recv().unwrap();
    let settled = tokio::spawn({
        let queue = queue.clone();
        async move { queue.settle(outcome(key, None, Verdict::Delivered)).await }
    });
    silence_becomes(queue, |s| s.journal > Duration::from_millis(600)).await;
    let alone = queue.silence().storage.is_zero();
    drop(let_go);
    holder.join().unwrap();
    settled.await.unwrap().unwrap();
    silence_becomes(queue, |s| s.journal < Duration::from_millis(300)).await;
    alone
}

async fn silence_becomes(queue: &Queue, wanted: impl Fn(queue_store::Silence) -> bool) {
    let deadline = TestClock.now() + Duration::from_secs(20);
    while !wanted(queue.silence()) {
        assert!(TestClock.now() < deadline, "{:?}", queue.silence());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the register outside says, as the test wants it.
#[derive(Debug)]
struct Register {
    says: parking_lot::Mutex<Standing>,
    asked: AtomicU64,
}

impl Register {
    fn saying(says: Standing) -> Arc<Self> {
        Arc::new(Self { says: parking_lot::Mutex::new(says), asked: AtomicU64::new(0) })
    }

    fn says(&self, standing: Standing) {
        *self.says.lock() = standing;
    }

    /// Waits until it was asked so often again.
    async fn asked_again(&self, times: u64) {
        let from = self.asked.load(Ordering::Relaxed);
        for _ in 0..2_000 {
            if self.asked.load(Ordering::Relaxed) >= from + times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        unreachable!("nobody asks")
    }
}

impl Proof for Register {
    fn begin(&self) -> Standing {
        self.stands()
    }

    fn stands(&self) -> Standing {
        self.asked.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(5));
        self.says.lock().clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_touched_before_the_register_says_that_the_device_is_ours() {
    let spool = tempfile::tempdir().unwrap();
    let register = Register::saying(Standing::Others);
    let proof: Arc<dyn Proof> = register.clone();
    let queue = Queue::open(QueueOptions { proof: Some(proof), ..options(spool.path(), "a") }).unwrap();
    register.asked_again(2).await;
    register.says(Standing::Unknown("away".into()));
    register.asked_again(2).await;
    assert_eq!(*queue.state().borrow(), State::Init);
    assert!(!spool.path().join("a").exists());
    register.says(Standing::Ours);
    reached(&queue, State::Active).await;
    accept(&queue, 1, b"ours").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_of_the_register_nobody_is_told_and_an_answer_that_it_is_anothers_is_the_end() {
    let spool = tempfile::tempdir().unwrap();
    let register = Register::saying(Standing::Ours);
    let proof: Arc<dyn Proof> = register.clone();
    let queue = opened(QueueOptions { proof: Some(proof), ..options(spool.path(), "a") }).await;
    register.says(Standing::Unknown("away".into()));
    let sent = |body: &'static [u8]| {
        let (queue, key) = (queue.clone(), queue.next_key());
        let record = message(key, 1, body.len(), Content::Inline);
        tokio::spawn(async move { queue.accept(record, Bytes::from_static(body)).await })
    };
    let waits = sent(b"waits");
    // Of the renewals and of the commit, more than one of each.
    register.asked_again(20).await;
    assert!(!waits.is_finished());
    register.says(Standing::Ours);
    waits.await.unwrap().unwrap();
    register.says(Standing::Unknown("away".into()));
    let refused = sent(b"refused");
    register.asked_again(20).await;
    assert!(!refused.is_finished());
    register.says(Standing::Others);
    assert!(refused.await.unwrap().is_err());
    reached(&queue, State::Fenced).await;
}
