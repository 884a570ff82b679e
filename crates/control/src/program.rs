//! Who can be asked on a node.

use std::fmt;
use std::path::{Path, PathBuf};

use mail_model::QueueId;
use serde::{Deserialize, Serialize};

use crate::paths;

/// A program of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// Its heartbeatd.
    Heartbeatd,
    /// The registers that it keeps as a witness.
    Witness,
    /// The switch that owns this queue there, at home or as its secondary.
    Switch(QueueId),
}

impl Program {
    /// Its socket below the node's `node.state_dir`.
    #[must_use]
    pub fn socket(&self, state_dir: &Path) -> PathBuf {
        match self {
            Self::Heartbeatd => paths::heartbeatd(state_dir),
            Self::Witness => paths::witness(state_dir),
            Self::Switch(queue) => paths::switch(state_dir, queue),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heartbeatd => f.write_str("heartbeatd"),
            Self::Witness => f.write_str("the witness"),
            Self::Switch(queue) => write!(f, "the switch of queue {queue}"),
        }
    }
}
