//! Records: what the meta of a frame says. One record a frame; the kind stands in the frame's header.
//!
//! | kind | what it says | who is bound by it |
//! |---|---|---|
//! | `SEGMENT` | first frame of every segment: whose, since when, the books so far | recovery starts its sums here |
//! | `SEAL` | first record of an epoch: where every older epoch ends | nothing behind those ends is ever mail |
//! | `CHUNK` | a piece of a large message; the bytes are the frame's body | the `MESSAGE` that names it |
//! | `MESSAGE` | envelope and content (the body, or named chunks): the message exists | the 250 |
//! | `CARRY` | the same message with all its state, moved to a younger segment | replaces what older segments said |
//! | `ATTEMPT` | these recipients are about to be tried | the final dot |
//! | `OUTCOME` | what became of them | who is still queued, who is owed a bounce |
//! | `OPERATE` | an operator's verb: hold, release, delete, retry | the same |
//! | `NEXT` | the next segment exists and goes on from here | recovery never depends on a directory listing |
//! | `RETIRE` | every segment before this one may be gone | an unlink |
//! | `REPLIED` | lazy, never waited for: the client has its 250 | bounds what a crash leaves unacknowledged |
//! | `CLEAN` | no attempt is open; this owner writes no more | hand-back without doubt |
//! | `TAKEN` | by what repeats of hand-overs are recognised, moved to a younger segment, or no longer needed | a 250 to a repeat |

mod codec;
mod envelope;
mod handover;

use mail_model::{
    AttemptNumber, Epoch, InstanceId, NodeId, QueueId, RecipientIndex, Reply, SegmentId, WallTime,
};

pub use handover::{Handover, Incoming};

pub use envelope::{count_recipients, decode_envelope, encode_envelope, is_marked_held, mark_held};

/// The kind of a record, as the frame's header has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the table above says what each means")]
pub enum Kind {
    Segment = 1,
    Seal = 2,
    Chunk = 3,
    Message = 4,
    Carry = 5,
    Attempt = 6,
    Outcome = 7,
    Operate = 8,
    Next = 9,
    Retire = 10,
    Replied = 11,
    Clean = 12,
    Taken = 13,
}

/// A message within its queue: the queue's name is known from the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKey {
    /// The ownership under which it was accepted.
    pub epoch: Epoch,
    /// From 1 within the epoch.
    pub sequence: u64,
}

/// Counts of recipients over the whole history of a queue, except where said. They only grow.
/// `accepted + generated = delivered + bounced + expired + deleted + queued` at every moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// Messages (not recipients) accepted from clients.
    pub messages: u64,
    /// Accepted from clients.
    pub accepted: u64,
    /// Made by the switch itself: notifications.
    pub generated: u64,
    /// A next hop took responsibility.
    pub delivered: u64,
    /// Failed for good, and reported where a report was due.
    pub bounced: u64,
    /// Lifetime over, and reported where a report was due.
    pub expired: u64,
    /// Removed by an operator.
    pub deleted: u64,
    /// Recipients of attempts whose outcome nobody knows: each may have been sent once more than `delivered` says.
    pub in_doubt: u64,
}

impl Totals {
    /// Recipients that must still be in the queue by these sums; `None` if the sums contradict themselves.
    #[must_use]
    pub fn queued(&self) -> Option<u64> {
        let gone =
            self.delivered.checked_add(self.bounced)?.checked_add(self.expired)?.checked_add(self.deleted)?;
        self.accepted.checked_add(self.generated)?.checked_sub(gone)
    }
}

/// An attempt that was begun and whose outcome nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The message.
    pub message: MessageKey,
    /// The epoch that began it.
    pub epoch: Epoch,
    /// Its number there.
    pub attempt: AttemptNumber,
    /// Who may have got it.
    pub recipients: Vec<RecipientIndex>,
    /// Where it went.
    pub next_hop: String,
    /// When it began.
    pub started: WallTime,
}

/// First record of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRecord {
    /// [`crate::FORMAT_VERSION`] of its writer.
    pub version: u16,
    /// The cluster.
    pub cluster: String,
    /// The queue.
    pub queue: QueueId,
    /// The node that wrote it.
    pub owner: NodeId,
    /// The run of the program that wrote it.
    pub instance: InstanceId,
    /// For people.
    pub opened: WallTime,
    /// Every segment before this one is retired.
    pub first_live: SegmentId,
    /// The sums over everything before this segment.
    pub totals: Totals,
    /// The newest doubts, at most [`DOUBTS_KEPT`].
    pub doubts: Vec<Doubt>,
}

/// How many doubts a segment's first record names.
pub const DOUBTS_KEPT: usize = 1_000;

/// Where an older epoch ends. Nothing of it behind this point is ever read as mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealEntry {
    /// Its last segment.
    pub segment: SegmentId,
    /// Effective bytes of that segment.
    pub len: u64,
    /// Number of the first frame that does not count.
    pub number: u64,
    /// Crc of the last frame that counts.
    pub chain: u32,
}

/// One piece of a large message: the body of a `CHUNK` frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// The segment.
    pub segment: SegmentId,
    /// Where the bytes start in the file.
    pub offset: u64,
    /// How many.
    pub len: u32,
    /// Their crc32c.
    pub crc: u32,
}

/// Where the content of a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// It is the body of this very frame.
    Inline,
    /// These pieces, in order.
    Chunks(Vec<ChunkRef>),
}

/// How a recipient left the queue without being delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// Refused for good.
    Bounced,
    /// Lifetime over.
    Expired,
}

/// What a sender is told of one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Told {
    /// It failed, and this ends it.
    Failed(Failure),
    /// It was delivered, and this ends it.
    Delivered,
    /// It is late. It goes on waiting, and its sender is not told so again.
    Late,
}

/// What a notification settles: it is written in the notification's own record, so that it and the end of what it reports are
/// one write, and no crash makes two notifications or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settles {
    /// The message reported on.
    pub message: MessageKey,
    /// The recipients reported on, with what is said of each.
    pub recipients: Vec<(RecipientIndex, Told)>,
}

/// A message comes into being.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRecord {
    /// Its name.
    pub key: MessageKey,
    /// When it was accepted.
    pub received: WallTime,
    /// Bytes of content, the Received field on top included.
    pub size: u64,
    /// Who sent it, for the log: `client 192.0.2.1 helo mx.example`.
    pub origin: String,
    /// The envelope, see [`encode_envelope`].
    pub envelope: Vec<u8>,
    /// Where the content is.
    pub content: Content,
    /// For a notification: what it settles.
    pub settles: Option<Settles>,
    /// For one that a client named, so that it is taken once: by what a repeat is recognised. Never beside `settles`.
    pub handover: Option<Box<Handover>>,
}

/// A message's record, of which nothing was copied that may be long.
#[derive(Debug)]
pub(crate) struct MessageView<'a> {
    pub(crate) key: MessageKey,
    pub(crate) received: WallTime,
    pub(crate) size: u64,
    pub(crate) origin: &'a str,
    pub(crate) envelope: &'a [u8],
    pub(crate) content: Content,
    pub(crate) settles: Option<Settles>,
    pub(crate) handover: Option<Box<Handover>>,
}

/// Where one recipient stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecipientState {
    /// To be tried, not before its due time.
    Queued,
    /// Set aside by an operator or a policy.
    Held,
    /// Failed; the sender has not been told yet.
    Owed(Failure),
    /// A next hop took responsibility; the sender asked to be told, and has not been yet. It counts as queued until then.
    OwedSuccess,
    /// A next hop took responsibility.
    Delivered,
    /// Failed, and the sender told where due.
    Failed(Failure),
    /// Removed by an operator.
    Deleted,
}

impl RecipientState {
    /// True if nothing will ever happen to this recipient again.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed(_) | Self::Deleted)
    }

    /// True if it is owed word of its end: nothing else will happen to it.
    #[must_use]
    pub fn is_owed(self) -> bool {
        matches!(self, Self::Owed(_) | Self::OwedSuccess)
    }
}

/// One recipient's whole standing, as a `CARRY` moves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientStanding {
    /// Where it stands.
    pub state: RecipientState,
    /// Attempts that ended, doubtful ones included.
    pub attempts: u16,
    /// Not before this time.
    pub due: WallTime,
    /// The last thing a next hop said, for reports. Empty at first.
    pub last_reply: Option<Reply>,
    /// Its sender was told that it is late.
    pub warned: bool,
    /// Its last attempt ended in doubt.
    pub doubtful: bool,
    /// Attempts, without one that ended in between, that were open when their owner died.
    pub crashes: u8,
    /// Where it goes whatever its route says, if an operator said so.
    pub redirect: Option<Box<str>>,
}

/// A live message moves to a younger segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarryRecord {
    /// The message as it was accepted, its content now here. `settles` and `handover` are always `None`.
    pub message: MessageRecord,
    /// One for each recipient of the envelope.
    pub recipients: Vec<RecipientStanding>,
}

/// A delivery is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Unique within the epoch.
    pub number: AttemptNumber,
    /// The message.
    pub message: MessageKey,
    /// Those in this transaction.
    pub recipients: Vec<RecipientIndex>,
    /// Where it goes.
    pub next_hop: String,
    /// When.
    pub started: WallTime,
}

/// What became of some recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A next hop took responsibility.
    Delivered,
    /// The same, and the sender, who asked for it, is to be told by us.
    DeliveredOwed,
    /// Not now; again at this time.
    Deferred {
        /// Not before.
        due: WallTime,
    },
    /// For good. `owed`: the sender is to be told.
    Failed {
        /// Refused, or lifetime over.
        how: Failure,
        /// A bounce is due.
        owed: bool,
    },
    /// The owner that tried is gone and nobody knows; tried again at this time.
    InDoubt {
        /// Not before.
        due: WallTime,
    },
    /// The owner that tried is gone and nobody knows; a person decides.
    InDoubtHeld,
}

/// Recipients that share a verdict and a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeGroup {
    /// What became of them.
    pub verdict: Verdict,
    /// What was said, by the next hop or by us.
    pub reply: Option<Reply>,
    /// Who.
    pub recipients: Vec<RecipientIndex>,
}

/// An attempt ended, or recipients left the queue without one (`attempt` is `None`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeRecord {
    /// The message.
    pub message: MessageKey,
    /// The attempt, with the epoch that began it.
    pub attempt: Option<(Epoch, AttemptNumber)>,
    /// When.
    pub at: WallTime,
    /// Disjoint groups.
    pub groups: Vec<OutcomeGroup>,
}

/// An operator's verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Queued → held.
    Hold,
    /// Held → queued, due at once.
    Release,
    /// Anything not final → deleted, nobody is told.
    Delete,
    /// Queued: due at once.
    Retry,
    /// Queued or held: goes to another next hop from now on, or by its route again.
    Redirect,
}

/// An operator's verb on some recipients of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperateRecord {
    /// The message.
    pub message: MessageKey,
    /// What to do.
    pub verb: Verb,
    /// Who, each by index: never empty.
    pub recipients: Vec<RecipientIndex>,
    /// When.
    pub at: WallTime,
    /// Who ordered it, and why: for the audit.
    pub by: String,
    /// For [`Verb::Redirect`]: to where; `None` for the route's own next hop. Not written for other verbs.
    pub to: Option<Box<str>>,
}

/// A message that was taken, and by what its repeat is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The message. It may have left the queue long ago.
    pub message: MessageKey,
    /// When it was accepted.
    pub received: WallTime,
    /// The rest.
    pub handover: Box<Handover>,
}

/// What is still known of messages whose own records are gone, and of which nothing needs to be known any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TakenRecord {
    /// Known from here on by this record.
    pub remembered: Vec<Taken>,
    /// Whoever handed these over will not repeat it.
    pub forgotten: Vec<MessageKey>,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table at the top says what each means")]
pub enum Record {
    Segment(SegmentRecord),
    Seal(Vec<SealEntry>),
    Chunk { message: MessageKey },
    Message(MessageRecord),
    Carry(CarryRecord),
    Attempt(AttemptRecord),
    Outcome(OutcomeRecord),
    Operate(OperateRecord),
    Next { segment: SegmentId },
    Retire { first_live: SegmentId },
    Replied(Vec<MessageKey>),
    Clean { totals: Totals },
    Taken(TakenRecord),
}

impl Record {
    /// The kind, as it stands in the frame's header.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Segment(_) => Kind::Segment,
            Self::Seal(_) => Kind::Seal,
            Self::Chunk { .. } => Kind::Chunk,
            Self::Message(_) => Kind::Message,
            Self::Carry(_) => Kind::Carry,
            Self::Attempt(_) => Kind::Attempt,
            Self::Outcome(_) => Kind::Outcome,
            Self::Operate(_) => Kind::Operate,
            Self::Next { .. } => Kind::Next,
            Self::Retire { .. } => Kind::Retire,
            Self::Replied(_) => Kind::Replied,
            Self::Clean { .. } => Kind::Clean,
            Self::Taken(_) => Kind::Taken,
        }
    }
}
