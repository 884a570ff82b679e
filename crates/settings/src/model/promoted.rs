//! Storage that one node at a time has mounted, and the proof that a node is off.

use std::time::Duration;

/// How devices are asked and moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromotedSettings {
    /// The program and its arguments. `state`, `promote` or `release`, the queue and its directory come behind them.
    pub command: Vec<String>,
    /// It is taken for failed after so long.
    pub timeout: Duration,
}

/// How a node is put off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceSettings {
    /// The program and its arguments. `off` and the node come behind them. It exits with 0 only if the node is proven off.
    pub command: Vec<String>,
    /// It is taken for failed after so long.
    pub timeout: Duration,
}
