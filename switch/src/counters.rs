//! What this instance did since its start, as plain numbers that any task may add to. Nothing is decided by them.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a switch.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages accepted from clients.
    pub accepted: Counter,
    /// Recipients refused to clients.
    pub refused: Counter,
    /// Recipients a next hop took.
    pub delivered: Counter,
    /// Recipients that failed for good.
    pub bounced: Counter,
    /// Recipients put off, each time counted.
    pub deferred: Counter,
}
