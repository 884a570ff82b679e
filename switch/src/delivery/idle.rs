//! Workers that wait for something to do. Where messages come one by one, each would else have a task made for it and
//! ended again, and the dispatcher would be told of every end.

use parking_lot::Mutex;
use queue_format::record::MessageKey;
use schedule::Task;
use tokio::sync::oneshot;

use super::destination::Destination;

/// Workers that may wait. Each holds a few kilobytes.
const WORKERS_MAX: usize = 64;

/// What a worker is told to do.
pub(crate) type Order = Task<Destination, MessageKey>;

#[derive(Debug, Default)]
struct Waiting {
    workers: Vec<oneshot::Sender<Order>>,
    closed: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Idle(Mutex<Waiting>);

impl Idle {
    /// Gives `order` to the worker that began to wait last. It comes back if none waits.
    pub(crate) fn give(&self, mut order: Order) -> Option<Order> {
        loop {
            let worker = self.0.lock().workers.pop();
            let Some(worker) = worker else { return Some(order) };
            match worker.send(order) {
                Ok(()) => return None,
                // That one was ended while it waited.
                Err(refused) => order = refused,
            }
        }
    }

    /// The next order for the worker that asks; `None` if it is to end.
    pub(crate) async fn order(&self) -> Option<Order> {
        let (worker, order) = oneshot::channel();
        {
            let mut waiting = self.0.lock();
            if waiting.closed || waiting.workers.len() >= WORKERS_MAX {
                return None;
            }
            waiting.workers.push(worker);
        }
        order.await.ok()
    }

    /// Ends all that wait, and whoever would.
    pub(crate) fn close(&self) {
        let mut waiting = self.0.lock();
        waiting.closed = true;
        waiting.workers.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mail_model::Epoch;

    use super::*;

    fn order(sequence: u64) -> Order {
        let item = MessageKey { epoch: Epoch(1), sequence };
        Task { destination: Destination::Discard, item, expired: false }
    }

    #[tokio::test]
    async fn who_waits_gets_the_order_and_nobody_waits_once_it_is_closed() {
        let idle = Arc::new(Idle::default());
        assert_eq!(idle.give(order(1)), Some(order(1)), "nobody waits");
        let spawn = || {
            let idle = Arc::clone(&idle);
            tokio::spawn(async move { idle.order().await })
        };
        let gone = spawn();
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.is_err());
        assert_eq!(idle.give(order(2)), Some(order(2)), "the one that waited has ended");
        let (first, last) = (spawn(), spawn());
        while idle.0.lock().workers.len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(idle.give(order(3)), None);
        idle.close();
        assert_eq!((first.await.unwrap(), last.await.unwrap()), (None, Some(order(3))));
        assert_eq!(idle.order().await, None);
        assert_eq!(idle.give(order(4)), Some(order(4)));
    }
}
