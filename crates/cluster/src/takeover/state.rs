//! The names of where a takeover stands, as the protocol spells them.

use std::fmt;

use mail_model::Moment;

/// Why this node may not take a queue now. D3 and D4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ineligible {
    /// It cannot read the queue's lease: it is the sick one.
    Unreadable,
    /// It is being stopped.
    Draining,
    /// Its own primary did not renew through the whole window: the storage stalls for everybody.
    OwnLeaseStale,
    /// Its write probe failed or took too long.
    ProbeSlow,
    /// It lacks disk space, files or memory.
    NoRoom,
    /// It started secondaries again and again, and they ended.
    LaunchFails,
    /// Promoted storage: its copy is not current.
    CopyBehind,
    /// Promoted storage: nobody says whether its copy is current.
    CopyUnknown,
}

impl Ineligible {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "lease unreadable",
            Self::Draining => "draining",
            Self::OwnLeaseStale => "own lease stale",
            Self::ProbeSlow => "probe slow",
            Self::NoRoom => "no room",
            Self::LaunchFails => "launches fail",
            Self::CopyBehind => "copy not current",
            Self::CopyUnknown => "copy unknown: no arbiter, or no word of the device",
        }
    }
}

/// What must be given before a takeover may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blocked {
    /// The old owner's side of a device is primary still: that node must be put off.
    NeedsFence,
}

/// Where the machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The owner lives, or there is none to watch yet.
    Healthy,
    /// Renewals are late.
    Watching,
    /// There is proof; probe, stagger and a last read remain.
    Candidate,
    /// A secondary was started and has not claimed yet.
    Taking,
    /// The secondary of this node owns the queue.
    Holding,
    /// The home node is back; it must stay for a while.
    HandbackWait,
    /// The secondary drains and releases, the home node claims.
    HandingBack,
    /// Somebody else was quicker.
    LostRace,
    /// There is proof, but this node may not take.
    Ineligible(Ineligible),
    /// There is proof, but an operator said: not by itself before this time.
    Paused(Moment),
    /// There is proof, but more is needed.
    Blocked(Blocked),
}

impl State {
    /// The name as the protocol spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Watching => "WATCHING",
            Self::Candidate => "CANDIDATE",
            Self::Taking => "TAKING",
            Self::Holding => "HOLDING",
            Self::HandbackWait => "HANDBACK_WAIT",
            Self::HandingBack => "HANDING_BACK",
            Self::LostRace => "LOST_RACE",
            Self::Ineligible(_) => "INELIGIBLE",
            Self::Paused(_) => "PAUSED",
            Self::Blocked(_) => "BLOCKED",
        }
    }

    /// What the name leaves out; empty for most.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::Ineligible(why) => why.as_str(),
            Self::Blocked(Blocked::NeedsFence) => "needs fence: put the old owner's node off",
            Self::Healthy
            | Self::Watching
            | Self::Candidate
            | Self::Taking
            | Self::Holding
            | Self::HandbackWait
            | Self::HandingBack
            | Self::LostRace
            | Self::Paused(_) => "",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self.detail() {
            "" => Ok(()),
            detail => write!(f, "({detail})"),
        }
    }
}
