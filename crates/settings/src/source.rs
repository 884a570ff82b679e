//! What is parsed: the texts of the files, and the little of the machine that a default needs.

use std::path::PathBuf;

/// One file of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its path: named in faults, and relative paths in it start from its directory.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// What defaults take from the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// The machine's name, if it is known.
    pub hostname: Option<String>,
}
