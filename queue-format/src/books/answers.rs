//! What the books answer.

use std::collections::BTreeMap;

use mail_model::{Epoch, QueueId, RecipientIndex, SegmentId, WallTime};

use super::message::Message;
use super::packed::Packed;
use super::walk::Walk;
use super::{Balance, Books, Tally};
use crate::record::{Doubt, Handover, MessageKey, RecipientState, Taken, Told, Totals};

impl Books {
    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &QueueId {
        &self.queue
    }

    /// A live message.
    #[must_use]
    pub fn message(&self, key: MessageKey) -> Option<Message> {
        self.messages.get(key)?.open()
    }

    /// True if there is such a message.
    #[must_use]
    pub fn is_live(&self, key: MessageKey) -> bool {
        self.messages.get(key).is_some()
    }

    /// All live messages, in the order of their keys.
    pub fn messages(&self) -> impl Iterator<Item = (MessageKey, Message)> {
        self.messages.iter().filter_map(|(key, packed)| Some((key, packed.open()?)))
    }

    /// Live messages of the next stretch of `walk` that were accepted after `since`, and no later than `until`. Opens
    /// no message.
    pub fn accepted_within(
        &self,
        since: WallTime,
        until: WallTime,
        walk: &mut Walk,
    ) -> impl Iterator<Item = MessageKey> {
        let within =
            move |packed: &Packed| (since.0.saturating_add(1)..=until.0).contains(&packed.received().0);
        self.messages.stretch(walk).filter(move |(_, packed)| within(packed)).map(|(key, _)| key)
    }

    /// When the oldest message of the next stretch of `walk` was accepted.
    pub fn oldest_of(&self, walk: &mut Walk) -> Option<WallTime> {
        self.messages.stretch(walk).map(|(_, packed)| packed.received()).min()
    }

    /// When the oldest live message was accepted. Walks all messages.
    #[must_use]
    pub fn oldest(&self) -> Option<WallTime> {
        self.messages.values().map(Packed::received).min()
    }

    /// How many messages are live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// True if no message is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The sums.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Attempts without an outcome, oldest first. For a new owner those of older epochs are in doubt.
    pub fn open_attempts(&self) -> impl Iterator<Item = &Doubt> {
        self.open.values().map(|open| &open.doubt)
    }

    /// The oldest segment with the ATTEMPT of an attempt that has no outcome. It must not be retired: who recovers without
    /// that record delivers again without a doubt.
    #[must_use]
    pub fn first_attempted(&self) -> Option<SegmentId> {
        self.open.values().map(|open| open.segment).min()
    }

    /// The newest attempts whose outcome nobody will ever know.
    pub fn doubts(&self) -> impl Iterator<Item = &Doubt> {
        self.doubts.iter()
    }

    /// Live recipients whose sender has not been told of their end.
    pub fn owed(&self) -> impl Iterator<Item = (MessageKey, RecipientIndex, Told)> {
        self.messages.iter().flat_map(|(key, message)| {
            (0..).zip(message.glance()).filter_map(move |(index, glance)| match glance.state {
                RecipientState::Owed(how) => Some((key, index, Told::Failed(how))),
                RecipientState::OwedSuccess => Some((key, index, Told::Delivered)),
                RecipientState::Queued
                | RecipientState::Held
                | RecipientState::Delivered
                | RecipientState::Failed(_)
                | RecipientState::Deleted => None,
            })
        })
    }

    /// Live messages of `epoch` whose client may not have seen its 250: it may send them again.
    #[must_use]
    pub fn unreplied(&self, epoch: Epoch) -> usize {
        self.unreplied.iter().filter(|key| key.epoch == epoch).count()
    }

    /// Messages that were handed over under this name, by whomever, whether they are live or not.
    pub fn handed_over(&self, id: &str) -> impl Iterator<Item = (MessageKey, &Handover)> {
        self.memory.under(id)
    }

    /// Hand-overs that are known by a record in a segment before this one, of messages accepted since then.
    #[must_use]
    pub fn handovers_before(&self, segment: SegmentId, since: WallTime) -> Vec<Taken> {
        self.memory.before(segment, since)
    }

    /// How many hand-overs are remembered.
    #[must_use]
    pub fn handovers(&self) -> usize {
        self.memory.len()
    }

    /// About how many bytes of memory that takes.
    #[must_use]
    pub fn handovers_weight(&self) -> usize {
        self.memory.weight()
    }

    /// Every segment before this one is retired.
    #[must_use]
    pub fn first_live(&self) -> SegmentId {
        self.first_live
    }

    /// Bytes that live messages occupy in each segment that is not retired, oldest first.
    #[must_use]
    pub fn live_bytes(&self) -> &BTreeMap<SegmentId, u64> {
        &self.live_bytes
    }

    /// Live messages with a frame or chunk in `segment`, in the order of their keys.
    pub fn messages_in(&self, segment: SegmentId) -> impl Iterator<Item = MessageKey> {
        let found = self.messages.iter().filter(move |(_, message)| message.lies_in(segment));
        found.map(|(key, _)| key)
    }

    /// What could not be true and was met all the same. Empty in every queue that was not damaged.
    #[must_use]
    pub fn anomalies(&self) -> &[String] {
        &self.anomalies
    }

    /// True if the last record was CLEAN: its owner left with no attempt open.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// What is there.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// When the first thing is to be done about each live message that has something to do. Opens no message.
    pub fn agenda(&self) -> impl Iterator<Item = (WallTime, MessageKey)> {
        self.messages.iter().filter_map(|(key, message)| {
            let waits = |state: RecipientState| state == RecipientState::Queued || state.is_owed();
            let due = message.glance().filter(|glance| waits(glance.state)).map(|glance| glance.due).min();
            due.map(|due| (due, key))
        })
    }

    /// The proof: the sums against a count of what is there.
    #[must_use]
    pub fn balance(&self) -> Balance {
        let waiting = |m: &Packed| m.glance().filter(|s| !s.state.is_final()).count() as u64;
        let queued = self.messages.values().map(waiting).sum();
        let holds = self.totals.queued() == Some(queued) && self.tally.live() == queued;
        Balance { totals: self.totals, queued, holds }
    }
}
