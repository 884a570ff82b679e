//! Where an item of the schedule goes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use mail_model::{Envelope, Mailbox, ReversePath};
use routing::{DrillAddress, NextHop, Protocol, Rate, Refusal, Target, drill_address};
use settings::Settings;

/// Mail and notifications have lines of their own, so that neither waits for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// It has a sender.
    Mail,
    /// It has none, so it is about other mail.
    Notices,
}

impl Lane {
    /// The lane of a message.
    pub(crate) fn of(envelope: &Envelope) -> Self {
        if envelope.reverse_path == ReversePath::Null { Self::Notices } else { Self::Mail }
    }
}

/// A line of the schedule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Destination {
    /// These hosts.
    Hop(Arc<NextHop>, Lane),
    /// Nowhere: it is dropped.
    Discard,
    /// Nowhere: it is set aside.
    Hold,
    /// Nowhere: it is refused.
    Error(Refusal),
    /// No route is known, or none for an address without a domain: the item waits for one, or for the end of its lifetime.
    NoRoute,
    /// The sender, who is to be told something: made here, not sent.
    Bounce,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hop(hop, Lane::Mail) => hop.fmt(f),
            Self::Hop(hop, Lane::Notices) => write!(f, "{hop} (notifications)"),
            Self::NoRoute => f.write_str("no route"),
            Self::Discard => f.write_str("discard"),
            Self::Hold => f.write_str("hold"),
            Self::Error(_) => f.write_str("refused"),
            Self::Bounce => f.write_str("bounce"),
        }
    }
}

impl Destination {
    /// How fast messages may follow each other there.
    pub(crate) fn rate(&self) -> Option<Rate> {
        match self {
            Self::Hop(hop, _) => hop.rate(),
            Self::Discard | Self::Hold | Self::Error(_) | Self::NoRoute | Self::Bounce => None,
        }
    }
}

/// What decides where a recipient goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) lane: Lane,
    pub(crate) address: &'a Mailbox,
    /// Where an operator said it goes.
    pub(crate) redirect: Option<&'a str>,
}

impl Way<'_> {
    /// Where it leads.
    pub(crate) fn destination(self) -> Destination {
        match self.target().as_deref() {
            Some(Target::Hop(hop)) => hop
                .toward(self.address)
                .map_or(Destination::NoRoute, |hop| Destination::Hop(Arc::new(hop), self.lane)),
            Some(Target::Discard) => Destination::Discard,
            Some(Target::Hold) => Destination::Hold,
            Some(Target::Error(refusal)) => Destination::Error(refusal.clone()),
            None => Destination::NoRoute,
        }
    }

    /// True if it leads to `destination`. Cheaper than [`Self::destination`].
    pub(crate) fn leads_to(self, destination: &Destination) -> bool {
        match (destination, self.target().as_deref()) {
            (Destination::Hop(hop, lane), Some(Target::Hop(next))) => {
                *lane == self.lane && next.is_toward(self.address, hop)
            }
            (Destination::NoRoute, Some(Target::Hop(next))) => next.toward(self.address).is_none(),
            (Destination::Error(refusal), Some(Target::Error(said))) => refusal == said,
            (Destination::Discard, Some(Target::Discard))
            | (Destination::Hold, Some(Target::Hold))
            | (Destination::NoRoute, None) => true,
            (
                Destination::Hop(..)
                | Destination::Discard
                | Destination::Hold
                | Destination::Error(_)
                | Destination::NoRoute
                | Destination::Bounce,
                _,
            ) => false,
        }
    }

    /// True if the next hop puts it into its mailbox.
    pub(crate) fn is_final(self) -> bool {
        self.target()
            .is_some_and(|target| target.next_hop().is_some_and(|hop| hop.protocol() == Protocol::Lmtp))
    }

    /// What is done with it. Probe mail of a drill never meets a route.
    fn target(&self) -> Option<Cow<'_, Target>> {
        match drill_address(self.settings.drill_key.as_ref(), self.address) {
            Some(DrillAddress::Sink { hop, .. }) => return Some(Cow::Owned(Target::Hop(hop))),
            Some(DrillAddress::Foreign) => return None,
            None => {}
        }
        // What cannot be read was written by a newer version; the route is better than nothing.
        let redirect = self.redirect.and_then(|text| text.parse::<NextHop>().ok());
        match redirect {
            Some(hop) => Some(Cow::Owned(Target::Hop(hop))),
            None => self.settings.routes.find(self.address).map(|route| Cow::Borrowed(&route.target)),
        }
    }
}
