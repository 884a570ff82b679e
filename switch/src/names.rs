//! Names: who is asked for them, and by which this switch is known itself.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use lookup::{NoResolver, Resolver};
use routing::mx::{AddressOrder, Own};
use settings::Settings;

/// What is in use; replaced as a whole, and the answers that were kept go with it.
pub type LiveNames = Arc<ArcSwap<Names>>;

/// Everything about names.
#[derive(Debug)]
pub struct Names {
    pub(crate) resolver: Resolver,
    /// Mail never goes to these by MX: it would come back.
    pub(crate) own: Own,
    pub(crate) order: AddressOrder,
    pub(crate) mx_port: u16,
    pub(crate) sts_port: u16,
}

impl Names {
    /// As `settings` say. Reads the machine's configuration and its addresses.
    pub fn new(settings: &Settings) -> Result<Self, NoResolver> {
        Ok(Self {
            resolver: Resolver::new(&settings.dns)?,
            own: own(settings),
            order: settings.dns.addresses,
            mx_port: settings.dns.mx_port,
            sts_port: settings.dns.sts_port,
        })
    }
}

/// RFC 5321 5.1: what a server must know itself by.
fn own(settings: &Settings) -> Own {
    let mut own = settings.dns.own.clone();
    own.names.push(settings.node.hostname.clone());
    // Whoever listens at another port is somebody else to the outside.
    let listeners =
        settings.listeners.iter().filter(|listener| listener.address.port() == settings.dns.mx_port);
    for listener in listeners {
        let ip = listener.address.ip();
        if ip.is_unspecified() {
            own.addresses.extend(machine().into_iter().filter(|address| ip.is_ipv6() || address.is_ipv4()));
        } else {
            own.addresses.push(ip.to_canonical());
        }
    }
    own
}

/// The addresses of this machine. None if it does not tell; then loops end by the count of Received fields.
fn machine() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let ipv4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        ipv4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    interfaces.filter_map(address).collect()
}
