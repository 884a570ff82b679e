//! The threads of an open queue, and how they wait.
//!
//! In production the system runs them. A simulation runs the same code one thread at a time, by a clock of its own, and
//! decides who goes next: so a story can be told again, step by step. Nothing else differs between the two.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};

/// A simulation that runs the threads of a queue.
pub trait Scheduler: Send + Sync + Debug {
    /// Starts `body` as a thread of the process that the calling thread is of.
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<()>;
    /// The calling thread rests until `ready`, and for `limit` at most.
    fn rest(&self, limit: Duration, ready: Box<dyn Fn() -> bool + Send>);
}

/// A simulated thread looks so often whether whoever it waits for has gone for good.
const SIMULATED_LOOK: Duration = Duration::from_millis(500);

/// Who runs the threads.
#[derive(Debug, Clone, Default)]
pub(crate) enum Threads {
    /// The operating system.
    #[default]
    System,
    /// A simulation.
    Simulated(Arc<dyn Scheduler>),
}

impl Threads {
    /// Starts a thread.
    pub(crate) fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        match self {
            Self::System => std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop),
            Self::Simulated(scheduler) => scheduler.spawn(name, Box::new(body)),
        }
    }

    /// What comes next from `inbox`. Without a limit it waits for ever.
    pub(crate) fn receive<T: Send + 'static>(
        &self,
        inbox: &Receiver<T>,
        limit: Option<Duration>,
    ) -> Result<T, RecvTimeoutError> {
        let scheduler = match (self, limit) {
            (Self::System, Some(limit)) => return inbox.recv_timeout(limit),
            (Self::System, None) => return inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            (Self::Simulated(scheduler), _) => scheduler,
        };
        loop {
            let watched = inbox.clone();
            scheduler.rest(limit.unwrap_or(SIMULATED_LOOK), Box::new(move || !watched.is_empty()));
            match inbox.try_recv() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) if limit.is_some() => return Err(RecvTimeoutError::Timeout),
                Err(TryRecvError::Empty) => {}
            }
        }
    }
}
