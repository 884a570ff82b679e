//! `switchctl node`: a node leaves the cluster in order, and comes back.

use std::time::Duration;

use clap::Subcommand;

use super::common::Common;
use crate::command::Outcome;
use crate::node;

#[derive(Debug, Subcommand)]
pub(super) enum Node {
    /// Every node as this one sees it.
    Show,
    /// Take this node, or that of --node, out: balancers first, then clients, then its queue is released and its switch ends.
    ///
    /// Refused with 4 while no other node could take what is left in the queue.
    Drain {
        /// How long only health probes say so, before new clients get 421.
        #[arg(long, value_parser = settings::parse_duration, value_name = "D", default_value = "5s")]
        notice: Duration,
        /// Also where no other node could take what is left in the queue.
        #[arg(long)]
        force: bool,
    },
    /// Bring the node back.
    Resume,
}

/// Carries out a verb.
pub(super) fn run(common: &Common, verb: &Node) -> Outcome {
    let context = common.context()?;
    match verb {
        Node::Show => node::show(&context),
        Node::Drain { notice, force } => node::drain(&context, *notice, *force),
        Node::Resume => node::resume(&context),
    }
}
