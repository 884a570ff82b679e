//! What a demo is asked to do.

use std::fmt;

/// What happens to the last node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Fault {
    /// All its processes die at once (SIGKILL).
    #[default]
    Kill,
    /// All its processes stand still (SIGSTOP) and go on after the takeover.
    Freeze,
    /// Its heartbeats are cut, its storage is not: nobody may take its queue.
    Isolate,
    /// No space is left for its switch for a while: it must refuse mail, lose none, and come back by itself.
    DiskFull,
    /// Nothing.
    None,
}

impl Fault {
    /// Whether a takeover must follow. If not, none may.
    #[must_use]
    pub fn leads_to_takeover(self) -> bool {
        matches!(self, Self::Kill | Self::Freeze)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Isolate => "isolate",
            Self::DiskFull => "disk-full",
            Self::None => "none",
        })
    }
}

/// A demo.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many nodes.
    pub nodes: usize,
    /// Messages a second.
    pub rate: u32,
    /// Seconds of traffic.
    pub seconds: u32,
    /// What happens to the last node.
    pub fault: Fault,
    /// Decides the messages, and the moment of the fault within a quarter of a second.
    pub seed: u64,
    /// The last line of standard output is JSON; all else goes to standard error.
    pub json: bool,
    /// Keep the folder with queues and logs.
    pub keep: bool,
}
