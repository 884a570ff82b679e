//! The takeover protocol as pure machines. Nothing here reads a clock, a file or a socket: events come in, ordered
//! actions come out, and the same machines run in production, in tests and in a model checker.

pub mod device;
pub mod drill;
pub mod heartbeat;
pub mod instance;
pub mod observe;
pub mod register;
pub mod restart;
pub mod takeover;
pub mod timers;

pub use timers::{TimerFault, Timers};
