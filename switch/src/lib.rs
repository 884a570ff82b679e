//! The mail program: SMTP in, queue, SMTP out.
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the command line |
//! | `role` | the wiring, and the life of a primary or secondary |
//! | `intake` | SMTP in |
//! | [`delivery`] | SMTP out |
//! | `bounce` | what a sender is told of failures |
//! | `readiness` | whether new mail is taken |
//! | `admin`, `health` | what operators, heartbeatd and load balancers ask |
//! | [`tls`] | TLS of both sides |
//! | [`names`] | who is asked for names, and by which this switch is known |
//! | `sts` | MTA-STS policies of domains |
//! | `reload` | the configuration while the switch runs |
//! | `sockets`, `watchdog` | what the service manager hands down, and what it is told |
//! | [`counters`] | what was done |

mod admin;
mod bounce;
pub mod cli;
pub mod counters;
pub mod delivery;
mod health;
mod intake;
pub mod names;
mod readiness;
mod reload;
mod role;
mod sockets;
mod sts;
pub mod tls;
pub mod tracers;
mod watchdog;
