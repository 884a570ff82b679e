//! Where an item of the schedule goes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use mail_model::Mailbox;
use routing::{DrillAddress, DrillKey, NextHop, Refusal, Routes, Target, drill_address};

/// A line of the schedule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Destination {
    /// These hosts.
    Hop(Arc<NextHop>),
    /// Nowhere: it is dropped.
    Discard,
    /// Nowhere: it is set aside.
    Hold,
    /// Nowhere: it is refused.
    Error(Refusal),
    /// No route is known, or none for an address without a domain: the item waits for one, or for the end of its lifetime.
    NoRoute,
    /// The sender, who is owed a bounce: made here, not sent.
    Bounce,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hop(hop) => hop.fmt(f),
            Self::NoRoute => f.write_str("no route"),
            Self::Discard => f.write_str("discard"),
            Self::Hold => f.write_str("hold"),
            Self::Error(_) => f.write_str("refused"),
            Self::Bounce => f.write_str("bounce"),
        }
    }
}

impl Destination {
    /// Where mail for `address` goes.
    pub(crate) fn of(routes: &Routes, drill: Option<&DrillKey>, address: &Mailbox) -> Self {
        match target(routes, drill, address).as_deref() {
            Some(Target::Hop(hop)) => {
                hop.toward(address).map_or(Self::NoRoute, |hop| Self::Hop(Arc::new(hop)))
            }
            Some(Target::Discard) => Self::Discard,
            Some(Target::Hold) => Self::Hold,
            Some(Target::Error(refusal)) => Self::Error(refusal.clone()),
            None => Self::NoRoute,
        }
    }

    /// True if mail for `address` goes here. Cheaper than [`Self::of`].
    pub(crate) fn takes(&self, routes: &Routes, drill: Option<&DrillKey>, address: &Mailbox) -> bool {
        match (self, target(routes, drill, address).as_deref()) {
            (Self::Hop(hop), Some(Target::Hop(next))) => next.is_toward(address, hop),
            (Self::NoRoute, Some(Target::Hop(next))) => next.toward(address).is_none(),
            (Self::Error(refusal), Some(Target::Error(said))) => refusal == said,
            (Self::Discard, Some(Target::Discard))
            | (Self::Hold, Some(Target::Hold))
            | (Self::NoRoute, None) => true,
            (
                Self::Hop(_) | Self::Discard | Self::Hold | Self::Error(_) | Self::NoRoute | Self::Bounce,
                _,
            ) => false,
        }
    }
}

/// What is done with mail for `address`. Probe mail of a drill never meets a route.
fn target<'a>(routes: &'a Routes, drill: Option<&DrillKey>, address: &Mailbox) -> Option<Cow<'a, Target>> {
    match drill_address(drill, address) {
        Some(DrillAddress::Sink { hop, .. }) => Some(Cow::Owned(Target::Hop(hop))),
        Some(DrillAddress::Foreign) => None,
        None => routes.find(address).map(|route| Cow::Borrowed(&route.target)),
    }
}
