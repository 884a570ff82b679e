//! How much one client, or one network of clients, may do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

/// The bounds of every client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLimits {
    /// What a client may do each minute.
    pub per_minute: PerMinute,
    /// A network may do as much as so many clients.
    pub network_factor: NonZeroU32,
    /// Clients without bounds other than that of their connections.
    pub exempt: Vec<IpNet>,
    /// How long a client waits for its greeting. One that talks meanwhile talks too early.
    pub greet_delay: Duration,
    /// How long a reply to an error waits, after so many of them.
    pub tarpit: Duration,
    /// Errors that are answered at once.
    pub tarpit_after: u32,
}

impl ClientLimits {
    /// True if only the bound of connections holds for this client.
    #[must_use]
    pub fn is_exempt(&self, client: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(&client))
    }
}

/// So many in a minute, all at once or spread; none: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerMinute {
    /// Connections.
    pub connections: Option<NonZeroU32>,
    /// MAIL commands.
    pub messages: Option<NonZeroU32>,
    /// RCPT commands.
    pub recipients: Option<NonZeroU32>,
    /// Commands of all kinds.
    pub commands: Option<NonZeroU32>,
    /// Commands that were refused.
    pub errors: Option<NonZeroU32>,
}

impl PerMinute {
    /// The bound of one kind.
    pub(crate) fn of(&self, kind: Kind) -> Option<NonZeroU32> {
        match kind {
            Kind::Connection => self.connections,
            Kind::Message => self.messages,
            Kind::Recipient => self.recipients,
            Kind::Command => self.commands,
            Kind::Error => self.errors,
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A connection was made.
    Connection,
    /// MAIL.
    Message,
    /// RCPT.
    Recipient,
    /// A command, whatever became of it.
    Command,
    /// A command was refused.
    Error,
}

impl Kind {
    /// Its name in the log and in `limits.per_minute`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connections",
            Self::Message => "messages",
            Self::Recipient => "recipients",
            Self::Command => "commands",
            Self::Error => "errors",
        }
    }
}

/// The network a client belongs to, by its first address: 256 of IPv4, and of IPv6 what one site has.
#[must_use]
pub fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xff).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_256_addresses_of_ipv4_or_64_bits_of_ipv6() {
        let network = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(network("192.0.2.7"), "192.0.2.0");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
