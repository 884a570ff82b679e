//! A walk over all messages that keeps commits waiting for a moment only.

use std::ops::Range;

/// Messages that are looked at while commits wait.
const STRETCH: usize = 16_384;

/// How far a walk over all live messages has come that is made in stretches, so that commits come between two of them.
///
/// It goes from the last message to the first: where one leaves meanwhile the last one takes its place, and that was seen. So who
/// stays is seen, perhaps twice; who comes meanwhile is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Those with a lower number are still to be seen.
    left: usize,
}

impl Walk {
    /// Nothing was seen.
    #[must_use]
    pub fn new() -> Self {
        Self { left: usize::MAX }
    }

    /// The numbers of the next stretch, of `len` messages that there are now.
    pub(super) fn next(&mut self, len: usize) -> Range<usize> {
        let end = self.left.min(len);
        self.left = end.saturating_sub(STRETCH);
        self.left..end
    }

    /// All were seen.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left == 0
    }
}

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}
