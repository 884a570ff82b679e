//! One at a time of those who hand over the same message: a client may repeat it while the session that has its first copy does not
//! know yet that its client is gone. Whoever comes second finds what became of the first.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as Lock, OwnedMutexGuard};

type Locks = Arc<Mutex<HashMap<Box<str>, Arc<Lock<()>>>>>;

/// The names in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Locks);

/// The right to store a message of one name. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    locks: Locks,
    name: Box<str>,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until nobody else stores a message of this name. Each waits for a commit and the filters before it, no longer.
    pub(crate) async fn of(&self, name: &str) -> Turn {
        let lock = Arc::clone(self.0.lock().entry(name.into()).or_default());
        let held = Some(lock.lock_owned().await);
        Turn { locks: Arc::clone(&self.0), name: name.into(), held }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut locks = self.locks.lock();
        self.held = None;
        // Who waits has a hand on it.
        if locks.get(&self.name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_of_a_name_goes_at_a_time_and_nothing_is_kept_of_those_that_went() {
        let turns = Turns::default();
        let first = turns.of("x").await;
        let other = turns.of("y").await;
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.of("x").await) }
        });
        let both = |turns: &Turns| turns.0.lock().get("x").map_or(0, Arc::strong_count);
        while both(&turns) < 3 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        drop((first, other));
        waiting.await.unwrap();
        assert!(turns.0.lock().is_empty());
    }
}
