//! A host of a next hop, before it is spoken to.

use std::net::IpAddr;

use routing::HostPort;

use crate::tls::Demand;

/// A host.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) host: HostPort,
    /// `None` if they are still to be looked up.
    pub(crate) addresses: Option<Vec<IpAddr>>,
    /// What it must offer.
    pub(crate) demand: Demand,
    /// More than it must offer, and told if it does not.
    pub(crate) wish: Option<Demand>,
}
