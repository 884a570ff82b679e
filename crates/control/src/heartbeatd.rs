//! What a `heartbeatd` can be asked.

use std::net::SocketAddr;

use cluster::device::Word;
use cluster::drill::{DrillOrder, DrillWord};
use mail_model::{Epoch, LeaseState, NodeId, QueueId, WallTime};
use serde::{Deserialize, Serialize};

use crate::line;

/// A request to a heartbeatd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What it sees. Answer: [`Answer::Status`].
    Status,
    /// Take the queue over to this node now. Answer: [`Answer::Done`] once begun.
    Takeover {
        /// The queue, by the name of its home node.
        queue: QueueId,
        /// Why, for the record.
        reason: String,
    },
    /// Give the queue of `node` back to it. Answer: [`Answer::Done`] once begun.
    Handback {
        /// The home node.
        node: NodeId,
    },
    /// No takeover by itself for a while. Answer: [`Answer::Done`].
    Pause {
        /// How long, in milliseconds.
        for_ms: u64,
        /// Why, for the record.
        reason: String,
    },
    /// End a pause. Answer: [`Answer::Done`].
    Resume,
    /// Let a drill hit another node. Answer: [`Answer::Done`] once it is said; the peer's word tells what came of it.
    Drill(DrillOrder),
    /// Start this node's own switch, if it does not run. Answer: [`Answer::Done`] once begun.
    StartPrimary,
    /// End the drill that hits this node before its time. Answer: [`Answer::Done`].
    DrillEnd,
    /// Try every channel of alerts. Answer: [`Answer::Done`] with what came of each, or `failed` with the same.
    AlertTest,
    /// Change the levels of its log. Answer: [`Answer::Done`] with the levels that hold then.
    Log {
        /// `SUBSYSTEM=LEVEL`; empty to only ask.
        order: String,
    },
    /// The records of decisions on the queue of `node`, oldest first. Answer: [`Answer::Records`].
    Why {
        /// The home node.
        node: NodeId,
    },
    /// The latest records of decisions, oldest first. Answer: [`Answer::Records`].
    History {
        /// At most so many.
        limit: u32,
    },
}

/// A heartbeatd's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What it sees.
    Status(Box<HeartbeatdStatus>),
    /// Carried out, or begun.
    Done {
        /// A sentence for people.
        message: String,
    },
    /// Records of decisions with their evidence, as they were written.
    Records(Vec<serde_json::Value>),
}

impl line::Request for Request {
    type Answer = Answer;
}

/// What one heartbeatd sees of the cluster. Every age is measured on its own clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatdStatus {
    /// The node it runs on.
    pub node: NodeId,
    /// The number of this run's heartbeats: grows with each start.
    pub incarnation: u64,
    /// The other nodes.
    pub peers: Vec<PeerStatus>,
    /// All queues of the cluster.
    pub queues: Vec<QueueStatus>,
    /// In a word, how well mail is protected now, and why if not well.
    pub protection: String,
    /// Why this node could take no queue over now; empty if it could.
    #[serde(default)]
    pub unfit: Vec<String>,
    /// End of a pause, if there is one.
    pub paused_until: Option<WallTime>,
    /// A digest of its cluster configuration, as the peers are told it.
    #[serde(default)]
    pub config_hash: String,
    /// Where this node takes mail; none if nowhere.
    #[serde(default)]
    pub smtp: Option<SocketAddr>,
    /// A drill on this node.
    #[serde(default)]
    pub drill: Option<DrillWord>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub node: NodeId,
    /// The ways its heartbeats come.
    pub paths: Vec<PathStatus>,
    /// Whom it hears, as it said last.
    #[serde(default)]
    pub hears: Vec<HearsStatus>,
    /// What it says of itself; empty before its first heartbeat.
    pub state: String,
    /// Its version; empty before its first heartbeat.
    pub version: String,
    /// A digest of its cluster configuration; empty before its first heartbeat.
    pub config_hash: String,
    /// Its takeovers are paused.
    #[serde(default)]
    pub paused: bool,
    /// Where it takes mail; none if it does not say.
    #[serde(default)]
    pub smtp: Option<SocketAddr>,
    /// What it says of a drill on itself.
    #[serde(default)]
    pub drill: Option<DrillWord>,
    /// It has no queue and takes none over.
    #[serde(default)]
    pub witness: bool,
}

impl PeerStatus {
    /// True if it is heard on a path.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.paths.iter().any(|path| path.up)
    }

    /// True if it could take a queue over, as far as it is seen from here.
    #[must_use]
    pub fn may_take(&self) -> bool {
        !self.witness && self.state == "up" && !self.paused && self.is_heard()
    }
}

/// What a node says of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HearsStatus {
    /// The other one.
    pub node: NodeId,
    /// On so many paths it hears it.
    pub paths: u32,
}

/// One way to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    /// The peer's heartbeat address.
    pub address: String,
    /// Since its last heartbeat, in milliseconds; none before the first.
    pub heard_ms_ago: Option<u64>,
    /// Whether heartbeats come.
    pub up: bool,
}

/// A queue of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Its name: its home node's.
    pub queue: QueueId,
    /// The state of the machine that watches it, named as in the protocol: `HEALTHY`, `WATCHING`, …
    pub state: String,
    /// The node of its top epoch's owner; none before the first claim or while unreadable.
    pub owner: Option<NodeId>,
    /// Its top epoch; 0 before the first claim.
    pub epoch: Epoch,
    /// What the owner says; none before the first claim or while unreadable.
    pub lease_state: Option<LeaseState>,
    /// Since the last renewal was seen, in milliseconds; none if none was.
    pub lease_age_ms: Option<u64>,
    /// The last renewal's number.
    pub seq: u64,
    /// More, for people; often empty.
    pub detail: String,
    /// The secondary switch that this node's heartbeatd runs for it as its child. None for a unit of systemd.
    pub secondary_pid: Option<u32>,
    /// On promoted storage: how its device stands, as this node sees it.
    #[serde(default)]
    pub device: String,
    /// And what is wrong with it.
    #[serde(default)]
    pub device_fault: Option<Word>,
}
