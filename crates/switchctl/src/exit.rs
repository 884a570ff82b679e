//! Exit codes of `switchctl`: a contract with scripts.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Failed; the message says why.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Done for some nodes or queues only; the answer names the missing ones.
    Partial,
    /// Refused, because it could lose mail or split an ownership.
    Unsafe,
    /// No answer in time.
    Timeout,
    /// A drill or demo did not pass.
    DrillFailed,
    /// No such node, queue or message.
    NotFound,
}

impl Exit {
    /// The number the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Unsafe => 4,
            Self::Timeout => 5,
            Self::DrillFailed => 6,
            Self::NotFound => 7,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
