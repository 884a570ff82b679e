//! `switchctl demo`, `bench` and `fscheck`: what is shown or tried on this machine.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use mail_model::NodeId;

use super::common::Common;
use crate::command::{Failure, Outcome};
use crate::exit::Exit;
use crate::output::Format;
use crate::{bench, demo, fscheck};

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// How many nodes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=9))]
    nodes: u8,
    /// Messages a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Seconds of traffic.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(3..=3_600))]
    seconds: u32,
    /// What happens to one node.
    #[arg(long, value_enum, default_value_t)]
    fault: demo::Fault,
    /// Where the randomness starts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the folder with queues and logs.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How long a takeover takes: a node with a full queue is killed, and another delivers out of it.
    Takeover(Takeover),
    /// What a pair costs: two nodes on one directory beside one, and a dead node's queue drained under a full load.
    Pair(Pair),
}

#[derive(Debug, Args)]
struct Pair {
    /// Connections of the load, together.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    sessions: u16,
    /// How often.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// Seconds of traffic in a run.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    time: u32,
    /// Messages in the queue of the node that dies.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    messages: u32,
    /// Where the queues are written; the disk that is measured.
    #[arg(long = "on", value_name = "DIR", default_value = "/var/tmp")]
    folder: PathBuf,
}

#[derive(Debug, Args)]
struct Takeover {
    /// Messages in the queue of the node that dies.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    messages: u32,
    /// How often.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// cluster.takeover.window of every node; the other timers follow from it. 1s is the fastest there is.
    #[arg(long, value_parser = settings::parse_duration, value_name = "D", default_value = "2s")]
    window: Duration,
    /// Wait until the queue is empty, each time.
    #[arg(long)]
    drain: bool,
    /// End with 6 if a first delivery came later than this.
    #[arg(long, value_parser = settings::parse_duration, value_name = "D")]
    slo: Option<Duration>,
    /// Where the queues are written; the disk that is measured.
    #[arg(long = "on", value_name = "DIR", default_value = "/var/tmp")]
    folder: PathBuf,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Bench {
    #[command(subcommand)]
    what: Option<What>,
    /// Short runs of few loads, to see that everything works. Its figures say little.
    #[arg(long)]
    quick: bool,
    /// Runs of each load; the servers take turns. 3, or 1 with --quick, if not said.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=50))]
    pairs: Option<u8>,
    /// Seconds of traffic in a run. 5, or 1 with --quick, if not said.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: Option<u32>,
    /// Messages of the queue that is filled, held and drained, and that lies beside a relay; a twentieth of it is measured
    /// beside one too. 20000, or 500 with --quick, if not said.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    held: Option<u32>,
    /// Only loads with this in their name: relay, "accept, 50 sessions".
    #[arg(long = "only", value_name = "TEXT")]
    loads: Option<String>,
    /// Leave Postfix out.
    #[arg(long)]
    alone: bool,
    /// Where the queues are written; the disk that is measured.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Write bench.json and bench.svg there.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Fscheck {
    /// Where queues are to lie: what queue.dir names.
    dir: PathBuf,
    /// Try it from two machines: give this command on NODE too, within two minutes, naming this node.
    #[arg(long, value_name = "NODE")]
    peer: Option<NodeId>,
    /// Try it on tmpfs, ramfs or overlayfs too.
    #[arg(long)]
    force: bool,
    /// How often claims race, and how often one process reads what another has synced.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// One of the processes that race.
    #[arg(long, hide = true)]
    racer: Option<String>,
}

pub(super) fn fscheck(arguments: &Fscheck, common: &Common) -> Outcome {
    if let Some(name) = &arguments.racer {
        return fscheck::racer(&arguments.dir, name);
    }
    let options = fscheck::Options {
        dir: arguments.dir.clone(),
        peer: arguments.peer.clone(),
        force: arguments.force,
        rounds: arguments.rounds,
    };
    fscheck::run(&common.config, common.output, &options)
}

pub(super) fn demo(arguments: &Demo, output: Format) -> Outcome {
    demo::run(demo::Options {
        nodes: usize::from(arguments.nodes),
        rate: arguments.rate,
        seconds: arguments.seconds,
        fault: arguments.fault,
        seed: arguments.seed,
        json: output != Format::Table,
        keep: arguments.keep,
    })
    .map_err(|error| Failure::new(Exit::DrillFailed, format_args!("{error:#}")))
}

pub(super) fn bench(arguments: &Bench, output: Format) -> Outcome {
    let json = output != Format::Table;
    let done = match &arguments.what {
        Some(What::Takeover(takeover)) => bench::takeover::run(&bench::takeover::Options {
            messages: takeover.messages,
            runs: takeover.runs,
            window: takeover.window,
            drain: takeover.drain,
            slo: takeover.slo,
            dir: takeover.folder.clone(),
            json,
        }),
        Some(What::Pair(pair)) => bench::pair::run(&bench::pair::Options {
            sessions: usize::from(pair.sessions),
            runs: pair.runs,
            seconds: u64::from(pair.time),
            held: pair.messages,
            dir: pair.folder.clone(),
            json,
        }),
        None => bench::run(&servers(arguments, json)),
    };
    done.map_err(|error| Failure::failed(format_args!("{error:#}")))
}

/// The benchmark beside another server.
fn servers(arguments: &Bench, json: bool) -> bench::Options {
    let quick = arguments.quick;
    let or = |value: Option<u32>, long: u32, short: u32| {
        u64::from(value.unwrap_or(if quick { short } else { long }))
    };
    bench::Options {
        quick,
        pairs: usize::from(arguments.pairs.unwrap_or(if quick { 1 } else { 3 })),
        seconds: or(arguments.seconds, 5, 1),
        held: or(arguments.held, 20_000, 500),
        only: arguments.loads.clone(),
        postfix: !arguments.alone,
        dir: arguments.dir.clone(),
        report: arguments.report.clone(),
        json,
    }
}
