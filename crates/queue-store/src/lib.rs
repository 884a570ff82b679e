//! The queue on disk: claim, fence, seal, group commit, recovery, cleaning.
//!
//! | file | what it is |
//! |---|---|
//! | `queue` | the open queue, as the rest of the switch holds it |
//! | `shared` | what the threads of an open queue share |
//! | `owner` | the thread that takes and gives up the ownership: the shell of `cluster::instance` |
//! | `renew` | the thread that renews the lease |
//! | `journal` | the thread that commits, for everybody at once |
//! | `appender` | the writing end: append, sync, read the fence, and only then act |
//! | `ahead` | a recovery that reads the next digests meanwhile |
//! | `effect` | what of a record still has an effect |
//! | `uploads` | content that arrives before its message |
//! | `clean` | segments leave, oldest first |
//! | `content` | message bytes back from disk, checked |
//! | `history` | what the segments still tell of one message |
//! | `inspect` | a queue read without owning it |
//! | `metrics`, `figures` | what a monitoring is told |
//! | `observe` | a lease read by who watches it |
//! | `trouble` | trouble made on purpose, for a drill |
//! | `point` | where a test may end the process |
//! | `proof` | who confirms an ownership from outside of the storage |
//! | `files`, `lock` | the files of a queue directory |
//! | `fitness` | whether a file system can carry a queue at all |
//! | `storage` | every file operation, behind one trait |
//! | `threads` | who runs the threads: the system, or a simulation |

mod ahead;
mod appender;
mod clean;
mod content;
mod effect;
mod figures;
mod files;
mod fitness;
pub mod history;
pub mod inspect;
mod journal;
mod lock;
mod metrics;
pub mod observe;
mod owner;
mod point;
mod proof;
mod queue;
mod renew;
mod shared;
pub mod storage;
pub mod threads;
mod trouble;
mod uploads;

pub use appender::AppendError;
pub use content::{ContentError, ContentReader};
pub use figures::Figures;
pub use metrics::Recovery;
pub use point::CRASH_POINTS;
pub use proof::{Proof, Standing};
pub use queue::{Announced, Queue, QueueStatus, Refusal, Silence};
pub use shared::{OpenError, QueueOptions};
pub use trouble::Trouble;
