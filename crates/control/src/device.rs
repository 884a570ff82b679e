//! What a heartbeatd is asked about the devices of promoted storage, by programs of its own node only.

use mail_model::QueueId;
use serde::{Deserialize, Serialize};

use crate::line;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Is the device of this queue promoted and mounted here, and by which term? Asked by its switch. Answer:
    /// [`Answer::Held`].
    Held {
        /// The queue.
        queue: QueueId,
    },
    /// May this node's copy go on without the other one? Asked by the storage, whose writes stand still meanwhile. Answer:
    /// [`Answer::Granted`] once the arbiter has noted, durably, that this copy is the only current one.
    CopyAlone {
        /// The queue.
        queue: QueueId,
    },
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The term, if it is held.
    Held {
        /// See [`cluster::register::Register::term`].
        term: Option<u64>,
    },
    /// It may.
    Granted,
}

impl line::Request for Request {
    type Answer = Answer;
}
