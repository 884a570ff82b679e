//! How far a client has come with its authentication.

use std::sync::Arc;

use crate::sasl::Mechanism;

/// It is here that a session remembers it.
#[derive(Debug, Default)]
pub(super) struct Login {
    /// Those that may be used. Not empty: one of them must be.
    pub(super) mechanisms: Arc<[Mechanism]>,
    /// The client is who it says.
    pub(super) done: bool,
    /// Failures so far.
    pub(super) failed: u32,
}
