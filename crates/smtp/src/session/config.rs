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
    /// What happens to a client that does not wait where it must.
    pub pipelining: Pipelining,
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
            pipelining: Pipelining::default(),
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
    /// RFC 8689; under TLS only.
    pub require_tls: bool,
}

impl Default for Extensions {
    fn default() -> Self {
        Self {
            pipelining: true,
            eight_bit_mime: true,
            smtputf8: true,
            chunking: true,
            dsn: true,
            require_tls: true,
        }
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

/// RFC 2920 3.1: which commands must be the last of a group, and no groups before EHLO offered them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pipelining {
    /// What stands behind such a command is read as if the client had waited; after a refused DATA nothing is.
    #[default]
    Tolerate,
    /// `554 5.5.0`, and the connection is closed. What came is judged as it came, so a client that does not wait is caught
    /// when its bytes arrive together.
    Strict,
}
