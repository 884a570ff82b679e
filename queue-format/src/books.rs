//! What a queue *is* after a list of records. The running owner, a restart, a takeover and the offline checker all keep
//! these books, by the same `apply`.
//!
//! Only live messages are held: when the last recipient of one is final it is dropped and lives on in the totals.
//! A record about a message that is not known is about one whose MESSAGE stood in a retired segment: it counts in the
//! totals and nowhere else. That is enough, because segments retire oldest first and every frame about a message stands
//! behind its MESSAGE or CARRY: a message that is still live is always known.

mod answers;
mod memory;
mod message;
mod packed;
mod rows;
mod walk;

use std::collections::{BTreeMap, VecDeque};

use foldhash::{HashSet, HashSetExt};
use mail_model::{AttemptNumber, Epoch, QueueId, RecipientIndex, Reply, SegmentId, TAKEN_BEFORE};

pub use self::message::{BodyPlace, Message, Standing};
pub use self::walk::Walk;

use self::memory::Memory;
use self::packed::{Packed, Rest};
use self::rows::Rows;
use crate::frame::FrameHeader;
use crate::record::{
    AttemptRecord, CarryRecord, DOUBTS_KEPT, Doubt, Failure, MessageKey, MessageRecord, MessageView,
    OperateRecord, OutcomeRecord, RecipientState, Record, SegmentRecord, Settles, Taken, Told, Totals, Verb,
    Verdict, count_recipients, is_marked_held,
};
use crate::scan::Place;
use crate::wire::DecodeError;

/// The sums, and what was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Balance {
    /// The sums.
    pub totals: Totals,
    /// Recipients that are not final, counted one by one.
    pub queued: u64,
    /// `accepted + generated = delivered + bounced + expired + deleted + queued`, and the tally has as many.
    pub holds: bool,
}

/// What is there, kept as messages come, change and go: nothing is walked to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// They wait for an attempt, or one runs.
    pub queued: u64,
    /// Set aside by an operator.
    pub held: u64,
    /// Their way is over, and their sender is owed word of it.
    pub owed: u64,
    /// Bytes of content of all live messages.
    pub bytes: u64,
}

impl Tally {
    /// Recipients that are not final.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.queued + self.held + self.owed
    }

    /// A message came, or one went.
    fn count(&mut self, message: &Packed, comes: bool) {
        let shift = |sum: &mut u64, by: u64| *sum = if comes { *sum + by } else { sum.saturating_sub(by) };
        shift(&mut self.bytes, message.size());
        for glance in message.glance() {
            match glance.state {
                RecipientState::Queued => shift(&mut self.queued, 1),
                RecipientState::Held => shift(&mut self.held, 1),
                RecipientState::Owed(_) | RecipientState::OwedSuccess => shift(&mut self.owed, 1),
                RecipientState::Delivered | RecipientState::Failed(_) | RecipientState::Deleted => {}
            }
        }
    }
}

/// An attempt without an outcome.
#[derive(Debug, Clone)]
struct Open {
    /// Where its ATTEMPT stands.
    segment: SegmentId,
    doubt: Doubt,
}

/// The state of a queue.
#[derive(Debug, Clone)]
pub struct Books {
    queue: QueueId,
    started: bool,
    messages: Rows,
    tally: Tally,
    open: BTreeMap<(Epoch, AttemptNumber), Open>,
    totals: Totals,
    doubts: VecDeque<Doubt>,
    live_bytes: BTreeMap<SegmentId, u64>,
    first_live: SegmentId,
    unreplied: HashSet<MessageKey>,
    memory: Memory,
    anomalies: Vec<String>,
    clean: bool,
    /// Where messages are packed.
    scratch: Vec<u8>,
}

/// How many anomalies are kept as text; more are only counted in the last line.
const ANOMALIES_KEPT: usize = 1_000;

impl Books {
    /// The books of a queue without history.
    #[must_use]
    pub fn new(queue: QueueId) -> Self {
        Self {
            queue,
            started: false,
            messages: Rows::default(),
            tally: Tally::default(),
            open: BTreeMap::new(),
            totals: Totals::default(),
            doubts: VecDeque::new(),
            live_bytes: BTreeMap::new(),
            first_live: SegmentId::default(),
            unreplied: HashSet::new(),
            memory: Memory::default(),
            anomalies: Vec::new(),
            clean: false,
            scratch: Vec::new(),
        }
    }

    /// Takes one record into the books. `place` and `header` say where it stands.
    pub fn apply(&mut self, place: Place, header: &FrameHeader, record: Record) {
        self.clean = false;
        match record {
            Record::Segment(segment) => self.apply_segment(place, segment),
            Record::Message(message) => {
                let MessageRecord { key, received, size, origin, envelope, content, settles, handover } =
                    message;
                let (origin, envelope) = (origin.as_str(), envelope.as_slice());
                let view = MessageView { key, received, size, origin, envelope, content, settles, handover };
                self.apply_message(place, header, view);
            }
            Record::Carry(carry) => self.apply_carry(place, header, carry),
            Record::Attempt(attempt) => self.apply_attempt(place.segment, header.segment.epoch, attempt),
            Record::Outcome(outcome) => self.apply_outcome(outcome),
            Record::Operate(operate) => self.apply_operate(&operate),
            Record::Retire { first_live } => self.apply_retire(first_live),
            Record::Replied(keys) => {
                for key in keys {
                    self.unreplied.remove(&key);
                }
            }
            Record::Clean { .. } => self.clean = true,
            Record::Taken(taken) => self.memory.apply(place.segment, taken),
            // A chunk counts when its message does. Seals and NEXT steer the replay, not the books.
            Record::Chunk { .. } | Record::Seal(_) | Record::Next { .. } => {}
        }
    }

    fn apply_segment(&mut self, place: Place, segment: SegmentRecord) {
        if self.started {
            if segment.totals != self.totals {
                self.anomaly(format!(
                    "segment {}: its owner's sums {:?} are not those of the records before it {:?}",
                    place.segment, segment.totals, self.totals
                ));
            }
        } else {
            self.started = true;
            self.doubts = segment.doubts.into();
        }
        // The owner's sums were right when they were written; a record lost to rot must show in the balance.
        self.totals = segment.totals;
        self.first_live = self.first_live.max(segment.first_live);
        self.live_bytes.entry(place.segment).or_insert(0);
    }

    /// Takes the record of a MESSAGE into the books, as [`Self::apply`] does, from the meta of its frame: at a start most
    /// frames are such, and nothing of them is copied but what the books keep. After an error the books are as they were.
    pub fn apply_message_meta(
        &mut self,
        place: Place,
        header: &FrameHeader,
        meta: &[u8],
    ) -> Result<(), DecodeError> {
        let view = MessageView::decode(meta)?;
        self.clean = false;
        self.apply_message(place, header, view);
        Ok(())
    }

    fn apply_message(&mut self, place: Place, header: &FrameHeader, view: MessageView<'_>) {
        let Ok(recipients) = count_recipients(view.envelope) else {
            self.anomaly(format!("segment {} offset {}: unreadable envelope", place.segment, place.offset));
            return;
        };
        if let Some(settles) = &view.settles {
            self.totals.generated += u64::from(recipients);
            self.settle(settles);
        } else {
            self.totals.messages += 1;
            self.totals.accepted += u64::from(recipients);
            self.unreplied.insert(view.key);
        }
        if let Some(handover) = view.handover {
            let (message, received) = (view.key, view.received);
            self.memory.remember(place.segment, Taken { message, received, handover });
        }
        let body = BodyPlace::of(place, header, view.content);
        let rest = Rest {
            place,
            frame_len: header.frame_len(),
            size: view.size,
            body: &body,
            envelope: view.envelope,
        };
        // Whoever finds this record, at a takeover too, finds it held.
        let fresh = (view.received, recipients, is_marked_held(view.envelope));
        let packed = Packed::fresh(fresh, &rest, &mut self.scratch);
        self.weigh((place.segment, header.frame_len()), &body, true);
        self.place_message(view.key, packed);
    }

    fn apply_carry(&mut self, place: Place, header: &FrameHeader, carry: CarryRecord) {
        let standings = carry
            .recipients
            .into_iter()
            .map(|r| Standing {
                state: r.state,
                attempts: r.attempts,
                due: r.due,
                last_reply: r.last_reply.map(Box::new),
                warned: r.warned,
                doubtful: r.doubtful,
                crashes: r.crashes,
                redirect: r.redirect,
            })
            .collect();
        let record = carry.message;
        let message = Message {
            place,
            frame_len: header.frame_len(),
            body: BodyPlace::of(place, header, record.content),
            received: record.received,
            size: record.size,
            envelope: record.envelope.into_boxed_slice(),
            standings,
        };
        let packed = Packed::of(&message, &mut self.scratch);
        self.weigh((place.segment, message.frame_len), &message.body, true);
        self.place_message(record.key, packed);
    }

    /// Takes in a message that was weighed. One of that name that is there already has moved.
    fn place_message(&mut self, key: MessageKey, packed: Packed) {
        if let Some(old) = self.put(key, packed).and_then(|old| old.open()) {
            self.weigh((old.place.segment, old.frame_len), &old.body, false);
        }
    }

    /// The one that was there under that name.
    fn put(&mut self, key: MessageKey, packed: Packed) -> Option<Packed> {
        self.tally.count(&packed, true);
        let old = self.messages.insert(key, packed);
        if let Some(old) = &old {
            self.tally.count(old, false);
        }
        old
    }

    fn weigh(&mut self, frame: (SegmentId, u64), body: &BodyPlace, add: bool) {
        let mut shift = |segment: SegmentId, bytes: u64| {
            let live = self.live_bytes.entry(segment).or_insert(0);
            *live = if add { live.saturating_add(bytes) } else { live.saturating_sub(bytes) };
        };
        shift(frame.0, frame.1);
        if let BodyPlace::Chunks(chunks) = body {
            for chunk in chunks {
                shift(chunk.segment, u64::from(chunk.len));
            }
        }
    }

    fn apply_attempt(&mut self, segment: SegmentId, epoch: Epoch, attempt: AttemptRecord) {
        let doubt = Doubt {
            message: attempt.message,
            epoch,
            attempt: attempt.number,
            recipients: attempt.recipients,
            next_hop: attempt.next_hop,
            started: attempt.started,
        };
        self.open.insert((epoch, attempt.number), Open { segment, doubt });
    }

    fn apply_outcome(&mut self, outcome: OutcomeRecord) {
        let attempt = outcome.attempt.and_then(|number| self.open.remove(&number)).map(|open| open.doubt);
        let mut message = self.message(outcome.message);
        for group in outcome.groups {
            let doubtful = matches!(group.verdict, Verdict::InDoubt { .. } | Verdict::InDoubtHeld);
            if doubtful && let Some((epoch, number)) = outcome.attempt {
                let recipients = group.recipients.clone();
                // Its ATTEMPT may have left with its segment, and with it the name of the hop.
                let doubt = attempt.clone().unwrap_or_else(|| Doubt {
                    message: outcome.message,
                    epoch,
                    attempt: number,
                    recipients: Vec::new(),
                    next_hop: "unknown".to_owned(),
                    started: outcome.at,
                });
                self.remember_doubt(Doubt { recipients, ..doubt });
            }
            if group.reply.as_ref().is_some_and(|reply| reply.text.starts_with(TAKEN_BEFORE)) {
                self.settle_doubts(outcome.message, &group.recipients);
            }
            for index in group.recipients {
                self.totals.in_doubt += u64::from(doubtful);
                let result = (group.verdict, group.reply.as_ref(), outcome.attempt.is_some());
                self.conclude(outcome.message, message.as_mut(), index, result);
            }
        }
        self.keep(outcome.message, message);
    }

    /// `message` is what is known of the message `key`; the result is a verdict, a reply, and whether an attempt came to it.
    fn conclude(
        &mut self,
        key: MessageKey,
        message: Option<&mut Message>,
        index: RecipientIndex,
        (verdict, reply, tried): (Verdict, Option<&Reply>, bool),
    ) {
        let standing = match message {
            None => None,
            Some(message) => match message.standings.get_mut(usize::from(index)) {
                Some(standing) if standing.state.is_final() => {
                    self.anomaly(format!("message {}: recipient {index} ended twice", self.show(key)));
                    return;
                }
                Some(standing) => Some(standing),
                None => {
                    self.anomaly(format!("message {}: there is no recipient {index}", self.show(key)));
                    return;
                }
            },
        };
        let (state, due) = match verdict {
            Verdict::Delivered => {
                self.totals.delivered += 1;
                (RecipientState::Delivered, None)
            }
            // Counted when the sender is told.
            Verdict::DeliveredOwed => (RecipientState::OwedSuccess, None),
            Verdict::Deferred { due } | Verdict::InDoubt { due } => (RecipientState::Queued, Some(due)),
            Verdict::InDoubtHeld => (RecipientState::Held, None),
            Verdict::Failed { how, owed: true } => (RecipientState::Owed(how), None),
            Verdict::Failed { how, owed: false } => {
                count_failure(&mut self.totals, how);
                (RecipientState::Failed(how), None)
            }
        };
        let Some(standing) = standing else { return };
        // Who was set aside or given up meanwhile does not come back because an older attempt came to nothing.
        let comes_back = state == RecipientState::Queued && standing.state != RecipientState::Queued;
        if !comes_back {
            standing.state = state;
        }
        standing.attempts = standing.attempts.saturating_add(u16::from(tried));
        standing.doubtful = matches!(verdict, Verdict::InDoubt { .. } | Verdict::InDoubtHeld);
        // An owner that lives says what it heard, or that it heard nothing; of a dead one nothing is known.
        let crashed = standing.doubtful && reply.is_none();
        standing.crashes = if crashed { standing.crashes.saturating_add(1) } else { 0 };
        standing.due = due.unwrap_or(standing.due);
        if let Some(reply) = reply {
            standing.last_reply = Some(Box::new(reply.clone()));
        }
    }

    fn settle(&mut self, settles: &Settles) {
        let mut message = self.message(settles.message);
        for (index, how) in &settles.recipients {
            if let Some(message) = &mut message {
                match message.standings.get_mut(usize::from(*index)) {
                    // It may have ended while the notification was made.
                    Some(standing) if *how == Told::Late => standing.warned = true,
                    Some(standing) if standing.state.is_owed() => {
                        standing.state = match *how {
                            Told::Failed(how) => RecipientState::Failed(how),
                            Told::Delivered | Told::Late => RecipientState::Delivered,
                        };
                    }
                    Some(_) | None => {
                        let shown = self.show(settles.message);
                        self.anomaly(format!(
                            "message {shown}: a notification of recipient {index}, who is not owed one"
                        ));
                        continue;
                    }
                }
            }
            match *how {
                Told::Failed(how) => count_failure(&mut self.totals, how),
                Told::Delivered => self.totals.delivered += 1,
                Told::Late => {}
            }
        }
        self.keep(settles.message, message);
    }

    fn apply_operate(&mut self, operate: &OperateRecord) {
        let Some(mut message) = self.message(operate.message) else {
            if operate.verb == Verb::Delete {
                self.totals.deleted += operate.recipients.len() as u64;
            }
            return;
        };
        for index in &operate.recipients {
            let Some(standing) = message.standings.get_mut(usize::from(*index)) else { continue };
            match (operate.verb, standing.state) {
                (Verb::Hold, RecipientState::Queued) => standing.state = RecipientState::Held,
                (Verb::Release, RecipientState::Held) => {
                    standing.state = RecipientState::Queued;
                    standing.due = operate.at;
                    // A person has looked at it.
                    (standing.doubtful, standing.crashes) = (false, 0);
                }
                (Verb::Retry, RecipientState::Queued) => standing.due = operate.at,
                (Verb::Redirect, RecipientState::Queued | RecipientState::Held) => {
                    standing.redirect.clone_from(&operate.to);
                    standing.due = operate.at;
                }
                // What was delivered was not deleted; only its sender does not know yet.
                (Verb::Delete, RecipientState::OwedSuccess) => {}
                (Verb::Delete, state) if !state.is_final() => {
                    standing.state = RecipientState::Deleted;
                    self.totals.deleted += 1;
                }
                (Verb::Hold | Verb::Release | Verb::Retry | Verb::Delete | Verb::Redirect, _) => {}
            }
        }
        self.keep(operate.message, Some(message));
    }

    fn apply_retire(&mut self, first_live: SegmentId) {
        self.first_live = self.first_live.max(first_live);
        self.memory.retire(self.first_live);
        let kept = self.live_bytes.split_off(&self.first_live);
        let retired = std::mem::replace(&mut self.live_bytes, kept);
        for (segment, bytes) in retired {
            if bytes > 0 {
                self.anomaly(format!("segment {segment}: retired with {bytes} live bytes"));
            }
        }
    }

    /// Takes back a message that was changed; one that is done goes.
    fn keep(&mut self, key: MessageKey, message: Option<Message>) {
        let Some(message) = message else { return };
        if !message.is_done() {
            let packed = Packed::of(&message, &mut self.scratch);
            self.put(key, packed);
            return;
        }
        if let Some(gone) = self.messages.remove(key) {
            self.tally.count(&gone, false);
            self.weigh((message.place.segment, message.frame_len), &message.body, false);
            self.unreplied.remove(&key);
        }
    }

    fn remember_doubt(&mut self, doubt: Doubt) {
        let name = |doubt: &Doubt| (doubt.epoch, doubt.attempt);
        // The head of the oldest segment may have named it.
        if self.doubts.iter().any(|known| name(known) == name(&doubt)) {
            return;
        }
        if self.doubts.len() >= DOUBTS_KEPT {
            self.doubts.pop_front();
        }
        self.doubts.push_back(doubt);
    }

    /// The host had them from the attempt in doubt, and took them once. Where several attempts are in doubt it is not known which of them
    /// reached this host: another one may have a copy, and all stay named.
    fn settle_doubts(&mut self, message: MessageKey, recipients: &[RecipientIndex]) {
        for index in recipients {
            let names = |doubt: &&mut Doubt| doubt.message == message && doubt.recipients.contains(index);
            let mut found = self.doubts.iter_mut().filter(names);
            if let (Some(doubt), None) = (found.next(), found.next()) {
                doubt.recipients.retain(|other| other != index);
            }
        }
        self.doubts.retain(|doubt| doubt.message != message || !doubt.recipients.is_empty());
    }

    fn anomaly(&mut self, text: String) {
        if self.anomalies.len() < ANOMALIES_KEPT {
            self.anomalies.push(text);
        }
    }

    fn show(&self, key: MessageKey) -> String {
        format!("{}-{:x}-{:x}", self.queue, key.epoch.0, key.sequence)
    }
}

fn count_failure(totals: &mut Totals, how: Failure) {
    match how {
        Failure::Bounced => totals.bounced += 1,
        Failure::Expired => totals.expired += 1,
    }
}
