//! Which messages an operator means, and whether to ask first.

use clap::Args;

use crate::filter::{Filter, Term};

/// Which messages, and whether to ask first.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// Message ids, as in the 250 reply, or terms that choose messages.
    #[arg(value_name = "ID|TERM", required_unless_present = "all", conflicts_with = "all")]
    what: Vec<Term>,
    /// Every message.
    #[arg(long)]
    all: bool,
    /// Do it without asking.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Only show what would be touched.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
}

impl Choice {
    /// Everything in the queue, without asking.
    pub(crate) fn everything() -> Self {
        Self { what: Vec::new(), all: true, yes: true, dry_run: false }
    }

    /// What is meant.
    pub(crate) fn filter(&self) -> Filter<'_> {
        Filter::new(&self.what)
    }
}
