//! `switchctl ha`: who owns which queue, and drills.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Subcommand;
use cluster::drill::DrillFault;
use mail_model::{NodeId, QueueId};

use super::common::Common;
use crate::command::{Context, Failure, Outcome};
use crate::exit::Exit;
use crate::watch::Watch;
use crate::{drill, ha, readiness, status};

#[derive(Debug, Subcommand)]
pub(super) enum Ha {
    /// What the heartbeatd of this node sees, or of --node.
    Status {
        #[command(flatten)]
        watch: Watch,
    },
    /// Take the queue of NODE over to this node now. Safe at any instant; a live owner is fenced.
    Takeover {
        /// The queue's home node.
        node: NodeId,
        /// Why, for the record.
        #[arg(long, default_value = "ordered by an operator")]
        reason: String,
        /// Take nothing: read the queue as its taker would, and say how long each phase would take. The same as readiness.
        #[arg(long)]
        rehearse: bool,
    },
    /// Give the queue of NODE back to it.
    Handback {
        /// The queue's home node.
        node: NodeId,
    },
    /// No takeover by itself for a while.
    Pause {
        /// How long: 30s, 10m, 2h.
        #[arg(long = "for", value_parser = settings::parse_duration, value_name = "D")]
        span: Duration,
        /// Why, for the record.
        #[arg(long)]
        reason: String,
    },
    /// End a pause.
    Resume,
    /// Why this node did what it did with the queue of NODE: decisions with their evidence, oldest first.
    Why {
        /// The queue's home node.
        node: NodeId,
    },
    /// The latest decisions of this node.
    History {
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        #[command(flatten)]
        watch: Watch,
    },
    /// Promoted storage: may this node's copy of the queue go on without the other one? Asked by the storage's own scripts.
    ///
    /// Ends with 0 once the arbiter has noted that this node's copy is the only current one, so that the other is not
    /// promoted. Anything else means no: the device's writes must stand still.
    CopyAlone {
        /// The queue, by its home node's name.
        queue: QueueId,
    },
    /// If NODE died now: would its queue be taken over by this node, and how soon?
    ///
    /// Everything a takeover needs is tried or measured. Ends with 1 if it would fail.
    Readiness {
        /// The queue's home node.
        node: NodeId,
    },
    /// A real fault on one node of the live cluster, with probe mail and a report.
    #[command(subcommand)]
    Drill(Drill),
}

impl Ha {
    /// How often it is to be asked again, if it is.
    pub(super) fn watched(&self) -> Option<Duration> {
        if let Self::Status { watch } | Self::History { watch, .. } = self { watch.every } else { None }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Drill {
    /// Let a fault hit the node that --node names, and see what comes of it. Ordered from another node.
    ///
    /// kill: its switch gets SIGKILL, its heartbeatd falls silent. stop: the same with SIGTERM. freeze: the switch stands
    /// still. isolate: its heartbeats are cut, its storage is not, so nobody may take its queue. disk-full: no space is left for
    /// its switch, which must refuse mail and lose none. storage-hang: its storage does not answer. The fault ends by itself.
    /// Refused with 4 while anything else is wrong; ends with 6 if the objective is missed, or a probe lost, damaged, or
    /// delivered twice without a doubt on record.
    Run {
        /// kill, stop, freeze, isolate, disk-full or storage-hang.
        fault: DrillFault,
        /// The objective: from the fault to the first delivery out of the node's queue.
        #[arg(long, value_parser = settings::parse_duration, value_name = "D", default_value = "5s")]
        slo: Duration,
        /// How long the fault lasts; two stale windows and 4 s if not said, 2 minutes at most.
        #[arg(long = "for", value_parser = settings::parse_duration, value_name = "D")]
        span: Option<Duration>,
        /// Probe messages a second.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rate: u32,
        /// Send probe mail to this address, a load balancer for example; to every node's listener if not said.
        #[arg(long, value_name = "IP:PORT")]
        through: Option<SocketAddr>,
        /// Where the sink of probe mail listens, as every node reaches it; beside this node's listener if not said.
        #[arg(long, value_name = "IP:PORT")]
        sink: Option<SocketAddr>,
        /// Only say whether it could be done now.
        #[arg(long)]
        dry_run: bool,
    },
    /// The drills that were ordered on this node.
    List,
    /// The report of one drill.
    Report {
        /// As `drill list` names it.
        id: String,
    },
    /// End the drill that hits this node before its time.
    End,
}

/// Carries out a verb.
pub(super) fn run(common: &Common, verb: &Ha) -> Outcome {
    let context = || common.context();
    match verb {
        Ha::Status { .. } => status::cluster(&context()?),
        Ha::Takeover { node, reason, rehearse: false } => ha::takeover(&context()?, node, reason),
        Ha::Handback { node } => ha::handback(&context()?, node),
        Ha::Pause { span, reason } => ha::pause(&context()?, *span, reason),
        Ha::Resume => ha::resume(&context()?),
        Ha::Why { node } => ha::why(&context()?, node),
        Ha::History { limit, .. } => ha::history(&context()?, *limit),
        Ha::CopyAlone { queue } => ha::copy_alone(&context()?, queue),
        Ha::Readiness { node } | Ha::Takeover { node, rehearse: true, .. } => {
            readiness::run(&context()?, node)
        }
        Ha::Drill(drill) => run_drill(common, drill),
    }
}

fn run_drill(common: &Common, verb: &Drill) -> Outcome {
    // --node names the node that is hit: everything else is about this one.
    let context = Context::load(&common.config, common.output, None)?;
    match verb {
        Drill::Run { fault, slo, span, rate, through, sink, dry_run } => {
            let node = common
                .only
                .clone()
                .ok_or_else(|| Failure::new(Exit::Usage, "which node is to be hit? Name it: --node NODE"))?;
            let (fault, rate, through, sink) = (*fault, *rate, *through, *sink);
            let options = drill::Options {
                fault,
                node,
                slo: *slo,
                span: *span,
                rate,
                through,
                sink,
                dry_run: *dry_run,
            };
            drill::run(&context, &options)
        }
        Drill::List => drill::list(&context),
        Drill::Report { id } => drill::report(&context, id),
        Drill::End => drill::end(&context),
    }
}
