//! A walk over all messages that keeps commits waiting for a moment only.

use mail_model::Epoch;

use crate::record::MessageKey;

/// How far a walk over all live messages has come that is made in stretches, so that commits come between two of them.
///
/// It goes in the order of their keys: who stays is seen once, and who comes meanwhile is seen, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Those from here on are still to be seen; after the last stretch there are none.
    from: Option<MessageKey>,
}

impl Walk {
    /// Messages that are looked at while commits wait, about.
    pub(super) const STRETCH: usize = 16_384;

    /// Nothing was seen.
    #[must_use]
    pub fn new() -> Self {
        Self { from: Some(MessageKey { epoch: Epoch(0), sequence: 0 }) }
    }

    pub(super) fn from(self) -> Option<MessageKey> {
        self.from
    }

    pub(super) fn go_on(&mut self, next: Option<MessageKey>) {
        self.from = next;
    }

    /// All were seen.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.from.is_none()
    }
}

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}
