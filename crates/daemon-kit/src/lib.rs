//! What every daemon needs of the operating system: clock, identity, signals, logs, metrics text, child processes, limits.
//!
//! Each module is a thin shell over one kernel or systemd interface. Nothing here knows mail, queues or the cluster.

pub mod clock;
pub mod configuration;
pub mod exit;
pub mod identity;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod process;
pub mod signals;
pub mod sockets;
pub mod tables;

pub use clock::SystemClock;
pub use identity::{boot_id, instance_id};
