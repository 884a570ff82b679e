//! The exit codes of the daemons. A service manager restarts on some of them and not on others.

/// Ended as asked.
pub const OK: u8 = 0;
/// Failed; the log says why. A restart may help.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration. A restart does not help.
pub const USAGE: u8 = 2;
/// Left the cluster in order, as an operator told it to. A restart would undo that.
pub const LEFT: u8 = 3;
/// Another owner has the queue, or the storage is sick (`EX_TEMPFAIL`). A restart claims anew and is safe.
pub const FENCED: u8 = 75;
