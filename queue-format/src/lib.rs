//! What the bytes of a queue mean. `docs/FORMAT.md` tells the same for people.
//!
//! Frames and records are encoded and decoded here, lease sectors too; `scan` reads a segment without touching it, and
//! `books` is what a queue *is* after a list of records. The same `books` serve the running owner, a restart, a takeover
//! and the offline checker, so there is one answer to "which messages are in this queue".
//!
//! Nothing here opens a file or reads a clock. Bytes come in as slices, and none of them can make this crate panic or
//! allocate more than the input is long.

pub mod books;
pub mod digest;
pub mod frame;
pub mod lease;
pub mod names;
pub mod record;
pub mod replay;
pub mod scan;
mod wire;

/// The version of everything in a queue directory. A reader refuses a version it does not know, and touches nothing.
pub const FORMAT_VERSION: u16 = 1;

pub use wire::DecodeError;
