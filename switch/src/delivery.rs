//! SMTP out: what is in the queue goes to its next hops.
//!
//! | file | what it is |
//! |---|---|
//! | `dispatcher` | the task that knows what is due, and the workers it starts |
//! | `idle` | workers that wait for something to do |
//! | `context` | what all of them share |
//! | `destination` | where an item of the schedule goes |
//! | `claims` | recipients that are in somebody's hands |
//! | `plan` | from the books to what is to be done for one message at one destination |
//! | `attempt` | one message to one next hop: attempt, connection, transaction, outcome |
//! | `published` | MX hosts, and what DANE and MTA-STS ask of them |
//! | `share` | which destinations the other switches of this node send to as well |
//! | `stop` | a host before it is spoken to |
//! | `walk` | the hosts of a next hop, looked up and tried one after the other |
//! | `transfer` | the shell of `smtp::transaction` |
//! | `connection`, `wire` | a connection whose greeting and EHLO are done, and the replies on it |
//! | `login` | how this switch authenticates with a next hop |
//! | `care` | recipients that are in doubt, or may crash us |
//! | `octets` | whether content needs 8BITMIME and SMTPUTF8 |
//! | `clear` | hosts whose TLS failed and that may be spoken to in clear |
//! | `offer` | what a host offers |
//! | `handovers` | names of what was handed over to hosts that know repeats |
//! | `give_up` | recipients given up by an operator |
//! | `suspended` | domains to which nothing is sent for some time |
//! | `recent` | content of messages that just came, so that it is not read back |
//! | `pool` | connections that wait for the next message |
//! | `verdict` | from what became of recipients to what the journal is told |
//!
//! Never: a final dot before its ATTEMPT is durable, or without asking the queue; a recipient in two transactions at once.

mod attempt;
mod care;
mod claims;
mod clear;
mod connection;
mod context;
mod destination;
mod dispatcher;
mod give_up;
mod handovers;
mod idle;
mod login;
mod octets;
mod offer;
mod plan;
mod pool;
mod published;
mod recent;
mod share;
mod stop;
mod suspended;
mod transfer;
mod verdict;
mod walk;
mod wire;

pub use context::DeliveryParts;
pub use dispatcher::Delivery;
pub(crate) use dispatcher::{DeliveryFigures, Line};
