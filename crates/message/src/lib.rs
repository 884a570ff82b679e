//! What a relay writes into mail: the Received field, the hop count, delivery status notifications. Touches no world.
//!
//! | noun | what it is |
//! |---|---|
//! | [`Posted`] | the same for mail of programs of this machine |
//! | [`Received`] | the trace field that goes on top of every message that is relayed |
//! | [`Completion`] | Date and Message-ID, added to a submitted message that lacks them |
//! | [`ResultsFilter`] | takes out what others forged in our name |
//! | [`HopCount`] | how many hosts a message has passed, counted while its header streams by |
//! | [`Report`] | a delivery status notification: what became of whom, and the message it is about |

mod complete;
mod date;
mod filter;
mod hops;
mod received;
mod report;

pub use complete::Completion;
pub use filter::ResultsFilter;
pub use hops::HopCount;
pub use received::{Posted, Received};
pub use report::{FailedRecipient, Report, Returned};
