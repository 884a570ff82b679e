//! How far a takeover has come.

use std::time::Duration;

use mail_model::{Epoch, Moment};

use super::decision::Rule;

/// Proof was found; what is still to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) since: Moment,
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    pub(super) probe: Option<Duration>,
    pub(super) reread_asked: bool,
    pub(super) reread: bool,
}

/// Whether the lease was read since the secondary ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Unread,
    Read,
}

/// A secondary was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taking {
    pub(super) expected: Epoch,
    pub(super) since: Moment,
    pub(super) rule: Rule,
}
