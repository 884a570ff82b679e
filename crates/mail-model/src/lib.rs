//! The nouns every other crate speaks in: ids, addresses, envelopes, replies, time as numbers.
//!
//! This is the ground floor: it imports nothing of ours, reads no clock, opens nothing. Everything here is a value
//! that was checked once, when it was made.

mod address;
mod envelope;
mod id;
mod lease;
mod reply;
mod time;

pub use address::{AddressError, Domain, ForwardPath, Mailbox, ReversePath};
pub use envelope::{BodyType, DsnReturn, Envelope, Notify, OriginalRecipient, Recipient, RecipientIndex};
pub use id::{AttemptNumber, BootId, Epoch, IdError, InstanceId, MessageId, NodeId, QueueId, SegmentId};
pub use lease::{LeaseState, Reason, Role};
pub use reply::{EnhancedStatus, Reply, ReplyClass, TAKEN_BEFORE};
pub use time::{Clock, Moment, WallTime};
