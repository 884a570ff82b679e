//! `checks`: what is asked of strangers and their senders.

use ipnet::IpNet;
use mail_model::Domain;

/// What strangers are asked for. Nothing, unless it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckSettings {
    /// What the name in EHLO or HELO must be.
    pub helo: HeloCheck,
    /// The domain of the sender must be one that mail can be sent to.
    pub sender_domain: bool,
    /// Lists of clients whose mail is refused.
    pub block_lists: Vec<BlockList>,
}

/// What the name in EHLO or HELO must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeloCheck {
    /// Anything.
    #[default]
    Off,
    /// A full name, or an address in brackets.
    Full,
    /// The same, and the name exists.
    Exists,
}

impl HeloCheck {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Full => "full",
            Self::Exists => "exists",
        }
    }
}

/// A list in DNS. RFC 5782.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockList {
    /// Where it is.
    pub zone: Domain,
    /// The answers that count; empty: those of RFC 5782 2.1 but for what lists use to say that they do not answer.
    pub replies: Vec<IpNet>,
}
