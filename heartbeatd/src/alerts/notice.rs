//! What is told: that something should not be, or is over.

use std::time::Duration;

use mail_model::WallTime;

/// Something that should not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Names it: `takeover:b`.
    pub(crate) name: String,
    /// `warning` or `critical`.
    pub(crate) severity: &'static str,
    /// In a sentence.
    pub(crate) text: String,
    /// Told without waiting whether it lasts.
    pub(super) at_once: bool,
}

/// What is told about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It holds.
    Firing,
    /// It is over.
    Resolved,
    /// It is none: somebody tries the channels.
    Test,
}

impl Status {
    /// The word on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Test => "test",
        }
    }
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) status: Status,
    pub(crate) condition: Condition,
    /// How long it has held.
    pub(crate) lasted: Duration,
}

/// A thing to tell, as every channel gets it.
#[derive(Debug, Clone)]
pub(crate) struct Alert {
    /// One line: `[firing] takeover:b: node a has …`.
    pub(crate) subject: String,
    /// JSON, for programs.
    pub(crate) body: String,
    /// For people.
    pub(crate) text: String,
    pub(crate) status: Status,
    pub(crate) name: String,
    pub(crate) at: WallTime,
}
