//! SMTP without sockets: the strict command parser, the receiving session and the sending transaction as pure machines.
//! Touches no world.
//!
//! | module | noun |
//! |---|---|
//! | [`session`] | the receiving side of one connection |
//! | [`transaction`] | the sending side of one message on an established connection |
//! | [`command`], [`path`], [`parameter`], [`xtext`] | what a command line means |
//! | [`dot`] | where a message ends, and the dots in it |
//! | [`reply`] | writing replies |
//! | [`hello`] | EHLO, RSET, QUIT as lines |
//! | [`limits`] | every bound and timeout |
//!
//! Only CRLF ends a line, only CRLF `.` CRLF ends a message, and a message with any other line end is refused.

mod chunk;
pub mod command;
pub mod dot;
pub mod hello;
pub mod limits;
mod line;
pub mod parameter;
pub mod path;
pub mod reply;
pub mod session;
pub mod transaction;
pub mod xtext;

pub use line::LineFault;
