//! What is done with mail of which nobody knows whether it was delivered.

use std::fmt;
use std::str::FromStr;

/// A word that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no policy; write resend, hold or bounce")]
pub struct InDoubtError(String);

/// Its last octet was sent, and no answer came, or none that outlived its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum InDoubt {
    /// It goes again: it may arrive twice, and is never lost. RFC 5321 4.5.4.1 leaves no other way to who must not lose mail.
    #[default]
    Resend,
    /// A person decides.
    Hold,
    /// The sender is told: it may have arrived all the same.
    Bounce,
}

impl fmt::Display for InDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resend => "resend",
            Self::Hold => "hold",
            Self::Bounce => "bounce",
        })
    }
}

impl FromStr for InDoubt {
    type Err = InDoubtError;

    fn from_str(text: &str) -> Result<Self, InDoubtError> {
        match text {
            "resend" => Ok(Self::Resend),
            "hold" => Ok(Self::Hold),
            "bounce" => Ok(Self::Bounce),
            other => Err(InDoubtError(other.to_owned())),
        }
    }
}
