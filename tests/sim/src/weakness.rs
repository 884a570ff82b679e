//! Ways to weaken the protocol that are known to lose or to own twice. The simulator must find that each of them does.
//!
//! The production code stays as it is: the disk lies to it, so that a step is without effect or comes in the wrong order.

/// What is without effect, or in the wrong order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// Nothing: the protocol as it runs.
    None,
    /// The owner's fence reads as zero, always.
    NoFenceCheck,
    /// The owner's fence reads as it was before the last write.
    CheckBeforeSync,
    /// A fence is written only when its taker has read the older segments.
    ScanBeforeFence,
    /// A claim overwrites one that is there.
    BlindClaim,
    /// Only the epoch before the taker's own is fenced.
    FencePreviousOnly,
    /// The transaction begins before ATTEMPT is durable.
    LazyAttempt,
    /// The owner's fence reads as it was at the last renewal.
    ClockLease,
    /// Only the thread that renews the lease reads the fence.
    SideThread,
    /// RETIRE is not durable when the segments are removed.
    UnlinkBeforeRetire,
    /// The first renewal says *working* already.
    WorksTooEarly,
    /// A sync answers well and has done nothing.
    LyingSync,
}
