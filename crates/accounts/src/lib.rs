//! Who may submit mail: a directory of users, how their passwords are checked, and the server's side of SASL.
//!
//! | file | noun |
//! |---|---|
//! | `account` | a user, and which senders are theirs |
//! | `verifier` | what is kept of a password |
//! | `directory` | where users are looked up: the trait |
//! | `users` | the users file as text |
//! | `file` | the users file on disk: looked up, edited |
//! | `exchange` | one authentication, message by message |
//! | `said` | what a mechanism says to a message |
//! | `scram` | SCRAM of both sides, over rsasl |
//!
//! A directory is asked in blocking calls: checking a password costs tens of milliseconds on purpose. Callers keep it off the
//! threads that serve sessions, and bound how many run at once.
//!
//! Never: a password in a log, in an error or in a `Debug`; a reply that tells an unknown user from a wrong password.

mod account;
mod directory;
mod exchange;
mod file;
mod said;
mod scram;
mod users;
mod verifier;

pub use account::{Account, SenderPattern, SenderPatternError};
pub use directory::{Directory, Unavailable};
pub use exchange::Exchange;
pub use file::{FileDirectory, edit};
pub use said::{Denial, Said};
pub use scram::ScramClient;
pub use users::{User, Users, UsersFault, user_name};
pub use verifier::{ScramKeys, VerifierError, Verifiers};
