//! Where an item of the schedule goes.

use std::sync::Arc;

use mail_model::Mailbox;
use routing::{NextHop, Routes};

/// A line of the schedule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Destination {
    /// These hosts.
    Hop(Arc<NextHop>),
    /// No route is known: the item waits for one, or for the end of its lifetime.
    NoRoute,
    /// The sender, who is owed a bounce: made here, not sent.
    Bounce,
}

impl Destination {
    /// Where mail for `address` goes.
    pub(crate) fn of(routes: &Routes, address: &Mailbox) -> Self {
        match routes.find(address) {
            Some(route) => Self::Hop(Arc::new(route.next_hop.clone())),
            None => Self::NoRoute,
        }
    }

    /// True if mail for `address` goes here. Cheaper than [`Self::of`].
    pub(crate) fn takes(&self, routes: &Routes, address: &Mailbox) -> bool {
        match (self, routes.find(address)) {
            (Self::Hop(hop), Some(route)) => **hop == route.next_hop,
            (Self::NoRoute, None) => true,
            (Self::Hop(_) | Self::NoRoute | Self::Bounce, _) => false,
        }
    }
}
