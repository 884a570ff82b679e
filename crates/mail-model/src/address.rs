//! Mail addresses as values: a local part, a domain, nothing else. RFC 5321 4.1.2, RFC 6531.
//!
//! Parsing the *syntax of a command* is the `smtp` crate's; this is the address after it was understood, with quotes
//! of the local part kept as they were sent (they are relayed unchanged).

use std::fmt;

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Longer than RFC 5321 4.5.3.1 allows: 64 octets local part, 255 domain.
    #[error("the {0} is too long")]
    TooLong(&'static str),
    /// A byte that no address may have: a control character, a space outside quotes.
    #[error("the {0} has a character that is not allowed")]
    Character(&'static str),
    /// A part that must be there is empty.
    #[error("the {0} is empty")]
    Empty(&'static str),
}

/// A domain name in lower case, or an address literal with its brackets (`[192.0.2.1]`, `[IPv6:2001:db8::1]`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Box<str>);

impl Domain {
    /// Takes a domain whose syntax was checked already and lower-cases its ASCII letters.
    /// Refuses what could break out of a line or of angle brackets.
    pub fn new(text: &str) -> Result<Self, AddressError> {
        Self::check(text)?;
        Ok(Self(text.to_ascii_lowercase().into_boxed_str()))
    }

    fn check(text: &str) -> Result<(), AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty("domain"));
        }
        if text.len() > 255 {
            return Err(AddressError::TooLong("domain"));
        }
        if text.chars().any(|c| c.is_control() || matches!(c, ' ' | '<' | '>' | '@' | '"' | '\\')) {
            return Err(AddressError::Character("domain"));
        }
        Ok(())
    }

    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for `[192.0.2.1]` and its like.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `local-part@domain`. The local part is kept exactly as sent, quotes included; `postmaster` alone has no domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mailbox {
    local_part: Box<str>,
    domain: Option<Domain>,
}

impl Mailbox {
    /// An address of a checked local part (as sent) and a domain.
    pub fn new(local_part: &str, domain: Domain) -> Result<Self, AddressError> {
        Self::check_local(local_part)?;
        Ok(Self { local_part: local_part.into(), domain: Some(domain) })
    }

    /// `<Postmaster>` without a domain, which every server must take. RFC 5321 4.5.1. The spelling is kept.
    pub fn bare_postmaster(as_sent: &str) -> Result<Self, AddressError> {
        if as_sent.eq_ignore_ascii_case("postmaster") {
            Ok(Self { local_part: as_sent.into(), domain: None })
        } else {
            Err(AddressError::Empty("domain"))
        }
    }

    fn check_local(local_part: &str) -> Result<(), AddressError> {
        if local_part.is_empty() {
            return Err(AddressError::Empty("local part"));
        }
        // RFC 5321 4.5.3.1.1: 64 octets. The bytes are what was sent, so quotes count.
        if local_part.len() > 64 {
            return Err(AddressError::TooLong("local part"));
        }
        let quoted = local_part.starts_with('"');
        if local_part.chars().any(|c| c.is_control() || (!quoted && matches!(c, ' ' | '<' | '>'))) {
            return Err(AddressError::Character("local part"));
        }
        Ok(())
    }

    /// The local part as sent.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.local_part
    }

    /// The domain; `None` only for a bare postmaster.
    #[must_use]
    pub fn domain(&self) -> Option<&Domain> {
        self.domain.as_ref()
    }

    /// True if any byte is outside ASCII, so that SMTPUTF8 is needed. RFC 6531.
    #[must_use]
    pub fn is_international(&self) -> bool {
        !self.local_part.is_ascii() || self.domain.as_ref().is_some_and(|d| !d.as_str().is_ascii())
    }

    /// Whether [`Self::parse_stored`] reads this. Makes nothing.
    pub fn check_stored(text: &str) -> Result<(), AddressError> {
        match text.rsplit_once('@') {
            Some((local, domain)) => Domain::check(domain).and_then(|()| Self::check_local(local)),
            None if text.eq_ignore_ascii_case("postmaster") => Ok(()),
            None => Err(AddressError::Empty("domain")),
        }
    }

    /// Reads back what `Display` wrote: splits at the last `@`. For stored envelopes, not for the wire.
    pub fn parse_stored(text: &str) -> Result<Self, AddressError> {
        match text.rsplit_once('@') {
            Some((local, domain)) => Self::new(local, Domain::new(domain)?),
            None => Self::bare_postmaster(text),
        }
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.local_part)?;
        match &self.domain {
            Some(domain) => write!(f, "@{domain}"),
            None => Ok(()),
        }
    }
}

/// Where failures are reported: an address, or the null path `<>` of a bounce. RFC 5321 4.5.5.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: nothing is ever reported to it.
    Null,
    /// An address.
    Mailbox(Mailbox),
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

/// Where a message goes.
pub type ForwardPath = Mailbox;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_local_part_with_an_at_sign_survives_storing() {
        let mailbox = Mailbox::new("\"a@b c\"", Domain::new("Example.TEST").unwrap()).unwrap();
        assert_eq!(mailbox.to_string(), "\"a@b c\"@example.test");
        assert_eq!(Mailbox::parse_stored(&mailbox.to_string()).unwrap(), mailbox);
    }

    #[test]
    fn line_ends_can_never_be_part_of_an_address() {
        assert!(Domain::new("a\r\nRCPT TO:<x>").is_err());
        assert!(Mailbox::new("a\r\nb", Domain::new("c").unwrap()).is_err());
        assert!(Mailbox::new("\"a\nb\"", Domain::new("c").unwrap()).is_err());
    }
}
