//! The rule of the appender, and each way to weaken the protocol that is known to lose or to own twice.

use crate::frame::Frame;
use crate::process::{Draft, Todo};

/// What is left out or done in the wrong order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Weakness {
    /// Nothing: the protocol as it runs.
    None,
    /// The owner syncs and acts.
    NoFenceCheck,
    /// The owner reads its fence, then writes, syncs and acts.
    CheckBeforeSync,
    /// The taker reads the older segments, then fences their owners.
    ScanBeforeFence,
    /// The taker does not write where older epochs end.
    NoSeal,
    /// A claim overwrites one that is there.
    BlindClaim,
    /// All epochs have one fence: the number of the newest taker that wrote it.
    SharedFence,
    /// The taker fences the epoch before its own and no other.
    FencePreviousOnly,
    /// ATTEMPT is written, and the transaction begins before it is durable.
    LazyAttempt,
    /// The owner asks its own clock whether the lease that it last renewed still holds. A paused machine's clock stands
    /// still, so the answer is what it was at the last renewal.
    ClockLease,
    /// Another thread watches the fence and stops the process; whoever acts does not look.
    SideThread,
    /// Segments are unlinked before RETIRE is durable.
    UnlinkBeforeRetire,
    /// The renewal says *working* right after the claim, so a taker's walk ends at one that fenced nobody.
    WorksTooEarly,
    /// A taker that died with its SEGMENT on the disk and its SEAL not: its sums count, and those that the epoch before
    /// it wrote meanwhile are overwritten.
    TornBeginCounts,
}

impl Weakness {
    /// Where a turn of the rule begins.
    pub(crate) fn first(self, draft: Draft) -> Todo {
        if self == Self::CheckBeforeSync { Todo::Check(draft) } else { Todo::Write(draft) }
    }

    /// What follows the write. `Appender::commit`: the sync, always.
    pub(crate) fn after_write(self, draft: Draft) -> Todo {
        match (self, draft) {
            (Self::LazyAttempt, Draft::One(Frame::Attempt(_)))
            | (Self::UnlinkBeforeRetire, Draft::One(Frame::Retire { .. })) => Todo::Effect(draft),
            _ => Todo::Sync(draft),
        }
    }

    /// What follows the sync. `Appender::finish`: the fence read, always.
    pub(crate) fn after_sync(self, draft: Draft) -> Todo {
        let acts = matches!(self, Self::NoFenceCheck | Self::SideThread | Self::CheckBeforeSync);
        if acts { Todo::Effect(draft) } else { Todo::Check(draft) }
    }

    /// What follows a fence that was read as zero: the effect.
    pub(crate) fn after_check(self, draft: Draft) -> Todo {
        if self == Self::CheckBeforeSync { Todo::Write(draft) } else { Todo::Effect(draft) }
    }
}
