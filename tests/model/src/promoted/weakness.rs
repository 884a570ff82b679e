//! Each way to weaken promoted storage that was tried. The first five lose mail; the last two do not as long as the device holds
//! its writes.

/// What is left out or done in the wrong order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Weakness {
    /// Nothing: the protocol as it runs.
    None,
    /// A taker swaps the register whether its copy is current or not.
    AloneIgnored,
    /// The witness answers, then syncs.
    WitnessForgets,
    /// The owner declares its peer's copy current against whatever the register is by then.
    JoinsByOldLook,
    /// A grant of what the register says already leaves its version as it is.
    GrantsInPassing,
    /// The device goes on alone without a grant.
    GoesOnUngranted,
    /// The owner does not read the register before its effects.
    AsksNobody,
    /// A taker promotes the device, then swaps the register.
    PromotesFirst,
}
