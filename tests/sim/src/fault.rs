//! What can go wrong, and what it may and may not cause. `docs/RELIABILITY.md` has the same table for people.

use crate::chance::Chance;

/// A fault. Whom it hits, when, and for how long is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A switch is killed.
    KillSwitch,
    /// A switch dies at one of its next operations on the disk; a write is cut.
    DieAtOperation,
    /// A switch stands still at one of its next operations, for up to a minute, and then goes on.
    PauseAtOperation,
    /// A switch is stopped for a while.
    PauseSwitch,
    /// A whole node stands still for a while, its boot clock too.
    FreezeNode,
    /// A node loses its power, and what its cache held.
    PowerLoss,
    /// Every node does.
    PowerLossOfAll,
    /// heartbeatd is killed.
    KillHeart,
    /// Nothing passes between a node and all others.
    Isolate,
    /// Nothing passes from one node to another.
    CutOneWay,
    /// One path of all is down.
    CutOnePath,
    /// Heartbeats are lost and late.
    BadLinks,
    /// Heartbeats of before are sent again.
    Replay,
    /// A node's disk hangs for a while.
    StallNode,
    /// The disk hangs for everybody.
    StallAll,
    /// A node's disk is slow.
    SlowNode,
    /// Every operation of a node fails for a while.
    FailNode,
    /// One sync of a node fails; what it was to sync is gone or not.
    SyncFails,
    /// The disk is full for a while.
    Full,
    /// A node sees old listings, old absences and old content.
    StaleCache,
    /// A wall clock is set two days ahead or back.
    WallJumps,
    /// An operator takes a healthy owner's queue.
    ForcedTakeover,
    /// Several take it at once.
    RaceOfTakers,
    /// The taker dies at one of its first operations, and another follows.
    TakerDies,
    /// An operator hands a queue back.
    Handback,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 25] = [
        Self::KillSwitch,
        Self::DieAtOperation,
        Self::PauseAtOperation,
        Self::PauseSwitch,
        Self::FreezeNode,
        Self::PowerLoss,
        Self::PowerLossOfAll,
        Self::KillHeart,
        Self::Isolate,
        Self::CutOneWay,
        Self::CutOnePath,
        Self::BadLinks,
        Self::Replay,
        Self::StallNode,
        Self::StallAll,
        Self::SlowNode,
        Self::FailNode,
        Self::SyncFails,
        Self::Full,
        Self::StaleCache,
        Self::WallJumps,
        Self::ForcedTakeover,
        Self::RaceOfTakers,
        Self::TakerDies,
        Self::Handback,
    ];

    /// Those that no owner loses its queue for.
    pub(crate) const HARMLESS: [Self; 9] = [
        Self::KillHeart,
        Self::Isolate,
        Self::CutOneWay,
        Self::CutOnePath,
        Self::BadLinks,
        Self::Replay,
        Self::StallAll,
        Self::WallJumps,
        Self::Handback,
    ];

    pub(crate) fn draw(among: &[Self], chance: &mut Chance) -> Self {
        among[chance.index(among.len())]
    }
}
