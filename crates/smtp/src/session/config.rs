//! What a receiving session is told when it starts.

use mail_model::Domain;
use serde::Deserialize;

use crate::limits::Limits;

/// Who we are, what we offer, how much we take. Shared by all sessions of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// Our name in the greeting and in replies.
    pub hostname: Domain,
    /// The bounds.
    pub limits: Limits,
    /// What EHLO offers.
    pub extensions: Extensions,
    /// What happens to a client that talks before it is greeted.
    pub early_talk: EarlyTalk,
}

impl SessionConfig {
    /// Everything offered, default bounds, early talkers refused.
    #[must_use]
    pub fn new(hostname: Domain) -> Self {
        Self {
            hostname,
            limits: Limits::default(),
            extensions: Extensions::default(),
            early_talk: EarlyTalk::default(),
        }
    }
}

/// What EHLO offers beside SIZE and ENHANCEDSTATUSCODES, which always are. A parameter of an extension that is not
/// offered is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one line of the EHLO reply, independent of the others"
)]
pub struct Extensions {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3030, without BINARYMIME.
    pub chunking: bool,
    /// RFC 3461.
    pub dsn: bool,
}

impl Default for Extensions {
    fn default() -> Self {
        Self { pipelining: true, eight_bit_mime: true, smtputf8: true, chunking: true, dsn: true }
    }
}

/// RFC 5321 4.3.1: a client waits for the greeting. One that does not is most often a spam program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyTalk {
    /// `554 5.5.1`, and the connection is closed.
    #[default]
    Refuse,
    /// What it said is read as if it had waited.
    Tolerate,
}
