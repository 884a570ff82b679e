//! What becomes of mail that a route takes: it goes to a next hop, or it ends here.
//!
//! | written | meaning |
//! |---|---|
//! | hosts, `lmtp://…` | a [`NextHop`] |
//! | `discard` | it is taken and dropped; the books count it as deleted |
//! | `hold` | it is set aside until an operator or another route says where it goes |
//! | `error: 5.1.1 text` | it is refused: at RCPT where that is still possible, else by a bounce |

use std::fmt;
use std::str::FromStr;

use mail_model::{EnhancedStatus, Reply};

use crate::certificate::Identity;
use crate::credentials::Credentials;
use crate::in_doubt::InDoubt;
use crate::next_hop::{NextHop, NextHopError};
use crate::rate::Rate;
use crate::tls::TlsPolicy;

/// What a refusal begins with in writing.
const ERROR: &str = "error:";

/// Why a text is no target. It says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is no next hop either.
    #[error(transparent)]
    NextHop(#[from] NextHopError),
    /// `error:` without a status and a text.
    #[error("'{0}' says no error; write a status of class 4 or 5 and a text: error: 5.1.1 no such user")]
    Refusal(String),
}

/// What a sender is told of a recipient that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Refusal {
    status: EnhancedStatus,
    text: String,
}

impl Refusal {
    /// The reply: 550 for good, 450 for now.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let code = if self.status.class == 5 { 550 } else { 450 };
        Reply::local(code, self.status, self.text.clone())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.text)
    }
}

impl FromStr for Refusal {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let fault = || TargetError::Refusal(text.to_owned());
        let status =
            EnhancedStatus::parse_prefix(text).filter(|status| status.class != 2).ok_or_else(fault)?;
        let said = text.split_once(' ').map_or("", |(_, said)| said.trim());
        // It stands in a reply: one line, and of ASCII, since not every client knows SMTPUTF8.
        if said.is_empty() || said.len() > 400 || !said.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return Err(fault());
        }
        Ok(Self { status, text: said.to_owned() })
    }
}

/// What becomes of mail.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// It goes there.
    Hop(NextHop),
    /// It is dropped, and nobody is told.
    Discard,
    /// It is set aside.
    Hold,
    /// It is refused.
    Error(Refusal),
}

impl Target {
    /// Where it goes, if it goes anywhere.
    #[must_use]
    pub fn next_hop(&self) -> Option<&NextHop> {
        match self {
            Self::Hop(hop) => Some(hop),
            Self::Discard | Self::Hold | Self::Error(_) => None,
        }
    }

    /// The same under another TLS policy.
    #[must_use]
    pub fn with_tls(self, tls: TlsPolicy) -> Self {
        match self {
            Self::Hop(hop) => Self::Hop(hop.with_tls(tls)),
            other @ (Self::Discard | Self::Hold | Self::Error(_)) => other,
        }
    }
}

impl Target {
    /// The same under another policy for what is in doubt.
    #[must_use]
    pub fn with_in_doubt(self, in_doubt: InDoubt) -> Self {
        match self {
            Self::Hop(hop) => Self::Hop(hop.with_in_doubt(in_doubt)),
            other @ (Self::Discard | Self::Hold | Self::Error(_)) => other,
        }
    }

    /// The same at another rate.
    #[must_use]
    pub fn with_rate(self, rate: Option<Rate>) -> Self {
        match self {
            Self::Hop(hop) => Self::Hop(hop.with_rate(rate)),
            other @ (Self::Discard | Self::Hold | Self::Error(_)) => other,
        }
    }

    /// The same with this certificate.
    #[must_use]
    pub fn with_identity(self, identity: Option<Identity>) -> Self {
        match self {
            Self::Hop(hop) => Self::Hop(hop.with_identity(identity)),
            other @ (Self::Discard | Self::Hold | Self::Error(_)) => other,
        }
    }

    /// The same with these credentials.
    #[must_use]
    pub fn with_credentials(self, credentials: Option<Credentials>) -> Self {
        match self {
            Self::Hop(hop) => Self::Hop(hop.with_credentials(credentials)),
            other @ (Self::Discard | Self::Hold | Self::Error(_)) => other,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hop(hop) => hop.fmt(f),
            Self::Discard => f.write_str("discard"),
            Self::Hold => f.write_str("hold"),
            Self::Error(refusal) => write!(f, "{ERROR} {refusal}"),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let text = text.trim();
        match text {
            "discard" => Ok(Self::Discard),
            "hold" => Ok(Self::Hold),
            _ => match text.strip_prefix(ERROR) {
                Some(refusal) => refusal.trim().parse().map(Self::Error),
                None => Ok(Self::Hop(text.parse()?)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_reads_back_as_it_is_shown() {
        for text in [
            "10.0.0.1:25, b.test:2525",
            "discard",
            "hold",
            "error: 5.1.1 no such user",
            "error: 4.2.1 moving",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_error_has_a_status_and_a_text_of_one_line() {
        let said = |text: &str| match text.parse::<Target>().unwrap() {
            Target::Error(refusal) => refusal.reply().to_string(),
            other @ (Target::Hop(_) | Target::Discard | Target::Hold) => panic!("{other}"),
        };
        assert_eq!(said("error: 5.1.1 no such user"), "550 5.1.1 no such user");
        assert_eq!(said("error:4.2.1  moving house"), "450 4.2.1 moving house");
        for bad in
            ["error:", "error: no such user", "error: 5.1.1", "error: 2.1.1 fine", "error: 5.1.1 a\u{1}b"]
        {
            let told = bad.parse::<Target>().unwrap_err().to_string();
            assert!(told.contains("error: 5.1.1 no such user"), "{bad}: {told}");
        }
    }
}
