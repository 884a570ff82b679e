//! The queue proven: whatever ends its owner, at whatever moment, what was acknowledged is there, once and whole.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]
#![expect(clippy::panic, reason = "the same")]
#![expect(clippy::indexing_slicing, reason = "the same")]

mod begin;
mod crash;
mod damage;
mod disk;
mod drive;
mod full;
mod golden;
mod handover;
mod model;
mod power;
mod race;
