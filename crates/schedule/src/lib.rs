//! When which message is tried at which destination: back-off, due times, concurrency windows, fairness. Touches no world.
//!
//! | noun | what it is |
//! |---|---|
//! | [`RetryPolicy`] | when a deferred recipient is tried again, and for how long |
//! | [`ConcurrencyLimits`] | how much goes on at once |
//! | [`Queue`] | what is due where |
//! | [`Line`] | how a destination stands |

mod limits;
mod places;
mod queue;
mod retry;
mod waiting;
mod window;

pub use limits::ConcurrencyLimits;
pub use queue::{Line, Outcome, Queue, Task};
pub use retry::RetryPolicy;
