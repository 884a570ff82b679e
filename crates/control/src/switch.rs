//! What a `switch` can be asked.

use mail_model::{Epoch, MessageId, NodeId, QueueId, Role};
use serde::{Deserialize, Serialize};

use crate::line;

/// The most messages of one [`Request::Operate`].
pub const OPERATE_MESSAGES_MAX: usize = 1_000;
/// The longest reason of one [`Request::Operate`], in bytes.
pub const OPERATE_REASON_BYTES_MAX: usize = 1_000;

/// A request to a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How it stands. Answer: [`Answer::Status`].
    Status,
    /// Hand the queue back: no new attempts, wait for the running ones, mark the queue clean, release it, exit.
    /// Answer: [`Answer::Done`], once that has begun.
    Drain {
        /// The longest to wait for running attempts, in milliseconds.
        grace_ms: u64,
        /// Before that, for so many milliseconds, only health probes say that no new mail is taken: load balancers go
        /// elsewhere before a client is turned away.
        #[serde(default)]
        notice_ms: u64,
    },
    /// Read the configuration again. Answer: [`Answer::Done`], or `failed` with every fault of the new one; the old
    /// one then stays.
    Reload,
    /// Its state, and whether it takes new mail. Cheap: heartbeatd asks several times a second. Answer: [`Answer::Ready`].
    Ready,
    /// Change the levels of its log. Answer: [`Answer::Done`] with the levels that hold then.
    Log {
        /// `SUBSYSTEM=LEVEL`; empty to only ask.
        order: String,
    },
    /// What it counted and how it stands, for Prometheus. Answer: [`Answer::Metrics`].
    Metrics,
    /// Let the storage of the queue be in trouble for a while, for a drill. It ends by itself. Answer: [`Answer::Done`].
    Trouble {
        /// What.
        trouble: Trouble,
        /// For how long, in milliseconds; 0 ends it now.
        for_ms: u64,
    },
    /// Carry an operator's verb out on every recipient of these messages that it applies to. Durable when it is
    /// answered. Answer: [`Answer::Operated`].
    Operate {
        /// What to do.
        verb: Verb,
        /// At most [`OPERATE_MESSAGES_MAX`].
        messages: Vec<MessageId>,
        /// Who ordered it and why, `USER@HOST: REASON`, for the audit; at most [`OPERATE_REASON_BYTES_MAX`] bytes of
        /// one line.
        reason: String,
        /// For [`Verb::Redirect`]: the next hop as in a route; `None` for the route's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// Begin no attempt for recipients of a domain for some time. Answer: [`Answer::Done`].
    Suspend {
        /// `example.test`, or `.example.test` for all below it.
        domain: String,
        /// For how long, in milliseconds, from now.
        for_ms: u64,
        /// Who ordered it and why, for the audit.
        reason: String,
    },
    /// The next lines of SMTP dialogues that are held now. Answer: [`Answer::Traced`].
    Trace {
        /// Who asks; known from its first question on, and forgotten when it does not ask for half a minute.
        id: String,
        /// Which dialogues.
        way: TraceWay,
        /// With whom: an address, a network, or a part of a name; empty for everybody. Only the first question's counts.
        with: String,
        /// How long to wait for a line, in milliseconds.
        wait_ms: u64,
    },
    /// End that. Answer: [`Answer::Done`].
    Unsuspend {
        /// The domain as it was suspended.
        domain: String,
        /// Who ordered it and why, for the audit.
        reason: String,
    },
}

/// Dialogues of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceWay {
    /// With clients.
    In,
    /// With next hops.
    Out,
}

/// Lines of dialogues.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traced {
    /// In the order they were said.
    pub lines: Vec<TraceLine>,
    /// Lines that were lost before these because nobody fetched them.
    pub dropped: u64,
}

/// One line of a dialogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Which dialogue, numbered by the switch.
    pub dialogue: u64,
    /// With whom.
    pub with: String,
    /// `C` for who gives mail, `S` for who takes it, `-` for the end.
    pub by: String,
    /// What was said, without messages and proofs of identity.
    pub text: String,
}

/// What a drill can do to the storage of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// No space is left on it.
    DiskFull,
    /// It does not answer.
    StorageHang,
}

/// What an operator can do to messages in the queue. An attempt that runs is finished: what it delivers is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Sets queued recipients aside: they are not tried.
    Hold,
    /// Lets held recipients be tried again, at once.
    Release,
    /// Tries queued recipients at once, whatever their time and whatever is known of their next hop.
    Retry,
    /// Gives recipients up: the sender is told. Those in a running attempt are left to it.
    Bounce,
    /// Takes recipients out of the queue for good. Nobody is told.
    Delete,
    /// Sends recipients to another next hop from now on, or by their route again.
    Redirect,
}

impl Verb {
    /// The word on the wire and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Retry => "retry",
            Self::Bounce => "bounce",
            Self::Delete => "delete",
            Self::Redirect => "redirect",
        }
    }
}

/// A switch's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How it stands.
    Status(Box<SwitchStatus>),
    /// Whether it takes new mail.
    Ready(Readiness),
    /// Carried out, or begun.
    Done {
        /// A sentence for people.
        message: String,
    },
    /// Carried out on so many.
    Operated(Operated),
    /// Lines of dialogues.
    Traced(Traced),
    /// What is counted.
    Metrics {
        /// In Prometheus' text format.
        page: String,
    },
}

/// The file in a queue's directory where its owner keeps the suspensions: a list of [`Suspension`].
pub const SUSPENSIONS_FILE: &str = "suspended";

/// A domain to which nothing is sent for some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// `example.test`, or `.example.test` for all below it.
    pub domain: String,
    /// Until when, in milliseconds since 1970.
    pub until_ms: u64,
    /// Who ordered it, and why.
    pub by: String,
}

/// What became of a [`Request::Operate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Operated {
    /// Messages with a recipient that was moved.
    pub messages: u64,
    /// Recipients that were moved.
    pub recipients: u64,
    /// Messages that are not in the queue: delivered, bounced, deleted, or never there.
    pub absent: u64,
}

impl line::Request for Request {
    type Answer = Answer;
}

/// Whether a switch takes new mail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Readiness {
    /// Its state, named as in the protocol: `ACTIVE`, `DRAINING`, …
    pub state: String,
    /// It does.
    pub ready: bool,
    /// Why not; empty if it does.
    pub reasons: Vec<String>,
}

/// How a switch stands. Counts are of this instance, since its start, unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchStatus {
    /// The node it runs on.
    pub node: NodeId,
    /// The queue it owns or wants to own.
    pub queue: QueueId,
    /// Its ownership; 0 before the claim.
    pub epoch: Epoch,
    /// At home or elsewhere.
    pub role: Role,
    /// Its state, named as in the protocol: `ACTIVE`, `DRAINING`, …
    pub state: String,
    /// Messages in the queue now.
    pub queued_messages: u64,
    /// Recipients in the queue now.
    pub queued_recipients: u64,
    /// Age of the oldest message in the queue; 0 for an empty one.
    pub oldest_age_ms: u64,
    /// Attempts found without an outcome at the takeover of the queue: each may be delivered twice.
    pub in_doubt: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Recipients delivered.
    pub delivered: u64,
    /// Recipients bounced.
    pub bounced: u64,
    /// Open SMTP connections of clients.
    pub connections: u64,
    /// The program's version.
    pub version: String,
    /// A digest of the configuration in use.
    pub config_hash: String,
    /// This run of the program.
    pub instance: String,
    /// Its process.
    pub pid: u32,
    /// Whether it takes new mail.
    pub ready: bool,
    /// Why it does not; empty if it does.
    pub reasons: Vec<String>,
    /// The journal.
    pub commit: CommitStatus,
}

/// What the journal did since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommitStatus {
    /// Group commits, each with one fdatasync.
    pub batches: u64,
    /// Messages in them.
    pub messages: u64,
    /// Half of the latest commits took no longer, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 of the latest commits took no longer, in microseconds.
    pub p99_us: u64,
}
