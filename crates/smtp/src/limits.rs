//! Every bound of the two machines, with its default.

use std::time::Duration;

use serde::Deserialize;

/// The bounds of a receiving session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest message, in octets as SIZE counts them. RFC 1870.
    pub message_size: u64,
    /// Recipients of one message. RFC 5321 4.5.3.1.8: at least 100.
    pub recipients: u16,
    /// The longest command line in octets, CRLF included. RFC 5321 4.5.3.1.4 and the allowances of the extensions.
    pub command_line: usize,
    /// Errors of a client until the session is closed. A stored message sets the count back to zero.
    pub errors: u32,
    /// Commands other than MAIL, RCPT, DATA, BDAT and QUIT between two stored messages until the session is closed.
    pub commands_without_mail: u32,
    /// Failed authentications until the session is closed.
    pub failed_authentications: u32,
    /// Milliseconds for one whole command. RFC 5321 4.5.3.2.7: at least 5 minutes.
    pub command_ms: u64,
    /// Milliseconds without a byte of the message. RFC 5321 4.5.3.2.5 gives the client 3 minutes for a block.
    pub data_ms: u64,
    /// Milliseconds for one whole message, so that a slow drip does not hold a session for days.
    pub message_ms: u64,
    /// Octets of the message that must have come for each second beyond the first `data_ms`; 0 for none.
    pub data_rate: u64,
    /// Milliseconds until a session is closed when it is between commands.
    pub session_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_size: 10 * 1024 * 1024,
            recipients: 1000,
            command_line: 2048,
            errors: 20,
            commands_without_mail: 100,
            failed_authentications: 3,
            command_ms: 300_000,
            data_ms: 300_000,
            message_ms: 3_600_000,
            data_rate: 100,
            session_ms: 21_600_000,
        }
    }
}

/// How long the sending side waits, phase by phase. RFC 5321 4.5.3.2.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SendTimeouts {
    /// For the reply to MAIL: 5 minutes.
    pub mail_ms: u64,
    /// For the reply to RCPT: 5 minutes.
    pub recipient_ms: u64,
    /// For the 354 of DATA: 2 minutes.
    pub data_ms: u64,
    /// For one block of the body to be taken by the peer: 3 minutes.
    pub block_ms: u64,
    /// For the reply to the final dot: 10 minutes. Shorter means duplicates.
    pub final_dot_ms: u64,
}

impl Default for SendTimeouts {
    fn default() -> Self {
        Self {
            mail_ms: 300_000,
            recipient_ms: 300_000,
            data_ms: 120_000,
            block_ms: 180_000,
            final_dot_ms: 600_000,
        }
    }
}

/// Milliseconds as a span.
pub(crate) fn span(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
