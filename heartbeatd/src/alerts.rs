//! What an operator is told without asking: raised once, repeated seldom, resolved when it is over.
//!
//! | file | what it is |
//! |---|---|
//! | `notice` | what is told |
//! | `watch` | what is wrong, and when it is told: decides only |
//! | `channels` | who is told, with retries |
//! | `webhook`, `mail` | two of the ways |

mod channels;
mod mail;
mod notice;
mod watch;
mod webhook;

pub(crate) use self::channels::Channels;
pub(crate) use self::watch::{Alerts, conditions};
