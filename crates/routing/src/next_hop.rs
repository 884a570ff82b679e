//! Where a message goes next: an ordered list of hosts, tried one after the other.
//!
//! Written `10.0.0.1, mx.example:2525, [2001:db8::1]:25`, or `mx` for the hosts that DNS names for the recipient's domain.
//! Nothing is looked up here: names and MX hosts are resolved by who connects. `lmtp://host:24` and `lmtp:unix:/path` are one
//! host that speaks LMTP (RFC 2033), and `smtps://host:465` one that speaks TLS from the first byte (RFC 8314).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use mail_model::{Domain, Mailbox};

use crate::certificate::Identity;
use crate::credentials::Credentials;
use crate::in_doubt::InDoubt;
use crate::rate::Rate;
use crate::tls::TlsPolicy;

/// SMTP's port, when none is written. RFC 5321 4.5.4.2.
const PORT: u16 = 25;
/// The port of SMTP under TLS from the first byte. RFC 8314 7.3.
const PORT_WRAPPED: u16 = 465;
/// What that begins with in writing.
const WRAPPED: &str = "smtps://";
/// What LMTP over TCP begins with in writing.
const LMTP: &str = "lmtp://";
/// What LMTP over a socket of this machine begins with in writing.
const LMTP_SOCKET: &str = "lmtp:unix:";
/// The next hop that is looked up for each domain.
const MX: &str = "mx";

/// Why a text is not a next hop. Each says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NextHopError {
    /// Nothing between two commas, or nothing at all.
    #[error("a host is missing; write for example '10.0.0.1, mx.example.test:2525'")]
    Empty,
    /// `mx` among hosts.
    #[error("'mx' stands alone: it is the hosts that the recipient's domain names; remove it, or the others")]
    MxAlone,
    /// `https://…` and its like.
    #[error(
        "'{0}' names a scheme that is not known; write 'host' or 'host:port' for SMTP, 'smtps://host:465', 'lmtp://host:port' or 'lmtp:unix:/path' for LMTP"
    )]
    Scheme(String),
    /// LMTP without a port. RFC 2033 5: it is never on port 25, and has no other of its own.
    #[error("'{0}' names no port, and LMTP has none of its own; write 'lmtp://host:24'")]
    LmtpPort(String),
    /// LMTP on the port of SMTP.
    #[error(
        "'{0}': LMTP is never spoken on port 25 (RFC 2033 5); write the port of the LMTP server, often 24"
    )]
    LmtpOnSmtp(String),
    /// A socket whose path starts nowhere, or that does not stand alone.
    #[error("'{0}' names no socket; write one absolute path without commas: lmtp:unix:/run/dovecot/lmtp")]
    Socket(String),
    /// LMTP among others.
    #[error("LMTP is one server and stands alone; remove the other hosts, or write a route for each")]
    LmtpAlone,
    /// TLS from the first byte among others.
    #[error("'smtps://' is one server and stands alone; remove the other hosts, or write a route for each")]
    WrappedAlone,
    /// An IPv6 address without its brackets.
    #[error("'{0}' is an IPv6 address; write '[{0}]' or '[{0}]:25'")]
    Bare(Ipv6Addr),
    /// Neither an address nor a host name.
    #[error(
        "'{0}' is neither an address nor a host name; write an IP address or a name like mx.example.test"
    )]
    Host(String),
    /// Not a port.
    #[error("'{0}' is not a port; write a number from 1 to 65535")]
    Port(String),
    /// The same host twice.
    #[error("'{0}' stands in it twice; remove one")]
    Twice(HostPort),
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// By its address.
    Address(IpAddr),
    /// By its name, to be resolved.
    Name(Domain),
    /// A socket of this machine.
    Socket(PathBuf),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => name.fmt(f),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port; 0 only for a socket of this machine, which has none.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(_) | Host::Name(_) => write!(f, "{}:{}", self.host, self.port),
            Host::Socket(_) => self.host.fmt(f),
        }
    }
}

impl FromStr for HostPort {
    type Err = NextHopError;

    fn from_str(text: &str) -> Result<Self, NextHopError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(NextHopError::Empty);
        }
        if text.contains("://") {
            return Err(NextHopError::Scheme(text.to_owned()));
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Err(NextHopError::Bare(address));
        }
        if let Some((inside, after)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let address = inside.parse().map_err(|_| NextHopError::Host(text.to_owned()))?;
            let port = match after.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if after.is_empty() => PORT,
                None => return Err(NextHopError::Host(text.to_owned())),
            };
            return Ok(Self { host: Host::Address(address), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, parse_port(port)?),
            None if text.eq_ignore_ascii_case(MX) => return Err(NextHopError::MxAlone),
            None => (text, PORT),
        };
        let host = match host.parse::<IpAddr>() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(host_name(host).ok_or_else(|| NextHopError::Host(host.to_owned()))?),
        };
        Ok(Self { host, port })
    }
}

fn parse_port(text: &str) -> Result<u16, NextHopError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or_else(|| NextHopError::Port(text.to_owned()))
}

/// A name of labels separated by dots, as a host or a mail domain has. Not one whose last label is a number: that is a
/// mistyped address. RFC 1123 2.1.
pub(crate) fn host_name(text: &str) -> Option<Domain> {
    let label = |label: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || !c.is_ascii();
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = text.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    let well_formed = text.len() <= 253 && text.split('.').all(label) && !last_is_number;
    if well_formed { Domain::new(text).ok() } else { None }
}

/// What a next hop speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Protocol {
    /// RFC 5321.
    #[default]
    Smtp,
    /// RFC 2033: one answer for each recipient.
    Lmtp,
}

/// Whose MX hosts a next hop is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Exchanger {
    /// Nobody's: the hosts are written.
    Static,
    /// Those of each recipient's domain.
    OfRecipient,
    /// Those of this one.
    Of(Domain),
}

/// Hosts in the order they are tried; at least one, or those that DNS names for a domain. With another TLS policy it is
/// another next hop, so that a connection of one policy never serves the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHop {
    protocol: Protocol,
    /// TLS is spoken from the first byte.
    wrapped: bool,
    exchanger: Exchanger,
    hosts: Vec<HostPort>,
    tls: TlsPolicy,
    identity: Option<Box<Identity>>,
    credentials: Option<Credentials>,
    in_doubt: InDoubt,
    rate: Option<Rate>,
}

impl NextHop {
    fn new(protocol: Protocol, exchanger: Exchanger, hosts: Vec<HostPort>) -> Self {
        Self {
            protocol,
            wrapped: false,
            exchanger,
            hosts,
            tls: TlsPolicy::default(),
            identity: None,
            credentials: None,
            in_doubt: InDoubt::default(),
            rate: None,
        }
    }

    /// The hosts in the order they are tried; none if they are looked up.
    #[must_use]
    pub fn hosts(&self) -> &[HostPort] {
        &self.hosts
    }

    /// What they speak.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// True if TLS is spoken from the first byte.
    #[must_use]
    pub fn is_wrapped(&self) -> bool {
        self.wrapped
    }

    /// True for a socket of this machine, where TLS has no place.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.hosts.iter().any(|host| matches!(host.host, Host::Socket(_)))
    }

    /// True for `mx`.
    #[must_use]
    pub fn is_mx(&self) -> bool {
        self.exchanger != Exchanger::Static
    }

    /// The domain whose MX hosts it is, once it is known.
    #[must_use]
    pub fn mx_domain(&self) -> Option<&Domain> {
        match &self.exchanger {
            Exchanger::Of(domain) => Some(domain),
            Exchanger::Static | Exchanger::OfRecipient => None,
        }
    }

    /// The next hop of a recipient: `mx` becomes that of its domain. `None` for a recipient without a domain.
    #[must_use]
    pub fn toward(&self, recipient: &Mailbox) -> Option<Self> {
        match &self.exchanger {
            Exchanger::Static | Exchanger::Of(_) => Some(self.clone()),
            Exchanger::OfRecipient => {
                let exchanger = Exchanger::Of(recipient.domain()?.clone());
                Some(Self { exchanger, ..self.clone() })
            }
        }
    }

    /// True if `other` is what [`Self::toward`] makes of it for `recipient`. Cheaper than that.
    #[must_use]
    pub fn is_toward(&self, recipient: &Mailbox, other: &Self) -> bool {
        match (&self.exchanger, &other.exchanger) {
            (Exchanger::OfRecipient, Exchanger::Of(domain)) => {
                self.tls == other.tls
                    && self.identity == other.identity
                    && self.credentials == other.credentials
                    && self.in_doubt == other.in_doubt
                    && self.rate == other.rate
                    && recipient.domain() == Some(domain)
            }
            (Exchanger::OfRecipient, Exchanger::Static | Exchanger::OfRecipient) => false,
            (Exchanger::Static | Exchanger::Of(_), _) => self == other,
        }
    }

    /// What they must offer of TLS. Not part of the written form; [`TlsPolicy::May`] until it is said.
    #[must_use]
    pub fn tls(&self) -> &TlsPolicy {
        &self.tls
    }

    /// The same hosts under another TLS policy.
    #[must_use]
    pub fn with_tls(self, tls: TlsPolicy) -> Self {
        Self { tls, ..self }
    }

    /// The certificate they are shown if they ask for one; not part of the written form.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// The same hosts, shown another certificate.
    #[must_use]
    pub fn with_identity(self, identity: Option<Identity>) -> Self {
        Self { identity: identity.map(Box::new), ..self }
    }

    /// Whom mail is given to them as; not part of the written form.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The same hosts, shown other credentials.
    #[must_use]
    pub fn with_credentials(self, credentials: Option<Credentials>) -> Self {
        Self { credentials, ..self }
    }

    /// What is done with mail of which nobody knows whether they took it; not part of the written form.
    #[must_use]
    pub fn in_doubt(&self) -> InDoubt {
        self.in_doubt
    }

    /// How many messages each of its destinations gets in what time; not part of the written form.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// The same hosts at another rate.
    #[must_use]
    pub fn with_rate(self, rate: Option<Rate>) -> Self {
        Self { rate, ..self }
    }

    /// The same hosts under another policy.
    #[must_use]
    pub fn with_in_doubt(self, in_doubt: InDoubt) -> Self {
        Self { in_doubt, ..self }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.exchanger {
            Exchanger::Static => {}
            Exchanger::OfRecipient => return f.write_str(MX),
            Exchanger::Of(domain) => return write!(f, "{MX} of {domain}"),
        }
        if self.wrapped {
            f.write_str(WRAPPED)?;
        }
        if self.protocol == Protocol::Lmtp {
            f.write_str(if self.is_socket() { "lmtp:" } else { LMTP })?;
        }
        for (index, host) in self.hosts.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            host.fmt(f)?;
        }
        Ok(())
    }
}

impl FromStr for NextHop {
    type Err = NextHopError;

    fn from_str(text: &str) -> Result<Self, NextHopError> {
        if text.trim().eq_ignore_ascii_case(MX) {
            return Ok(Self::new(Protocol::Smtp, Exchanger::OfRecipient, Vec::new()));
        }
        if let Some(host) = lmtp(text.trim())? {
            return Ok(Self::new(Protocol::Lmtp, Exchanger::Static, vec![host]));
        }
        if let Some(rest) = text.trim().strip_prefix(WRAPPED) {
            let host = wrapped(rest)?;
            return Ok(Self { wrapped: true, ..Self::new(Protocol::Smtp, Exchanger::Static, vec![host]) });
        }
        let mut hosts: Vec<HostPort> = Vec::new();
        for part in text.split(',') {
            if part.trim().starts_with("lmtp:") {
                return Err(NextHopError::LmtpAlone);
            }
            if part.trim().starts_with(WRAPPED) {
                return Err(NextHopError::WrappedAlone);
            }
            let host = part.parse()?;
            if hosts.contains(&host) {
                return Err(NextHopError::Twice(host));
            }
            hosts.push(host);
        }
        Ok(Self::new(Protocol::Smtp, Exchanger::Static, hosts))
    }
}

/// The server of a next hop that speaks TLS from the first byte.
fn wrapped(text: &str) -> Result<HostPort, NextHopError> {
    if text.contains(',') {
        return Err(NextHopError::WrappedAlone);
    }
    let host: HostPort = text.parse()?;
    let port = if has_port(text) { host.port } else { PORT_WRAPPED };
    Ok(HostPort { port, ..host })
}

/// True if a port is written.
fn has_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'))
}

/// The server of a next hop that speaks LMTP; `None` if it is none of those.
fn lmtp(text: &str) -> Result<Option<HostPort>, NextHopError> {
    if let Some(path) = text.strip_prefix(LMTP_SOCKET) {
        let fits = Path::new(path).is_absolute() && !path.contains([',', '\0']);
        return if fits {
            Ok(Some(HostPort { host: Host::Socket(path.into()), port: 0 }))
        } else {
            Err(NextHopError::Socket(text.to_owned()))
        };
    }
    let Some(rest) = text.strip_prefix(LMTP) else { return Ok(None) };
    if rest.contains(',') {
        return Err(NextHopError::LmtpAlone);
    }
    let host: HostPort = rest.parse()?;
    match (has_port(rest), host.port) {
        (false, _) => Err(NextHopError::LmtpPort(text.to_owned())),
        (true, PORT) => Err(NextHopError::LmtpOnSmtp(text.to_owned())),
        (true, _) => Ok(Some(host)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_next_hop_reads_back_as_it_is_shown() {
        let next_hop: NextHop = "10.0.0.1, MX.example:2525,[2001:DB8::1]:25 , [192.0.2.7]".parse().unwrap();
        assert_eq!(next_hop.to_string(), "10.0.0.1:25, mx.example:2525, [2001:db8::1]:25, 192.0.2.7:25");
        assert_eq!(next_hop.to_string().parse::<NextHop>().unwrap(), next_hop);
        assert_eq!(next_hop.hosts().len(), 4);
    }

    #[test]
    fn lmtp_is_one_server_by_its_address_or_its_socket() {
        for text in
            ["lmtp://mail.example.test:24", "lmtp://[2001:db8::1]:2003", "lmtp:unix:/run/dovecot/lmtp"]
        {
            let next_hop: NextHop = text.parse().unwrap();
            assert_eq!(next_hop.protocol(), Protocol::Lmtp);
            assert_eq!(next_hop.to_string(), text);
        }
    }

    #[test]
    fn tls_from_the_first_byte_is_one_server_on_a_port_of_its_own() {
        for (text, shown) in [
            ("smtps://mail.example.test", "smtps://mail.example.test:465"),
            ("smtps://[2001:db8::1]", "smtps://[2001:db8::1]:465"),
            ("smtps://10.0.0.1:4465", "smtps://10.0.0.1:4465"),
        ] {
            let next_hop: NextHop = text.parse().unwrap();
            assert!(next_hop.is_wrapped() && next_hop.protocol() == Protocol::Smtp);
            assert_eq!(next_hop.to_string(), shown);
            assert_eq!(shown.parse::<NextHop>().unwrap(), next_hop);
        }
    }

    #[test]
    fn mx_becomes_the_next_hop_of_each_domain() {
        let mailbox = |text| Mailbox::parse_stored(text).unwrap();
        let hop: NextHop = " MX ".parse().unwrap();
        assert_eq!((hop.to_string().as_str(), hop.is_mx(), hop.mx_domain()), ("mx", true, None));
        let (a, b) = (mailbox("x@A.test"), mailbox("y@b.test"));
        let toward = hop.toward(&a).unwrap();
        assert_eq!(toward.mx_domain().unwrap().as_str(), "a.test");
        assert_eq!(toward.to_string(), "mx of a.test");
        assert!(hop.is_toward(&a, &toward) && !hop.is_toward(&b, &toward));
        assert!(!hop.clone().with_tls(TlsPolicy::Encrypt).is_toward(&a, &toward));
        assert_eq!(hop.toward(&mailbox("postmaster")), None);
        let fixed: NextHop = "10.0.0.1".parse().unwrap();
        assert!(fixed.is_toward(&a, &fixed.toward(&a).unwrap()) && !fixed.is_toward(&a, &toward));
    }

    #[test]
    fn what_is_not_a_static_host_is_refused_with_a_remedy() {
        let cases = [
            ("", "a host is missing"),
            ("10.0.0.1,,10.0.0.2", "a host is missing"),
            ("mx, 10.0.0.1", "'mx' stands alone"),
            ("10.0.0.1, MX", "'mx' stands alone"),
            ("https://127.0.0.1:24", "a scheme that is not known"),
            ("lmtp://127.0.0.1", "names no port"),
            ("lmtp://[::1]", "names no port"),
            ("lmtp://127.0.0.1:25", "never spoken on port 25"),
            ("lmtp://127.0.0.1:24, 10.0.0.1", "stands alone"),
            ("10.0.0.1, lmtp:unix:/run/lmtp", "stands alone"),
            ("smtps://a.test, b.test", "'smtps://' is one server"),
            ("10.0.0.1, smtps://a.test", "'smtps://' is one server"),
            ("smtps://", "a host is missing"),
            ("lmtp:unix:run/lmtp", "one absolute path"),
            ("lmtp:unix:", "one absolute path"),
            ("2001:db8::1", "write '[2001:db8::1]'"),
            ("10.0.0.300", "neither an address nor a host name"),
            ("host name", "neither an address nor a host name"),
            ("-a.test", "neither an address nor a host name"),
            ("[::1]x", "neither an address nor a host name"),
            ("a:0", "a number from 1 to 65535"),
            ("a:65536", "a number from 1 to 65535"),
            ("a:+25", "a number from 1 to 65535"),
            ("a:", "a number from 1 to 65535"),
            ("a, a:25", "stands in it twice"),
        ];
        for (text, wanted) in cases {
            let said = text.parse::<NextHop>().unwrap_err().to_string();
            assert!(said.contains(wanted), "{text:?}: {said}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back_equal(text in "[a-z0-9.:,\\[\\] /]{0,40}") {
            if let Ok(next_hop) = text.parse::<NextHop>() {
                prop_assert_eq!(next_hop.to_string().parse::<NextHop>().unwrap(), next_hop);
            }
        }
    }
}
