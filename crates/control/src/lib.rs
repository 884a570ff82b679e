//! How the programs talk to each other and to operators: requests and answers over a unix socket, and between nodes over TLS.
//!
//! One JSON object per line, at most [`LINE_BYTES_MAX`] bytes:
//!
//! ```text
//! -> {"version":1,"deadline_ms":5000,"request":"status"}
//! <- {"version":1,"answer":{"status":{…}}}
//! <- {"version":1,"fault":{"code":"busy","message":"…"}}
//! ```
//!
//! A connection carries any number of requests, one at a time. What can be asked is in [`switch`], [`heartbeatd`],
//! [`device`] and [`register`]; the [`arbiter`] of promoted storage is asked by its own;
//! where the sockets lie is in [`paths`]. Mail that needs no answer is left in the [`maildrop`].
//! Who may open the socket may ask everything: its mode is 600. Programs of other nodes are asked over the [`network`].

mod address;
pub mod arbiter;
pub mod client;
pub mod device;
mod fault;
pub mod heartbeatd;
mod line;
pub mod maildrop;
pub mod network;
pub mod paths;
mod program;
pub mod register;
pub mod server;
pub mod switch;

pub use client::{CallError, Client, ask, ask_node};
pub use fault::{Code, Fault};
pub use line::{LINE_BYTES_MAX, Request, VERSION};
pub use program::Program;
pub use server::{BindError, ServeLimits, Server};
