//! Why a request was not carried out.

use serde::{Deserialize, Serialize};

/// What a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// It could harm: mail, or the cluster's only copy of something.
    RefusedUnsafe,
    /// There is no such queue, node or record here.
    NotFound,
    /// It was tried and did not work.
    Failed,
    /// Something else is under way, or too many ask at once. Ask again later.
    Busy,
    /// It was not done within the request's deadline. It may still happen.
    Timeout,
    /// The program that is asked does not run on the node.
    NotRunning,
    /// The request could not be read: another version, an unknown word, a line too long.
    Invalid,
}

impl Code {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RefusedUnsafe => "refused_unsafe",
            Self::NotFound => "not_found",
            Self::Failed => "failed",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::NotRunning => "not_running",
            Self::Invalid => "invalid",
        }
    }
}

/// Why a request was not carried out, with a sentence for people: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The kind.
    pub code: Code,
    /// The sentence.
    pub message: String,
}

impl Fault {
    /// A fault of that kind.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// It could harm.
    #[must_use]
    pub fn refused_unsafe(message: impl Into<String>) -> Self {
        Self::new(Code::RefusedUnsafe, message)
    }

    /// There is no such thing here.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// It was tried and did not work.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::Failed, message)
    }

    /// Something else is under way.
    #[must_use]
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(Code::Busy, message)
    }
}
