//! What the server's side of a mechanism says to a message of the client.

use crate::account::Account;
use crate::directory::Unavailable;

/// What the server says to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Go on with this.
    Challenge(Vec<u8>),
    /// The client is this user. Over.
    Accepted(Account),
    /// It is not. Over.
    Denied {
        /// Whom it called itself, if that was understood.
        name: Option<String>,
        /// Why, for the log; the client is not told.
        why: Denial,
    },
    /// Nobody can say now. Over.
    Unavailable(Unavailable),
}

/// Why a client is not whom it called itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// Unknown user or wrong password.
    Wrong,
    /// It wanted to act for another.
    Other,
    /// The message does not follow the mechanism.
    Malformed,
}
