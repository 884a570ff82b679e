//! What the outgoing side is told besides routes and times.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use mail_model::{Domain, Mailbox, QueueId};

/// What senders are told, and what becomes of that if they cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BounceSettings {
    /// A sender is told once that a message waits for so long; `None` for never.
    pub warn: Option<Duration>,
    /// What becomes of mail without a sender that fails.
    pub double: DoubleBounce,
    /// Who is told of it, if somebody is.
    pub postmaster: Mailbox,
}

/// How mail goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySettings {
    /// Mail with 8-bit content for a host that does not offer 8BITMIME.
    pub eight_bit: EightBit,
    /// A message that was in flight at so many ends of an owner that nobody ordered is held; 0 for never.
    pub crash_hold: u8,
    /// Connections that wait for the next message.
    pub cache: CacheSettings,
    /// How queues show themselves, if not as the node that has them.
    pub owners: Vec<OwnerSettings>,
}

impl DeliverySettings {
    /// How a queue shows itself, if not as the node that has it.
    #[must_use]
    pub fn owner(&self, queue: &QueueId) -> Option<&OwnerSettings> {
        self.owners.iter().find(|owner| owner.queue == *queue)
    }
}

/// Connections that wait for the next message to their next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// How many wait for one next hop.
    pub connections: usize,
    /// How long one waits.
    pub idle: Duration,
    /// After so many messages a connection is closed.
    pub messages: u32,
}

/// How one queue shows itself, whichever node has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerSettings {
    /// Which.
    pub queue: QueueId,
    /// The name in EHLO.
    pub ehlo: Option<Domain>,
    /// Addresses that its connections come from, one of each kind.
    pub source: Vec<IpAddr>,
}

/// What becomes of 8-bit content where 8BITMIME is not offered. RFC 6152 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EightBit {
    /// It is returned.
    #[default]
    Bounce,
    /// It is sent as it is.
    Send,
}

impl EightBit {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bounce => "bounce",
            Self::Send => "send",
        }
    }
}

impl FromStr for EightBit {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "bounce" => Ok(Self::Bounce),
            "send" => Ok(Self::Send),
            other => Err(format!("'{other}' is no policy; write bounce or send")),
        }
    }
}

/// What becomes of mail without a sender, which is what notifications are, when it fails for good. RFC 5321 4.5.5: no report is
/// ever sent about it to the null path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DoubleBounce {
    /// It ends there, counted and logged.
    #[default]
    Discard,
    /// It is set aside for a person.
    Hold,
    /// The postmaster gets a report of it.
    Postmaster,
}

impl DoubleBounce {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::Hold => "hold",
            Self::Postmaster => "postmaster",
        }
    }
}

impl FromStr for DoubleBounce {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Discard, Self::Hold, Self::Postmaster];
        let found = all.into_iter().find(|policy| policy.as_str() == word);
        found.ok_or_else(|| format!("'{word}' is no policy; write discard, hold or postmaster"))
    }
}
