//! Proof from outside of the storage that this owner still owns, for a device that one node mounts at a time.
//!
//! Two copies of a device that are cut from each other are two disks: a fence that is written on one is not read on the
//! other. So there an owner asks a register that lies outside of both, after each `fdatasync` and its own fence read. The
//! register is changed before the other copy is promoted, so what it still confirms the taker will find.

use std::fmt::Debug;

/// What the register says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// This owner owns.
    Ours,
    /// Another does, or nobody.
    Others,
    /// Nobody answers; why. Unknown means no effect.
    Unknown(String),
}

/// Who is asked. Both block the thread that asks; an unknown answer takes its time, so that nobody asks in a tight loop.
pub trait Proof: Send + Sync + Debug {
    /// Whether the device is promoted and mounted here, for this process: before the queue's directory is even looked at.
    fn begin(&self) -> Standing;
    /// Whether that ownership still stands, by a question that was sent after this call.
    fn stands(&self) -> Standing;
}
