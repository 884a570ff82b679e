//! Addresses of probe mail in a drill: `probe@ADDRESS-PORT.UNTIL.SEAL.drill.invalid`.
//!
//! The domain says where the mail goes and until when it is taken, sealed with a key made from the cluster's. So probe
//! mail finds its way from whatever node holds it after a takeover, with nothing said to that node beforehand, and nobody
//! without the key can make a switch talk to a host of his choice. No route of the configuration is ever asked for such an
//! address: probe mail never leaves for the outside.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mail_model::{Domain, Mailbox, WallTime};

use crate::next_hop::NextHop;
use crate::tls::TlsPolicy;

/// What the domain of every probe ends with. RFC 2606 2: `invalid` never exists.
const DOMAIN: &str = ".drill.invalid";
const NAME: &str = "drill.invalid";
const CONTEXT: &str = "mailswitch 2026 drill address v1";
/// Bytes of the seal: nobody guesses one, and its digits fit into a label.
const SEAL_BYTES: usize = 16;

/// The key of the seals.
#[derive(Clone, PartialEq, Eq)]
pub struct DrillKey([u8; 32]);

impl fmt::Debug for DrillKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DrillKey(redacted)")
    }
}

/// What an address is to a drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrillAddress {
    /// It goes to a drill's sink.
    Sink {
        /// There.
        hop: NextHop,
        /// New mail for it is taken until then.
        until: WallTime,
    },
    /// It looks like one, and was not sealed by this cluster. It goes nowhere.
    Foreign,
}

impl DrillKey {
    /// A key made from the text of the cluster's key file.
    #[must_use]
    pub fn new(cluster_key: &str) -> Self {
        Self(blake3::derive_key(CONTEXT, cluster_key.trim().as_bytes()))
    }

    /// The domain of mail for a sink at `sink`, taken until `until`.
    #[must_use]
    pub fn domain(&self, sink: SocketAddr, until: WallTime) -> String {
        let ip = match sink.ip() {
            IpAddr::V4(ip) => digits(&ip.octets()),
            IpAddr::V6(ip) => digits(&ip.octets()),
        };
        let said = format!("{ip}-{}.{}", sink.port(), until.0);
        let seal = self.seal(&said);
        format!("{said}.{seal}{DOMAIN}")
    }

    fn seal(&self, said: &str) -> String {
        let hash = blake3::keyed_hash(&self.0, said.as_bytes());
        digits(hash.as_bytes().get(..SEAL_BYTES).unwrap_or_default())
    }

    fn read(&self, domain: &Domain) -> Option<(SocketAddr, WallTime)> {
        let (said, seal) = domain.as_str().strip_suffix(DOMAIN)?.rsplit_once('.')?;
        // In one time, wherever they differ.
        let wanted = self.seal(said);
        let differs = wanted.bytes().zip(seal.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        if wanted.len() != seal.len() || differs != 0 {
            return None;
        }
        let (place, until) = said.split_once('.')?;
        let (ip, port) = place.split_once('-')?;
        let ip = match ip.len() {
            8 => IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?)),
            32 => IpAddr::V6(Ipv6Addr::from(u128::from_str_radix(ip, 16).ok()?)),
            _ => return None,
        };
        Some((SocketAddr::new(ip, port.parse().ok()?), WallTime(until.parse().ok()?)))
    }
}

/// True for an address that only a drill may use, sealed or not.
#[must_use]
pub fn is_drill(mailbox: &Mailbox) -> bool {
    // Asked for every recipient of ordinary mail: it costs a comparison.
    let rest = mailbox.domain().and_then(|domain| domain.as_str().strip_suffix(NAME));
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// What `mailbox` is to a drill of the cluster with this key; `None` for ordinary addresses.
#[must_use]
pub fn drill_address(key: Option<&DrillKey>, mailbox: &Mailbox) -> Option<DrillAddress> {
    if !is_drill(mailbox) {
        return None;
    }
    let read = key.zip(mailbox.domain()).and_then(|(key, domain)| key.read(domain));
    let hop = read.and_then(|(sink, until)| {
        let hop: NextHop = sink.to_string().parse().ok()?;
        Some((hop.with_tls(TlsPolicy::None), until))
    });
    Some(match hop {
        Some((hop, until)) => DrillAddress::Sink { hop, until },
        None => DrillAddress::Foreign,
    })
}

fn digits(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a text does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(domain: &str) -> Mailbox {
        Mailbox::new("probe", Domain::new(domain).unwrap()).unwrap()
    }

    #[test]
    fn a_sealed_address_leads_to_its_sink_and_to_nowhere_else() {
        let key = DrillKey::new("0123\n");
        for sink in ["127.0.0.1:2526", "[2001:db8::1]:25"] {
            let domain = key.domain(sink.parse().unwrap(), WallTime(1_790_000_000_000));
            let Some(DrillAddress::Sink { hop, until }) =
                drill_address(Some(&DrillKey::new("0123")), &mailbox(&domain))
            else {
                panic!("{domain} is not read back")
            };
            assert_eq!((hop.to_string().as_str(), until), (sink, WallTime(1_790_000_000_000)));
        }
    }

    #[test]
    fn nobody_without_the_key_can_name_a_host() {
        let key = DrillKey::new("0123");
        let domain = key.domain("127.0.0.1:2526".parse().unwrap(), WallTime(1_000));
        let foreign = Some(DrillAddress::Foreign);
        assert_eq!(drill_address(None, &mailbox(&domain)), foreign);
        assert_eq!(drill_address(Some(&DrillKey::new("0124")), &mailbox(&domain)), foreign);
        for forged in [
            domain.replace("-2526", "-25"),
            domain.replace("7f000001", "0a000001"),
            domain.replace(".1000.", ".9999."),
            "drill.invalid".to_owned(),
            "x.drill.invalid".to_owned(),
            format!("7f000001-25.1.{}.drill.invalid", "0".repeat(32)),
        ] {
            assert_eq!(drill_address(Some(&key), &mailbox(&forged)), foreign, "{forged}");
        }
    }

    #[test]
    fn an_ordinary_address_is_no_affair_of_drills() {
        for ordinary in ["example.test", "drill.invalid.example.test", "mydrill.invalid"] {
            assert_eq!(drill_address(Some(&DrillKey::new("0")), &mailbox(ordinary)), None, "{ordinary}");
        }
    }
}
