//! What a witness can be asked: it keeps one register for each queue on promoted storage, and does nothing else with it.

use cluster::register::{Entry, Register, Version};
use mail_model::QueueId;
use serde::{Deserialize, Serialize};

use crate::line;

/// A request to a witness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What stands there now. Answer: [`Answer::Entry`].
    Read {
        /// The queue.
        queue: QueueId,
    },
    /// Change it, if it still is as it was read. Answer: [`Answer::Entry`] once that is on stable storage, or
    /// [`Answer::Changed`].
    Swap {
        /// The queue.
        queue: QueueId,
        /// As it was read.
        expected: Version,
        /// What shall stand there.
        register: Register,
    },
}

/// A witness's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What stands there.
    Entry(Entry),
    /// Somebody else changed it first: nothing was done.
    Changed,
}

impl line::Request for Request {
    type Answer = Answer;
}
