//! The record of a decision, with what it rested on. Made for people who ask *why* afterwards.

use mail_model::{Epoch, NodeId, QueueId};
use serde::{Deserialize, Serialize};

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The top epoch has another owner than before.
    OwnerChanged,
    /// Renewals are late: watch closely.
    Suspected,
    /// The owner lives after all.
    StandDown,
    /// There is proof: probe, stagger, last read.
    Candidate,
    /// Start a secondary.
    Take,
    /// The secondary claimed the queue.
    Taken,
    /// Somebody else claimed it first.
    LostRace,
    /// Proof or not: this node does not take now.
    NotTaken,
    /// The home node is back; its stay is measured.
    HandbackWait,
    /// Hand the queue back.
    Handback,
    /// The home node owns its queue again.
    HandedBack,
    /// Start the own primary again.
    Restart,
    /// The own primary is dead and is not started again: the peers may take at once.
    InstanceDead,
    /// A secondary that ran before is watched on.
    Adopted,
    /// A device was promoted or released.
    Device,
    /// Nothing to decide, but somebody should know.
    Alarm,
    /// A pause began.
    Paused,
    /// A pause ended.
    Resumed,
}

/// The rule that fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// D1: unchanged over five good reads and the whole window.
    StaleWindow,
    /// The owner said RELEASED.
    Released,
    /// RELEASED and empty: there is nothing to take.
    ReleasedEmpty,
    /// The peer's heartbeatd says, authenticated, that the instance is dead.
    InstanceDead,
    /// The owner says that it cannot use its storage.
    StorageSick,
    /// The own secondary ended without releasing.
    SecondaryEnded,
    /// The own primary ended without releasing.
    PrimaryEnded,
    /// An operator ordered it.
    Operator,
    /// The owner's heartbeatd restarts it: local restart comes first.
    LocalRestart,
    /// The home node waits for its own queue and takes it itself.
    HomeWaits,
    /// D4: paused by an operator.
    Paused,
    /// D4: this node is being stopped.
    Draining,
    /// D3: the own primary's lease is stale too. A storage stall makes nobody eligible.
    OwnLeaseStale,
    /// D3: the write probe failed or took longer than R.
    ProbeSlow,
    /// D4: disk, files or memory.
    NoRoom,
    /// The lease cannot be read from here: this node is the sick one.
    Unreadable,
    /// Promoted storage: the old owner's side is primary still, and must be put off.
    NeedsFence,
    /// Promoted storage: the own copy is not current.
    CopyBehind,
    /// Promoted storage: nobody says whether the own copy is current.
    CopyUnknown,
    /// Promoted storage: the device, its register or its hook says so.
    Device,
    /// Secondaries were started too often.
    LaunchFails,
    /// The network is down on all paths, the lease is fresh: storage proves life.
    NetworkDown,
    /// The network is down on one path.
    PathDown,
    /// The home node stayed for the whole hold.
    HomeStayed,
    /// Three failovers within an hour: the queue stays where it is.
    Flapping,
    /// The lease says so.
    Lease,
    /// The restart budget is spent.
    BudgetSpent,
}

/// What a decision rested on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Owner of the top epoch.
    pub owner: Option<NodeId>,
    /// The top epoch.
    pub epoch: Epoch,
    /// Its last renewal.
    pub seq: u64,
    /// Good reads without a change.
    pub reads: u32,
    /// The time they span, ms.
    pub span_ms: u64,
    /// Paths on which the owner is heard.
    pub paths_up: u32,
    /// Paths there are.
    pub paths: u32,
    /// The write probe, ms.
    pub probe_ms: Option<u64>,
    /// This node's place in the takeover order, from 0.
    pub rank: u32,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// About which queue.
    pub queue: QueueId,
    /// What.
    #[serde(rename = "decision")]
    pub verdict: Verdict,
    /// By which rule.
    pub rule: Rule,
    /// In a sentence.
    pub text: String,
    /// The machine's state afterwards.
    pub state: String,
    /// What it rested on.
    pub evidence: Facts,
}
