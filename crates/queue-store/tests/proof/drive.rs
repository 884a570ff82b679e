//! A client, a next hop and an operator that use a queue at random, and note what they see.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cluster::Timers;
use cluster::instance::{Order, State};
use mail_model::{
    BootId, Clock, Domain, Envelope, Epoch, InstanceId, Mailbox, Moment, NodeId, Reason, Recipient,
    ReversePath, Role, WallTime,
};
use queue_format::record::{
    Content, Handover, MessageKey, MessageRecord, OperateRecord, OutcomeGroup, OutcomeRecord, Verb, Verdict,
    encode_envelope,
};
use queue_store::{AppendError, Queue, QueueOptions, Refusal};

use crate::model::{Fate, Model, Note, Rng, content, name};

/// A clock that stands still: leases never grow old by it.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Moment {
        Moment(1_000)
    }
    fn wall(&self) -> WallTime {
        WallTime(1_700_000_000_000)
    }
}

static INSTANCES: AtomicU64 = AtomicU64::new(1);

/// Options of a taker of epoch `expected + 1`.
pub(crate) fn options(dir: &Path, expected: Epoch) -> QueueOptions {
    let instance = u128::from(std::process::id()) << 64;
    QueueOptions {
        dir: dir.to_owned(),
        cluster: "test".into(),
        queue: "a".parse().unwrap(),
        owner: NodeId::new("b").unwrap(),
        instance: InstanceId(instance | u128::from(INSTANCES.fetch_add(1, Ordering::Relaxed))),
        boot: BootId(u128::from(expected.0)),
        role: Role::Secondary,
        order: Some(Order { expected, reason: Reason::Forced }),
        timers: Timers { renew: Duration::from_mins(1), ..Timers::default() },
        segment_size: 48 << 10,
        free_space_reserve: 0,
        clock: Arc::new(Still),
        proof: None,
    }
}

/// Waits until the queue is at work, or will never be. An instance that cannot read the lease waits for ever: `hopeless`
/// says when nobody will wait with it.
pub(crate) async fn started(queue: &Queue, hopeless: impl Fn() -> bool) -> State {
    let mut state = queue.state();
    for _ in 0..1_000 {
        let found = state.wait_for(|s| *s == State::Active || s.is_final());
        if let Ok(found) = tokio::time::timeout(Duration::from_millis(30), found).await {
            return *found.unwrap();
        }
        if hopeless() {
            queue.drain();
        }
    }
    panic!("the instance hangs");
}

/// Waits until an instance whose storage failed has noticed.
pub(crate) async fn ended(queue: &Queue) -> State {
    let mut state = queue.state();
    let found = state.wait_for(|s| s.is_final());
    *tokio::time::timeout(Duration::from_secs(30), found).await.unwrap().unwrap()
}

pub(crate) fn envelope(recipients: u16) -> Vec<u8> {
    let domain = Domain::new("example.test").unwrap();
    let mut envelope =
        Envelope::from_sender(ReversePath::Mailbox(Mailbox::new("from", domain.clone()).unwrap()));
    for n in 0..recipients {
        envelope.recipients.push(Recipient::plain(Mailbox::new(&format!("to{n}"), domain.clone()).unwrap()));
    }
    encode_envelope(&envelope)
}

pub(crate) fn message(key: MessageKey, recipients: u16, size: usize, content: Content) -> MessageRecord {
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

/// The same message, handed over under its name if it has one.
fn named(record: MessageRecord) -> MessageRecord {
    let handover = name(record.key).map(|id| {
        let recipients = vec!["to0@example.test".into()].into();
        let (id, sender) = (id.into(), "from@example.test".into());
        Box::new(Handover { id, sender, octets: record.size, crc: 1, recipients })
    });
    MessageRecord { handover, ..record }
}

/// All of a message's content.
pub(crate) fn read(queue: &Queue, key: MessageKey) -> Result<Vec<u8>, String> {
    let mut reader = queue.content(key).ok_or("not live")?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next_piece() {
        bytes.extend_from_slice(&piece.map_err(|error| error.to_string())?);
    }
    Ok(bytes)
}

/// Compares a queue at work with what is known.
pub(crate) fn agree(queue: &Queue, model: &mut Model) -> Result<(), String> {
    let books = queue.books(Clone::clone).ok_or("the queue is not at work")?;
    if let Some(anomaly) = books.anomalies().first() {
        return Err(anomaly.clone());
    }
    model.agree(&books, |key| read(queue, key))
}

/// One user of a queue.
pub(crate) struct User<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) model: &'a mut Model,
    /// Told every note before the model is.
    pub(crate) log: &'a mut dyn FnMut(Note),
}

impl User<'_> {
    fn note(&mut self, note: Note) {
        (self.log)(note);
        self.model.note(note);
    }

    /// Does one thing. An error is the end of this owner; a full disk is none.
    pub(crate) async fn step(&mut self, rng: &mut Rng) -> Result<(), Refusal> {
        // Deliveries catch up with accepts, so that segments die.
        let busy = self.model.waiting() > 25;
        match (rng.below(20), busy) {
            (0..8, false) => self.offer(rng).await,
            (8..10, false) => self.offer_in_pieces(rng).await,
            (10, _) => self.operate(rng).await,
            _ => self.deliver(rng).await,
        }
    }

    fn answered(&mut self, answer: Result<(), Refusal>) -> Result<(), Refusal> {
        match answer {
            Ok(()) => {
                self.note(Note::Yes);
                Ok(())
            }
            Err(Refusal::Append(AppendError::Full)) => {
                self.note(Note::No);
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    /// A message in one frame.
    pub(crate) async fn offer(&mut self, rng: &mut Rng) -> Result<(), Refusal> {
        let key = self.queue.next_key();
        let len = usize::try_from(rng.below(9_000)).unwrap();
        let recipients = u16::try_from(1 + rng.below(3)).unwrap();
        let record = named(message(key, recipients, len, Content::Inline));
        self.note(Note::Offer { key, len, recipients });
        let answer = self.queue.accept(record, Bytes::from(content(key, len))).await;
        self.answered(answer)
    }

    async fn offer_in_pieces(&mut self, rng: &mut Rng) -> Result<(), Refusal> {
        let key = self.queue.next_key();
        let len = usize::try_from(20_000 + rng.below(60_000)).unwrap();
        let body = Bytes::from(content(key, len));
        let mut chunks = Vec::new();
        for start in (0..len).step_by(12_000) {
            let piece = body.slice(start..len.min(start + 12_000));
            match self.queue.append_chunk(key, piece).await {
                Ok(chunk) => chunks.push(chunk),
                Err(Refusal::Append(AppendError::Full)) => {
                    self.queue.abandon(key);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            if rng.one_in(4) {
                // Other mail goes on meanwhile.
                self.offer(rng).await?;
            }
        }
        if rng.one_in(4) {
            self.queue.abandon(key);
            return Ok(());
        }
        self.note(Note::Offer { key, len, recipients: 1 });
        let answer = self.queue.accept(message(key, 1, len, Content::Chunks(chunks)), Bytes::new()).await;
        self.answered(answer)
    }

    async fn deliver(&mut self, rng: &mut Rng) -> Result<(), Refusal> {
        let Some((key, recipients)) = self.model.pick(rng) else { return self.offer(rng).await };
        let all: Vec<u16> = (0..recipients).collect();
        self.note(Note::Try { key });
        let began = self.queue.begin_attempt(key, all.clone(), "hop".into(), WallTime(1)).await;
        let number = match began {
            Ok(number) => number,
            Err(error) => return self.answered(Err(error)),
        };
        self.note(Note::Yes);
        if rng.one_in(8) {
            return Ok(()); // It hangs until this owner ends.
        }
        let (verdict, fate) = match rng.below(10) {
            0..7 => (Verdict::Delivered, Fate::Delivered),
            7 => (Verdict::Failed { how: queue_format::record::Failure::Bounced, owed: false }, Fate::Failed),
            _ => (Verdict::Deferred { due: WallTime(7) }, Fate::Queued),
        };
        let outcome = OutcomeRecord {
            message: key,
            attempt: Some((self.queue.epoch(), number)),
            at: WallTime(2),
            groups: vec![OutcomeGroup { verdict, reply: None, recipients: all }],
        };
        for recipient in 0..recipients {
            self.note(Note::Ask { key, recipient, fate });
        }
        if rng.one_in(2) {
            return self.queue.settle_lazily(outcome).await;
        }
        let answer = self.queue.settle(outcome).await;
        self.answered(answer)
    }

    async fn operate(&mut self, rng: &mut Rng) -> Result<(), Refusal> {
        let Some((key, recipients)) = self.model.pick(rng) else { return Ok(()) };
        let (verb, fate) =
            if rng.one_in(2) { (Verb::Hold, Fate::Held) } else { (Verb::Delete, Fate::Deleted) };
        let recipient = u16::try_from(rng.below(u64::from(recipients))).unwrap();
        let operate = OperateRecord {
            message: key,
            verb,
            recipients: vec![recipient],
            at: WallTime(3),
            by: "operator".into(),
            to: None,
        };
        self.note(Note::Ask { key, recipient, fate });
        let answer = self.queue.operate(operate).await;
        self.answered(answer)
    }
}
