//! The command line: nouns and verbs, one function each.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ::cluster::drill::DrillFault;
use clap::{Args, Parser, Subcommand};
use control::switch::Verb;
use daemon_kit::configuration;
use mail_model::{MessageId, NodeId};

use crate::command::{Context, Failure, Outcome, misfit, say};
use crate::exit::Exit;
use crate::filter::{self, Filter, Term};
use crate::output::Format;
use crate::{
    bench, cluster, config, demo, drill, ha, ledger, log, operate, queue, route, status, trace, user,
};

/// What the help of every verb on messages ends with.
const VERB_HELP: &str = "\
Name messages by ID, or choose them by terms: to:ADDRESS from:ADDRESS (@example.test for all of a domain), age:>1h, \
state:queued|held|owed, reply~TEXT, node:NODE, size:>1MiB; or say --all.

It acts on every waiting recipient of a message, in queues that a switch of this node owns. What it would touch is shown \
and must be confirmed, on a terminal or with --yes. Exit codes: 0 all done, 1 nothing done, 2 not confirmed, 3 some queues \
were not reached, 7 an ID is not in the queue.";

/// Operate a mailswitch cluster.
///
/// Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 partial, 4 refused as unsafe, 5 timeout, 6 drill failed,
/// 7 not found.
#[derive(Debug, Parser)]
#[command(name = "switchctl", version, propagate_version = true)]
struct Cli {
    /// The configuration file of this node.
    #[arg(long, global = true, default_value = configuration::DEFAULT_PATH, value_name = "FILE")]
    config: PathBuf,
    /// How answers look.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Format,
    /// Only about this node and its queue.
    #[arg(long = "node", global = true, value_name = "NODE")]
    only: Option<NodeId>,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// How this node and the cluster stand.
    Status {
        /// Say it in one line with the exit code of a monitoring plug-in: 0 ok, 1 warning, 2 critical, 3 unknown.
        #[arg(long)]
        check: bool,
    },
    /// High availability: who owns which queue, and orders to change it.
    #[command(subcommand)]
    Ha(Ha),
    /// The cluster's members and key.
    #[command(subcommand)]
    Cluster(Cluster),
    /// The queues: what is in them, read from disk, and verbs on it, carried out by their owners.
    #[command(subcommand)]
    Queue(Queue),
    /// The proof that nothing is lost.
    #[command(subcommand)]
    Ledger(Ledger),
    /// What became of a message.
    #[command(subcommand)]
    Trace(Trace),
    /// Where an address goes.
    #[command(subcommand)]
    Route(Route),
    /// Who is told when something is wrong.
    #[command(subcommand)]
    Alert(Alert),
    /// What the programs of this node log.
    #[command(subcommand)]
    Log(Log),
    /// The configuration.
    #[command(subcommand)]
    Config(Config),
    /// The users who may submit mail, in the file that `auth.users` names.
    #[command(subcommand)]
    User(user::Verb),
    /// Show the main job on this machine: nodes on loopback, real mail, one fails; is anything lost?
    Demo(DemoArguments),
    /// Measure mailswitch on this machine, beside Postfix where it is installed: accept, relay, drain.
    Bench(BenchArguments),
    /// Print the version.
    Version,
}

#[derive(Debug, Subcommand)]
enum Ha {
    /// What this node's heartbeatd sees.
    Status,
    /// Take the queue of NODE over to this node now. Safe at any instant; a live owner is fenced.
    Takeover {
        /// The queue's home node.
        node: NodeId,
        /// Why, for the record.
        #[arg(long, default_value = "ordered by an operator")]
        reason: String,
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
    },
    /// A real fault on one node of the live cluster, with probe mail and a report.
    #[command(subcommand)]
    Drill(Drill),
}

#[derive(Debug, Subcommand)]
enum Drill {
    /// Let a fault hit the node that --node names, and see what comes of it. Ordered from another node.
    ///
    /// kill: its switch gets SIGKILL, its heartbeatd falls silent. stop: the same with SIGTERM. freeze: the switch stands
    /// still. isolate: its heartbeats are cut, its storage is not, so nobody may take its queue. The fault ends by itself.
    /// Refused with 4 while anything else is wrong; ends with 6 if the objective is missed, or a probe lost, damaged, or
    /// delivered twice without a doubt on record.
    Run {
        /// kill, stop, freeze or isolate.
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

#[derive(Debug, Subcommand)]
enum Alert {
    /// Tell everybody that alerts.webhook, alerts.mail and alerts.command name that this is a test, and say what came of it.
    Test,
}

#[derive(Debug, Subcommand)]
enum Log {
    /// The levels that hold.
    Show,
    /// Change the level of a part of the programs that run: delivery=debug, all=info. A restart forgets it.
    ///
    /// The parts are control, delivery, heartbeat, intake, launch, observe, queue, takeover and tls; the levels are error,
    /// warn, info, debug and trace.
    Set {
        /// What, and how much.
        #[arg(value_name = "SUBSYSTEM=LEVEL")]
        order: String,
    },
}

#[derive(Debug, Subcommand)]
enum Cluster {
    /// The nodes.
    Members,
    /// Make the heartbeat key that the configuration names. One that is there is kept.
    Keygen,
}

#[derive(Debug, Subcommand)]
enum Queue {
    /// How much waits, by queue; or by destination or sender, and age.
    #[command(after_help = filter::HELP)]
    Summary {
        /// What to count; everything if not said.
        #[arg(value_name = "ID|TERM")]
        what: Vec<Term>,
        /// What a row is about.
        #[arg(long, value_enum, default_value_t)]
        by: queue::By,
    },
    /// Messages that wait, oldest first.
    #[command(visible_alias = "search", after_help = filter::HELP)]
    List {
        /// Which; every message if not said.
        #[arg(value_name = "ID|TERM")]
        what: Vec<Term>,
    },
    /// One message: envelope, recipients, what was said.
    Show {
        /// Its id, as in the 250 reply.
        id: MessageId,
    },
    /// One message's content, as it will be sent.
    Cat {
        /// Its id, as in the 250 reply.
        id: MessageId,
    },
    /// Write messages into a folder: ID.eml and, with the envelope, ID.json. They stay in the queue.
    #[command(after_help = filter::HELP)]
    Export {
        /// The folder; it is made.
        folder: PathBuf,
        /// Which; every message if not said.
        #[arg(value_name = "ID|TERM")]
        what: Vec<Term>,
    },
    /// Take every NAME.eml of a folder into this node's queue, by way of its maildrop. NAME.json says the envelope; without one
    /// the header does.
    Import {
        /// The folder.
        folder: PathBuf,
    },
    /// Read every byte of a queue and say what is not as it was written. Touches nothing.
    Fsck {
        /// A queue's directory; all queues of the configuration if not said.
        dir: Option<PathBuf>,
    },
    /// Who owns each queue.
    Owner,
    /// Set messages aside: they are not tried until they are released. An attempt that runs is finished.
    #[command(after_help = VERB_HELP)]
    Hold(Order),
    /// Try held messages again, at once.
    #[command(after_help = VERB_HELP)]
    Release(Order),
    /// Try messages at once, whatever their time and whatever is known of their next hop.
    #[command(after_help = VERB_HELP)]
    Retry(Order),
    /// Give messages up: their senders are told that they could not be delivered. An attempt that runs is finished.
    #[command(after_help = VERB_HELP)]
    Bounce(Order),
    /// Take messages out of the queue for good, with every recipient that waits. Nobody is told.
    #[command(after_help = VERB_HELP)]
    Delete {
        #[command(flatten)]
        choice: operate::Choice,
        /// Why, for the record.
        #[arg(long, value_parser = operate::reason)]
        reason: String,
    },
}

/// What a verb is about, and why.
#[derive(Debug, Args)]
struct Order {
    #[command(flatten)]
    choice: operate::Choice,
    /// Why, for the record.
    #[arg(long, value_parser = operate::reason, default_value = "ordered by an operator")]
    reason: String,
}

#[derive(Debug, Subcommand)]
enum Ledger {
    /// Do the books of every queue balance? Lists what is in doubt.
    Verify,
}

#[derive(Debug, Subcommand)]
enum Trace {
    /// The whole story of a message, read from the queue: attempts, replies, verbs, takeovers.
    Message {
        /// Its id, as in the 250 reply.
        id: MessageId,
    },
}

#[derive(Debug, Subcommand)]
enum Route {
    /// Explain where an address goes.
    Test {
        /// `user@example.test`.
        address: String,
    },
}

#[derive(Debug, Subcommand)]
enum Config {
    /// Check the configuration: every fault at once, with line and remedy.
    Check,
    /// Print what the programs make of the configuration.
    Show,
    /// What a key means, its scope, whether a change needs a restart, and where it is written.
    Explain {
        /// For example `retry.first`, or `cluster.takeover` for all below; every key if not said.
        #[arg(default_value = "")]
        key: String,
    },
    /// Where the configuration differs from another file.
    Diff {
        /// The other file.
        other: PathBuf,
    },
    /// Print a JSON Schema of the configuration, for editors.
    Schema,
}

#[derive(Debug, Args)]
struct DemoArguments {
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
struct BenchArguments {
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

/// Runs the command line of this process.
#[must_use]
pub fn main() -> Exit {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(exit) => exit,
        Err(failure) => {
            // Standard error is the last resort: if it is gone there is nobody to tell.
            drop(writeln!(std::io::stderr().lock(), "switchctl: {}", failure.message));
            failure.exit
        }
    }
}

fn run(cli: &Cli) -> Outcome {
    if cli.output == Format::PostqueueJson && !matches!(cli.noun, Noun::Queue(Queue::List { .. })) {
        return Err(Failure::new(Exit::Usage, "-o postqueue-json is for queue list only; say -o json here"));
    }
    let context = || Context::load(&cli.config, cli.output, cli.only.clone());
    match &cli.noun {
        Noun::Version => {
            say(format_args!("switchctl {}", env!("CARGO_PKG_VERSION")))?;
            Ok(Exit::Ok)
        }
        Noun::Demo(arguments) => run_demo(arguments, cli.output),
        Noun::Bench(arguments) => run_bench(arguments, cli.output),
        Noun::Config(Config::Check) => config::check(&context()?, &cli.config),
        Noun::Config(Config::Show) => config::show(&context()?),
        Noun::Config(Config::Explain { key }) => config::explain(&cli.config, cli.output, key),
        Noun::Config(Config::Diff { other }) => config::diff(&context()?, other),
        Noun::Config(Config::Schema) => config::schema(),
        Noun::Status { check } => status::run(&context()?, *check),
        Noun::Ha(Ha::Drill(verb)) => run_drill(cli, verb),
        Noun::Alert(Alert::Test) => ha::alert_test(&context()?),
        Noun::Log(Log::Show) => log::run(&context()?, ""),
        Noun::Log(Log::Set { order }) => log::run(&context()?, order),
        Noun::Ha(verb) => run_ha(&context()?, verb),
        Noun::Cluster(Cluster::Members) => cluster::members(&context()?),
        Noun::Cluster(Cluster::Keygen) => cluster::keygen(&context()?),
        Noun::Queue(Queue::Fsck { dir: Some(dir) }) => queue::fsck_dir(cli.output, dir),
        Noun::Queue(verb) => run_queue(&context()?, verb),
        Noun::Ledger(Ledger::Verify) => ledger::verify(&context()?),
        Noun::Trace(Trace::Message { id }) => trace::message(&context()?, id),
        Noun::User(verb) => user::run(&context()?, verb),
        Noun::Route(Route::Test { address }) => route::test(&context()?, address),
    }
}

fn run_ha(context: &Context, verb: &Ha) -> Outcome {
    match verb {
        Ha::Status => status::cluster(context),
        Ha::Takeover { node, reason } => ha::takeover(context, node, reason),
        Ha::Handback { node } => ha::handback(context, node),
        Ha::Pause { span, reason } => ha::pause(context, *span, reason),
        Ha::Resume => ha::resume(context),
        Ha::Why { node } => ha::why(context, node),
        Ha::History { limit } => ha::history(context, *limit),
        // It reads --node in its own way.
        Ha::Drill(_) => Err(misfit()),
    }
}

fn run_drill(cli: &Cli, verb: &Drill) -> Outcome {
    // --node names the node that is hit: everything else is about this one.
    let context = Context::load(&cli.config, cli.output, None)?;
    match verb {
        Drill::Run { fault, slo, span, rate, through, sink, dry_run } => {
            let node = cli
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

fn run_queue(context: &Context, verb: &Queue) -> Outcome {
    match verb {
        Queue::Summary { what, by } => queue::summary(context, Filter::new(what), *by),
        Queue::List { what } if context.format == Format::PostqueueJson => {
            queue::postqueue_json(context, Filter::new(what))
        }
        Queue::List { what } => queue::list(context, Filter::new(what)),
        Queue::Export { folder, what } => queue::export(context, folder, Filter::new(what)),
        Queue::Import { folder } => queue::import(context, folder),
        Queue::Show { id } => queue::show(context, id),
        Queue::Cat { id } => queue::cat(context, id),
        Queue::Fsck { .. } => queue::fsck_all(context),
        Queue::Owner => queue::owner(context),
        Queue::Hold(order) => operate::run(context, Verb::Hold, &order.choice, &order.reason),
        Queue::Release(order) => operate::run(context, Verb::Release, &order.choice, &order.reason),
        Queue::Retry(order) => operate::run(context, Verb::Retry, &order.choice, &order.reason),
        Queue::Bounce(order) => operate::run(context, Verb::Bounce, &order.choice, &order.reason),
        Queue::Delete { choice, reason } => operate::run(context, Verb::Delete, choice, reason),
    }
}

fn run_demo(arguments: &DemoArguments, output: Format) -> Outcome {
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

fn run_bench(arguments: &BenchArguments, output: Format) -> Outcome {
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
