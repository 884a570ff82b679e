//! A user as the switch knows it once it is authenticated: its name, and the senders that are its own.

use std::fmt;
use std::str::FromStr;

use mail_model::{Domain, Mailbox, ReversePath};

/// Senders that a user may write as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderPattern {
    /// `*`: everybody.
    Any,
    /// `@example.test`: every address of this domain, not of those below it.
    Domain(Domain),
    /// `user@example.test`.
    Address(Mailbox),
}

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no sender; write user@example.test, @example.test or *")]
pub struct SenderPatternError(String);

impl SenderPattern {
    fn matches(&self, sender: &Mailbox) -> bool {
        match self {
            Self::Any => true,
            Self::Domain(domain) => sender.domain() == Some(domain),
            // The case of a local part may matter to its host (RFC 5321 2.4), but nobody else owns the other spelling.
            Self::Address(address) => {
                address.domain() == sender.domain()
                    && address.local_part().eq_ignore_ascii_case(sender.local_part())
            }
        }
    }
}

impl FromStr for SenderPattern {
    type Err = SenderPatternError;

    fn from_str(text: &str) -> Result<Self, SenderPatternError> {
        let fault = || SenderPatternError(text.to_owned());
        if text == "*" {
            return Ok(Self::Any);
        }
        // What stands in a list of senders, in a line of fields.
        if text.contains([',', ' ']) {
            return Err(fault());
        }
        match text.strip_prefix('@') {
            Some(domain) => Domain::new(domain).map(Self::Domain).map_err(|_| fault()),
            None if text.contains('@') => Mailbox::parse_stored(text).map(Self::Address).map_err(|_| fault()),
            None => Err(fault()),
        }
    }
}

impl fmt::Display for SenderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Domain(domain) => write!(f, "@{domain}"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name, in lower case.
    pub name: Box<str>,
    /// The senders that are its own.
    pub senders: Vec<SenderPattern>,
}

impl Account {
    /// True if messages may come from `sender`. The null path is everybody's: notifications about mail are sent with it.
    /// RFC 5321 4.5.5.
    #[must_use]
    pub fn may_send_as(&self, sender: &ReversePath) -> bool {
        match sender {
            ReversePath::Null => true,
            ReversePath::Mailbox(mailbox) => self.senders.iter().any(|own| own.matches(mailbox)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_sends_as_its_own_senders_and_as_nobody_else() {
        let account = Account {
            name: "alice".into(),
            senders: ["Alice@Example.test", "@lists.test"].iter().map(|p| p.parse().unwrap()).collect(),
        };
        let may =
            |sender: &str| account.may_send_as(&ReversePath::Mailbox(Mailbox::parse_stored(sender).unwrap()));
        for own in ["alice@example.test", "ALICE@EXAMPLE.TEST", "any@lists.test"] {
            assert!(may(own), "{own}");
        }
        for other in ["bob@example.test", "alice@sub.example.test", "a@x.lists.test", "postmaster"] {
            assert!(!may(other), "{other}");
        }
        assert!(account.may_send_as(&ReversePath::Null));
        assert!(
            !Account { name: "x".into(), senders: Vec::new() }
                .may_send_as(&ReversePath::Mailbox(Mailbox::parse_stored("x@y.test").unwrap()))
        );
    }

    #[test]
    fn a_pattern_reads_back_as_it_is_shown() {
        for text in ["*", "@example.test", "a.b@example.test"] {
            assert_eq!(text.parse::<SenderPattern>().unwrap().to_string(), text);
        }
        for bad in ["", "@", "alice", "a@", "a b@c.test", "a@b.test,c@d.test"] {
            assert!(bad.parse::<SenderPattern>().is_err(), "{bad}");
        }
    }
}
