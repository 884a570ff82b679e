//! What a relay writes into mail: the Received field, the hop count, delivery status notifications. Touches no world.
//!
//! | noun | what it is |
//! |---|---|
//! | [`Posted`] | the same for mail of programs of this machine |
//! | [`Received`] | the trace field that goes on top of every message that is relayed |
//! | [`Completion`] | Date and Message-ID, added to a submitted message that lacks them |
//! | [`edit`] | fields taken out, replaced or put on top |
//! | [`ResultsFilter`] | takes out what others forged in our name |
//! | [`HopCount`] | how many hosts a message has passed, counted while its header streams by |
//! | [`Shape`] | how large its header is and how deep its parts nest, measured while it streams by |
//! | [`Report`] | a delivery status notification: what became of whom, and the message it is about |

mod complete;
mod date;
pub mod edit;
mod filter;
mod hops;
mod received;
mod report;
mod shape;

pub use complete::Completion;
pub use filter::ResultsFilter;
pub use hops::HopCount;
pub use received::{Posted, Received};
pub use report::{Action, Report, ReportedRecipient, Returned};
pub use shape::{Excess, Shape, ShapeLimits};
