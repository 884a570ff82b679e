//! Where users are looked up. The users file is one such place; an LDAP server would be another.

use std::fmt::Debug;

use crate::account::Account;
use crate::verifier::ScramKeys;

/// Nobody can say now. The client is told to come again (RFC 4954 6: 454), and the text goes to the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// A directory of users. Its calls block.
pub trait Directory: Send + Sync + Debug {
    /// The user of this name, if this is their password. `None` for an unknown user and for a wrong password alike, after
    /// the same time.
    fn check(&self, name: &str, password: &str) -> Result<Option<Account>, Unavailable>;

    /// The SCRAM keys of this name, and the user if there is one. For a name without keys invented ones, always the same, so
    /// that nobody learns which names there are. RFC 5802 9.
    fn scram(&self, name: &str) -> Result<(ScramKeys, Option<Account>), Unavailable>;
}
