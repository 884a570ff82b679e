//! What is asked of a benchmark.

use std::path::PathBuf;

/// The options of `switchctl bench`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Short runs of few loads, to see that everything works.
    pub(crate) quick: bool,
    /// Alternating runs of each load.
    pub(crate) pairs: usize,
    /// Seconds of traffic in one run.
    pub(crate) seconds: u64,
    /// Messages of a held queue.
    pub(crate) held: u64,
    /// Only loads whose name has this in it.
    pub(crate) only: Option<String>,
    /// Whether Postfix is measured too.
    pub(crate) postfix: bool,
    /// Where queues are written: this disk is measured.
    pub(crate) dir: PathBuf,
    /// Where `bench.json` and `bench.svg` go.
    pub(crate) report: Option<PathBuf>,
    /// JSON on standard output, and lines for people on standard error.
    pub(crate) json: bool,
}
