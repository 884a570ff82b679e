//! One authentication of a client, message by message: PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 (RFC 7677).
//!
//! | mechanism | messages of the client                       |
//! |-----------|----------------------------------------------|
//! | PLAIN     | `authorisation NUL name NUL password`        |
//! | LOGIN     | name, then password                          |
//! | SCRAM     | `client-first`, `client-final`, nothing      |
//!
//! A client authenticates as itself: an authorisation identity that is another is denied.

use std::sync::Arc;

use smtp::sasl::Mechanism;

use crate::account::Account;
use crate::directory::Directory;
use crate::said::{Denial, Said};
use crate::scram::ScramServer;

#[derive(Debug)]
enum State {
    Plain,
    Name,
    Password(String),
    Scram(Box<ScramServer>),
    /// The server's proof is out; the client has only to take note. RFC 4954 4.
    Proved(Account),
    Over,
}

/// The authentication.
#[derive(Debug)]
pub struct Exchange {
    directory: Arc<dyn Directory>,
    state: State,
}

impl Exchange {
    /// Before its first message.
    #[must_use]
    pub fn new(mechanism: Mechanism, directory: Arc<dyn Directory>) -> Self {
        let state = match mechanism {
            Mechanism::Plain => State::Plain,
            Mechanism::Login => State::Name,
            Mechanism::ScramSha256 => State::Scram(Box::new(ScramServer::new(Arc::clone(&directory)))),
        };
        Self { directory, state }
    }

    /// Takes the client's next message; `None` if it began without one. Blocks.
    pub fn step(&mut self, message: Option<&[u8]>) -> Said {
        let Some(message) = message else {
            return Said::Challenge(match self.state {
                State::Name => b"Username:".to_vec(),
                State::Plain | State::Password(_) | State::Scram(_) | State::Proved(_) | State::Over => {
                    Vec::new()
                }
            });
        };
        match std::mem::replace(&mut self.state, State::Over) {
            State::Plain => self.plain(message),
            State::Name => match text(message) {
                Some(name) => {
                    self.state = State::Password(name);
                    Said::Challenge(b"Password:".to_vec())
                }
                None => malformed(),
            },
            State::Password(name) => match text(message) {
                Some(password) => self.check(&name, &password),
                None => malformed(),
            },
            State::Scram(mut scram) => match scram.step(message) {
                (Said::Accepted(account), Some(proof)) => {
                    self.state = State::Proved(account);
                    Said::Challenge(proof)
                }
                (said @ Said::Challenge(_), _) => {
                    self.state = State::Scram(scram);
                    said
                }
                (said, _) => said,
            },
            State::Proved(account) if message.is_empty() => Said::Accepted(account),
            State::Proved(_) | State::Over => malformed(),
        }
    }

    fn plain(&self, message: &[u8]) -> Said {
        let parts: Option<Vec<&str>> =
            message.split(|byte| *byte == 0).map(|part| std::str::from_utf8(part).ok()).collect();
        match parts.as_deref() {
            Some([other, name, password]) if !name.is_empty() && !password.is_empty() => {
                if !other.is_empty() && !other.eq_ignore_ascii_case(name) {
                    return Said::Denied { name: Some((*name).to_owned()), why: Denial::Other };
                }
                self.check(name, password)
            }
            Some(_) | None => malformed(),
        }
    }

    fn check(&self, name: &str, password: &str) -> Said {
        match self.directory.check(name, password) {
            Ok(Some(account)) => Said::Accepted(account),
            Ok(None) => Said::Denied { name: Some(name.to_owned()), why: Denial::Wrong },
            Err(unavailable) => Said::Unavailable(unavailable),
        }
    }
}

fn text(message: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(message).ok()?;
    (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned())
}

fn malformed() -> Said {
    Said::Denied { name: None, why: Denial::Malformed }
}
