//! What a server answers: a code, an enhanced status, text. RFC 5321 4.2, RFC 2034, RFC 3463.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What another mailswitch answers to a message that it was handed before, behind 250 and the status: `docs/ONCE.md`.
pub const TAKEN_BEFORE: &str = "taken before, queued as";

/// The first digit of a reply, which is all that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplyClass {
    /// 2yz.
    Positive,
    /// 3yz.
    Intermediate,
    /// 4yz: try again later.
    Transient,
    /// 5yz: do not try again.
    Permanent,
}

/// `class.subject.detail`, for example `4.2.2`. RFC 3463.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EnhancedStatus {
    /// 2, 4 or 5.
    pub class: u8,
    /// 0 to 999.
    pub subject: u16,
    /// 0 to 999.
    pub detail: u16,
}

impl EnhancedStatus {
    /// Three numbers.
    #[must_use]
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Reads `4.2.2` from the start of a reply text; `None` if it does not start with one.
    #[must_use]
    pub fn parse_prefix(text: &str) -> Option<Self> {
        let word = text.split(' ').next()?;
        let mut parts = word.split('.');
        let class: u8 = parts.next()?.parse().ok()?;
        let subject: u16 = parts.next()?.parse().ok()?;
        let detail: u16 = parts.next()?.parse().ok()?;
        (parts.next().is_none() && matches!(class, 2 | 4 | 5) && subject <= 999 && detail <= 999)
            .then_some(Self { class, subject, detail })
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// A reply as it is stored and reported. Lines of a multi-line reply are joined with a space; at most 512 bytes are
/// kept; control characters have become spaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// From the text, if the server gave one.
    pub enhanced: Option<EnhancedStatus>,
    /// The text without code and enhanced status.
    pub text: String,
}

impl Reply {
    /// The most text of a reply that is kept, in bytes.
    pub const TEXT_MAX: usize = 512;

    /// A reply of our own making, for a failure no server spoke of (connection refused, lifetime over).
    #[must_use]
    pub fn local(code: u16, enhanced: EnhancedStatus, text: impl Into<String>) -> Self {
        Self { code, enhanced: Some(enhanced), text: Self::clean(&text.into()) }
    }

    /// A reply read from a peer: `text` is everything after the code, lines joined with spaces.
    #[must_use]
    pub fn from_peer(code: u16, text: &str) -> Self {
        let text = text.trim_start();
        match EnhancedStatus::parse_prefix(text) {
            Some(enhanced) => {
                let rest = text.split_once(' ').map_or("", |(_, rest)| rest);
                Self { code, enhanced: Some(enhanced), text: Self::clean(rest) }
            }
            None => Self { code, enhanced: None, text: Self::clean(text) },
        }
    }

    fn clean(text: &str) -> String {
        let mut kept = String::new();
        for c in text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }) {
            if kept.len() + c.len_utf8() > Self::TEXT_MAX {
                break;
            }
            kept.push(c);
        }
        kept
    }

    /// What the first digit says. Anything outside 200 to 599 is a protocol error of the peer and counts as transient.
    #[must_use]
    pub fn class(&self) -> ReplyClass {
        match self.code {
            200..=299 => ReplyClass::Positive,
            300..=399 => ReplyClass::Intermediate,
            500..=599 => ReplyClass::Permanent,
            _ => ReplyClass::Transient,
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        if !self.text.is_empty() {
            write!(f, " {}", self.text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_keeps_its_enhanced_status_apart_from_its_text() {
        let reply = Reply::from_peer(550, "5.1.1 no such\r\nuser");
        assert_eq!(reply.enhanced, Some(EnhancedStatus::new(5, 1, 1)));
        assert_eq!(reply.to_string(), "550 5.1.1 no such  user");
        assert_eq!(Reply::from_peer(250, "ok").enhanced, None);
        assert_eq!(Reply::from_peer(250, "2.0.0 queued").text, "queued");
    }

    #[test]
    fn a_code_outside_the_protocol_is_a_temporary_failure() {
        assert_eq!(Reply::from_peer(999, "").class(), ReplyClass::Transient);
    }
}
