//! Which hosts take mail for a domain, from what DNS says of it: RFC 5321 5.1, RFC 7505. Decides only; who asks DNS passes
//! in what it said.
//!
//! | DNS says | what follows |
//! |---|---|
//! | MX records | their hosts, the lowest preference first, equals in any order |
//! | no MX record, but the name exists | the name itself is the host (5.1) |
//! | the name does not exist | bounce 5.1.2 |
//! | one MX record with the root as host | the domain takes no mail: bounce 5.1.10 (RFC 7505) |
//! | one of the hosts is this switch | only hosts that come before it; none left: bounce 5.4.6 |
//! | no host has an address | bounce 5.4.4, or 5.1.2 if the domain was its own host |
//! | nobody knows now | wait, 4.4.3 |

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use mail_model::{Domain, EnhancedStatus, Reply};

/// Hosts of one domain that are looked up. More are no help, and each costs two questions.
const HOSTS_MAX: usize = 20;

/// A record of type MX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mx {
    /// The lower one is tried first.
    pub preference: u16,
    /// The host; `None` is the root, which names nobody.
    pub host: Option<Domain>,
}

/// What DNS says of the MX records of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MxAnswer {
    /// They are these, at least one.
    Records(Vec<Mx>),
    /// The name exists and has none.
    NoRecords,
    /// The name does not exist.
    NoDomain,
}

/// What DNS says of the addresses of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostAnswer {
    /// They are these; none if the host does not exist or has none.
    Addresses(Vec<IpAddr>),
    /// It cannot be told now, and why.
    Unknown(String),
}

/// By what this switch is known in MX records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// Its names.
    pub names: Vec<Domain>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Own {
    fn has_name(&self, name: &Domain) -> bool {
        self.names.contains(name)
    }

    /// True if one of these is an address of this switch.
    #[must_use]
    pub fn has_any(&self, addresses: &[IpAddr]) -> bool {
        addresses.iter().any(|address| self.addresses.contains(&address.to_canonical()))
    }
}

/// Which addresses of a host are used, and in what order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AddressOrder {
    /// Both, in turn, IPv6 first. RFC 6724.
    #[default]
    Ipv6First,
    /// Both, in turn, IPv4 first.
    Ipv4First,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

impl AddressOrder {
    /// True if IPv4 addresses are used.
    #[must_use]
    pub fn takes_ipv4(self) -> bool {
        match self {
            Self::Ipv6First | Self::Ipv4First | Self::Ipv4 => true,
            Self::Ipv6 => false,
        }
    }

    /// True if IPv6 addresses are used.
    #[must_use]
    pub fn takes_ipv6(self) -> bool {
        match self {
            Self::Ipv6First | Self::Ipv4First | Self::Ipv6 => true,
            Self::Ipv4 => false,
        }
    }

    /// `addresses` as they are tried. The families take turns, so that a bound on how many are tried leaves out none of them.
    #[must_use]
    pub fn arrange(self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let family = |v6: bool| addresses.iter().filter(move |a| a.is_ipv6() == v6).copied();
        let (mut first, mut second) = match self {
            Self::Ipv6First => (family(true), family(false)),
            Self::Ipv4First => (family(false), family(true)),
            Self::Ipv4 => return family(false).collect(),
            Self::Ipv6 => return family(true).collect(),
        };
        let mut arranged = Vec::with_capacity(addresses.len());
        loop {
            let (one, other) = (first.next(), second.next());
            if one.is_none() && other.is_none() {
                return arranged;
            }
            arranged.extend(one.into_iter().chain(other));
        }
    }
}

/// A host that may take the mail of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The lower one is tried first.
    pub preference: u16,
    /// Its name.
    pub host: Domain,
}

/// A host, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub host: Domain,
    /// Its addresses in the order they are tried; at least one.
    pub addresses: Vec<IpAddr>,
}

/// Why there is nobody to give the mail to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MxFault {
    /// The domain does not exist.
    NoDomain,
    /// It says that it takes no mail. RFC 7505.
    Null,
    /// This switch is the host that mail for it goes to, so it would come back.
    Loop,
    /// It has no MX record and no address.
    NoHost,
    /// None of its hosts has an address.
    NoAddress,
    /// A name between brackets that is no address.
    Literal,
    /// It cannot be told now, and why.
    Unknown(String),
}

impl fmt::Display for MxFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDomain => f.write_str("the domain does not exist"),
            Self::Null => f.write_str("the domain takes no mail (null MX)"),
            Self::Loop => {
                f.write_str("mail for it loops back to this system, and no route says where else it goes")
            }
            Self::NoHost => f.write_str("the domain has neither a mail host nor an address"),
            Self::NoAddress => f.write_str("none of the domain's mail hosts has an address"),
            Self::Literal => f.write_str("this is no address of a host"),
            Self::Unknown(why) => write!(f, "its mail hosts cannot be looked up now: {why}"),
        }
    }
}

impl MxFault {
    /// What is said to the recipients of `domain`.
    #[must_use]
    pub fn reply(&self, domain: &Domain) -> Reply {
        let (code, detail) = match self {
            // RFC 3463 3.2: bad destination system address.
            Self::NoDomain | Self::NoHost | Self::Literal => (550, (5, 1, 2)),
            // RFC 7505 4.2 and 4.4.
            Self::Null => (556, (5, 1, 10)),
            // RFC 3463 3.5: routing loop detected, unable to route, directory server failure.
            Self::Loop => (554, (5, 4, 6)),
            Self::NoAddress => (550, (5, 4, 4)),
            Self::Unknown(_) => (451, (4, 4, 3)),
        };
        let (class, subject, number) = detail;
        Reply::local(code, EnhancedStatus::new(class, subject, number), format!("{domain}: {self}"))
    }
}

/// The hosts of `domain`, the one that is tried first in front. Those that come after a name of this switch are left out.
pub fn candidates(domain: &Domain, answer: MxAnswer, own: &Own) -> Result<Vec<Candidate>, MxFault> {
    let records = match answer {
        MxAnswer::NoDomain => return Err(MxFault::NoDomain),
        MxAnswer::NoRecords => vec![Mx { preference: 0, host: Some(domain.clone()) }],
        MxAnswer::Records(records) => records,
    };
    // RFC 7505 3: a null MX stands alone. Among others it means nothing.
    if records.iter().all(|record| record.host.is_none()) {
        return Err(MxFault::Null);
    }
    let named =
        records.into_iter().filter_map(|Mx { preference, host }| Some(Candidate { preference, host: host? }));
    let mut found: Vec<Candidate> = named.collect();
    found.sort_by(|a, b| (a.preference, &a.host).cmp(&(b.preference, &b.host)));
    let mut seen = BTreeSet::new();
    found.retain(|candidate| seen.insert(candidate.host.clone()));
    // RFC 5321 5.1: whoever is in the list gives mail only to hosts that are preferred to itself.
    let own_at = found.iter().filter(|c| own.has_name(&c.host)).map(|c| c.preference).min();
    if let Some(own_at) = own_at {
        found.retain(|candidate| candidate.preference < own_at);
        if found.is_empty() {
            return Err(MxFault::Loop);
        }
    }
    found.truncate(HOSTS_MAX);
    Ok(found)
}

/// From the hosts with what DNS says of each to those that are tried, in order. `random` gives any number, evenly spread: hosts
/// of one preference share the load (RFC 5321 5.1).
pub fn exchanges(
    domain: &Domain,
    found: Vec<(Candidate, HostAnswer)>,
    own: &Own,
    order: AddressOrder,
    mut random: impl FnMut() -> u32,
) -> Result<Vec<Exchange>, MxFault> {
    let is_own = |answer: &HostAnswer| match answer {
        HostAnswer::Addresses(addresses) => own.has_any(addresses),
        HostAnswer::Unknown(_) => false,
    };
    let own_at = found.iter().filter(|(_, answer)| is_own(answer)).map(|(c, _)| c.preference).min();
    let implicit = matches!(found.as_slice(), [(only, _)] if only.host == *domain);
    let mut unknown = None;
    let mut usable: Vec<(u16, u32, Exchange)> = Vec::new();
    for (candidate, answer) in found {
        if own_at.is_some_and(|own_at| candidate.preference >= own_at) {
            continue;
        }
        match answer {
            HostAnswer::Unknown(why) => unknown = unknown.or(Some(why)),
            HostAnswer::Addresses(addresses) => {
                let addresses = order.arrange(&addresses);
                if !addresses.is_empty() {
                    let exchange = Exchange { host: candidate.host, addresses };
                    usable.push((candidate.preference, random(), exchange));
                }
            }
        }
    }
    usable.sort_by_key(|(preference, number, _)| (*preference, *number));
    if !usable.is_empty() {
        return Ok(usable.into_iter().map(|(.., exchange)| exchange).collect());
    }
    Err(match (unknown, own_at) {
        // A host that cannot be looked up might take it: nothing is final.
        (Some(why), _) => MxFault::Unknown(why),
        (None, Some(_)) => MxFault::Loop,
        (None, None) if implicit => MxFault::NoHost,
        (None, None) => MxFault::NoAddress,
    })
}

/// The address in an address literal: `[192.0.2.1]`, `[IPv6:2001:db8::1]`. RFC 5321 4.1.3.
#[must_use]
pub fn literal(domain: &Domain) -> Option<IpAddr> {
    let inside = domain.as_str().strip_prefix('[')?.strip_suffix(']')?;
    match inside.strip_prefix("ipv6:") {
        Some(address) => address.parse().ok().map(IpAddr::V6),
        None => inside.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests;
