//! Who may relay where. A stranger reaches the relay domains and nothing else, whatever the syntax of the address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use mail_model::{Domain, Mailbox};

use crate::certificate::{CertificatePattern, ClientCertificate};
use crate::next_hop::host_name;
use crate::pattern::is_below;

/// Domains that strangers may send to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DomainPattern {
    /// `example.test`: this one.
    Exact(Domain),
    /// `.example.test` or `*.example.test`: every domain below this one, not itself.
    Subdomains(Domain),
}

impl DomainPattern {
    /// True for a domain that it names.
    #[must_use]
    pub fn matches(&self, domain: &Domain) -> bool {
        match self {
            Self::Exact(exact) => exact == domain,
            Self::Subdomains(parent) => is_below(domain, parent),
        }
    }
}

/// Why a text is not a relay domain. It says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DomainPatternError {
    /// `*`: the whole world.
    #[error("'*' would relay for everybody; name the domains, or trust the clients by 'trusted_networks'")]
    Everything,
    /// Not a domain.
    #[error("'{0}' is not a domain; write 'example.test' or '.example.test'")]
    Domain(String),
}

impl FromStr for DomainPattern {
    type Err = DomainPatternError;

    fn from_str(text: &str) -> Result<Self, DomainPatternError> {
        if text == "*" {
            return Err(DomainPatternError::Everything);
        }
        let domain = |name| host_name(name).ok_or_else(|| DomainPatternError::Domain(text.to_owned()));
        match text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
            Some(parent) => domain(parent).map(Self::Subdomains),
            None => domain(text).map(Self::Exact),
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(domain) => domain.fmt(f),
            Self::Subdomains(parent) => write!(f, ".{parent}"),
        }
    }
}

/// Who may relay where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelayPolicy {
    /// Clients of these networks may send anywhere.
    pub trusted_networks: Vec<IpNet>,
    /// So may who shows one of these, from anywhere.
    pub trusted_certificates: Vec<CertificatePattern>,
    /// Everybody may send to these domains.
    pub domains: Vec<DomainPattern>,
}

/// What the policy says about one recipient of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelayVerdict {
    /// Taken: the client is trusted.
    TrustedClient,
    /// Taken: the domain is one of ours, or it is for our postmaster.
    RelayDomain,
    /// Not taken.
    Denied,
}

impl RelayVerdict {
    /// True if the recipient is taken.
    #[must_use]
    pub fn allows(self) -> bool {
        match self {
            Self::TrustedClient | Self::RelayDomain => true,
            Self::Denied => false,
        }
    }
}

impl RelayPolicy {
    /// True for a domain that everybody may send to.
    #[must_use]
    pub fn is_ours(&self, domain: &Domain) -> bool {
        self.domains.iter().any(|pattern| pattern.matches(domain))
    }

    /// True for a client that may send anywhere.
    #[must_use]
    pub fn trusts(&self, client: IpAddr) -> bool {
        // A listener on `[::]` sees IPv4 clients as ::ffff:a.b.c.d: they are the same clients.
        let client = client.to_canonical();
        self.trusted_networks.iter().any(|network| network.contains(&client))
    }

    /// True for a client that showed this and so may send anywhere.
    #[must_use]
    pub fn trusts_certificate(&self, certificate: &ClientCertificate) -> bool {
        self.trusted_certificates.iter().any(|pattern| pattern.matches(certificate))
    }

    /// Judges one recipient of a client. The domain after the last `@` alone decides; a source route was stripped by
    /// who parsed the path (RFC 5321 C).
    #[must_use]
    pub fn judge(&self, client: IpAddr, recipient: &Mailbox) -> RelayVerdict {
        if self.trusts(client) {
            return RelayVerdict::TrustedClient;
        }
        // RFC 5321 4.5.1: "postmaster" alone is always taken, and nothing else comes without a domain.
        let Some(domain) = recipient.domain() else { return RelayVerdict::RelayDomain };
        // `user%elsewhere@ours`, `elsewhere!user@ours`, `"user@elsewhere"@ours`: the next hop might route by what is in
        // the local part, and would trust us. Strangers may not say that, quoted or not.
        if recipient.local_part().contains(['%', '!', '@']) {
            return RelayVerdict::Denied;
        }
        if self.is_ours(domain) { RelayVerdict::RelayDomain } else { RelayVerdict::Denied }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> RelayPolicy {
        RelayPolicy {
            trusted_networks: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            trusted_certificates: Vec::new(),
            domains: vec!["Relay.test".parse().unwrap(), "*.sub.test".parse().unwrap()],
        }
    }

    fn judged(client: &str, recipient: &str) -> RelayVerdict {
        policy().judge(client.parse().unwrap(), &Mailbox::parse_stored(recipient).unwrap())
    }

    #[test]
    fn a_trusted_client_may_send_anywhere() {
        for client in ["10.1.2.3", "2001:db8::5", "::ffff:10.1.2.3"] {
            for recipient in ["a@elsewhere.invalid", "a%b@relay.test", "postmaster"] {
                assert_eq!(judged(client, recipient), RelayVerdict::TrustedClient, "{client} {recipient}");
            }
        }
    }

    #[test]
    fn a_stranger_reaches_the_relay_domains_and_nothing_else() {
        let cases = [
            ("a@relay.test", RelayVerdict::RelayDomain),
            ("a@RELAY.TEST", RelayVerdict::RelayDomain),
            ("a@x.sub.test", RelayVerdict::RelayDomain),
            ("\"a b\"@relay.test", RelayVerdict::RelayDomain),
            ("a@sub.test", RelayVerdict::Denied),
            ("a@x.relay.test", RelayVerdict::Denied),
            ("a@badrelay.test", RelayVerdict::Denied),
            ("a@relay.test.elsewhere.invalid", RelayVerdict::Denied),
            ("a@[10.0.0.1]", RelayVerdict::Denied),
            ("postmaster", RelayVerdict::RelayDomain),
        ];
        for (recipient, wanted) in cases {
            for client in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db9::1"] {
                assert_eq!(judged(client, recipient), wanted, "{client} {recipient}");
            }
        }
    }

    #[test]
    fn no_address_syntax_makes_an_open_relay() {
        let tricks = [
            "user%elsewhere.invalid@relay.test",
            "\"user%elsewhere.invalid\"@relay.test",
            "elsewhere.invalid!user@relay.test",
            "\"user@elsewhere.invalid\"@relay.test",
            "user@elsewhere.invalid@relay.test",
            "@relay.test:user@elsewhere.invalid",
            "user@relay.test@elsewhere.invalid",
        ];
        for trick in tricks {
            assert_eq!(judged("192.0.2.1", trick), RelayVerdict::Denied, "{trick}");
        }
    }

    #[test]
    fn a_policy_for_everybody_cannot_be_written() {
        let said = "*".parse::<DomainPattern>().unwrap_err().to_string();
        assert!(said.contains("trusted_networks"), "{said}");
        assert!("a b".parse::<DomainPattern>().is_err());
    }

    proptest! {
        #[test]
        fn a_stranger_never_gets_past_the_last_domain(local in "[a-z@%!.:\"]{1,20}", domain in "[a-z.]{1,20}") {
            let recipient = Mailbox::parse_stored(&format!("{local}@{domain}")).unwrap();
            let ours = domain == "relay.test" || domain.ends_with(".sub.test");
            let verdict = policy().judge("192.0.2.1".parse().unwrap(), &recipient);
            prop_assert!(ours || verdict == RelayVerdict::Denied);
        }
    }
}
