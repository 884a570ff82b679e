//! The proving ground: an SMTP load generator, a capturing sink, a balancer, and the books that compare what they saw.
//!
//! It stands outside the switches and knows nothing of their inside, so that no number about them comes from themselves.
//!
//! | noun | what it is |
//! |---|---|
//! | [`Load`] | says what mail to send; [`Load::start`] sends it and records every message's fate as the client saw it |
//! | [`Sink`] | an SMTP server that records each message it takes, obeys a [`Behaviour`], and notes faults of its client |
//! | [`Balancer`] | forwards TCP to healthy backends, round robin, and cuts sessions of one that dies |
//! | [`Balance`] | accepted against delivered: what was lost, doubled, damaged |
//! | [`Flood`], [`Drain`] | a generator and a sink that only count: for measurements |
//! | [`Dialogue`] | one SMTP connection spoken by hand |
//!
//! Time is given by the caller's [`mail_model::Clock`]: with the system clock all moments are comparable with those
//! of every process on the machine.

mod balancer;
mod books;
mod client;
mod content;
mod dialogue;
mod drain;
mod flood;
mod listen;
mod pace;
mod record;
mod sink;

pub use balancer::{Backend, Balancer, BalancerOptions, Health};
pub use books::{Balance, Duplicate, Unexpected, UnexpectedReason};
pub use client::{Load, LoadRun, LoadTally, Patience};
pub use content::Content;
pub use dialogue::{Answer, Dialogue, DialogueError};
pub use drain::Drain;
pub use flood::{Flood, Flooded};
pub use pace::Rate;
pub use record::{Accepted, Delivery, Probe, ProbeTag};
pub use sink::{Act, Behaviour, Extensions, Rule, Sink, SinkOptions, SinkTally, Stage, Violation};
