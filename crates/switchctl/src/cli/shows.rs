//! `switchctl demo` and `switchctl bench`: what is shown on this machine.

use std::path::PathBuf;

use clap::Args;

use crate::command::{Failure, Outcome};
use crate::exit::Exit;
use crate::output::Format;
use crate::{bench, demo};

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

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// Short runs of few loads, to see that everything works. Its figures say little.
    #[arg(long)]
    quick: bool,
    /// Runs of each load; the servers take turns. 3, or 1 with --quick, if not said.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=50))]
    pairs: Option<u8>,
    /// Seconds of traffic in a run. 5, or 1 with --quick, if not said.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: Option<u32>,
    /// Messages of the queue that is filled, held and drained. 20000, or 500 with --quick, if not said.
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
    let quick = arguments.quick;
    let or = |value: Option<u32>, long: u32, short: u32| {
        u64::from(value.unwrap_or(if quick { short } else { long }))
    };
    bench::run(&bench::Options {
        quick,
        pairs: usize::from(arguments.pairs.unwrap_or(if quick { 1 } else { 3 })),
        seconds: or(arguments.seconds, 5, 1),
        held: or(arguments.held, 20_000, 500),
        only: arguments.loads.clone(),
        postfix: !arguments.alone,
        dir: arguments.dir.clone(),
        report: arguments.report.clone(),
        json: output != Format::Table,
    })
    .map_err(|error| Failure::failed(format_args!("{error:#}")))
}
