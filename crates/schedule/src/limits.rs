//! How much goes on at once.

/// Bounds of open transactions. Each is at least one, whatever is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcurrencyLimits {
    /// Toward one destination. Default 20.
    pub per_destination: usize,
    /// In all. Default 500.
    pub total: usize,
    /// Toward a destination of which nothing is known yet; it grows from there. Default 5.
    pub initial: usize,
}

impl Default for ConcurrencyLimits {
    fn default() -> Self {
        Self { per_destination: 20, total: 500, initial: 5 }
    }
}
