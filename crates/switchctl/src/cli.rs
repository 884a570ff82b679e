//! The command line: nouns and verbs, one function each. Nouns with many verbs have a file of their own.

mod common;
mod ha;
mod node;
mod queue;
mod shows;

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use control::switch::TraceWay;
use mail_model::{MessageId, WallTime};

use self::common::Common;
use self::queue::Queue;
use crate::command::{Failure, Outcome, say};
use crate::exit::Exit;
use crate::output::Format;
use crate::watch::{self, Watch};
use crate::{
    catalog, cluster, config, dkim, doctor, lb, ledger, log, manual, report, route, status, trace, user,
};

/// Operate a mailswitch cluster.
///
/// Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 partial, 4 refused as unsafe, 5 timeout, 6 drill failed,
/// 7 not found.
#[derive(Debug, Parser)]
#[command(name = "switchctl", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// How the nodes of the cluster stand.
    Status {
        /// Say it in one line with the exit code of a monitoring plug-in: 0 ok, 1 warning, 2 critical, 3 unknown.
        #[arg(long, conflicts_with_all = ["every", "matrix"])]
        check: bool,
        /// Who hears whom: a row for each node with the paths on which its heartbeatd hears the others.
        #[arg(long)]
        matrix: bool,
        #[command(flatten)]
        watch: Watch,
    },
    /// Look at everything that commonly goes wrong on this node: each line ok, warn or bad, with what to do.
    ///
    /// Configuration, key, folders, disk and its speed, ports, open files, names, certificates, programs, heartbeats, versions,
    /// clocks. Ends with 1 if something is bad. Looks only; run it as the user of the service, or as root.
    Doctor,
    /// Write a folder for who helps: configuration, status, decisions, ledger, log, without secrets and without the names of
    /// mailboxes.
    Report {
        /// The folder; mailswitch-report-NODE-TIME here if not said. With a name that ends in .tar.gz, a file.
        folder: Option<PathBuf>,
        /// Leave the local parts of addresses as they are.
        #[arg(long)]
        keep_addresses: bool,
    },
    /// High availability: who owns which queue, and orders to change it.
    #[command(subcommand)]
    Ha(ha::Ha),
    /// This node leaves the cluster in order, and comes back.
    #[command(subcommand)]
    Node(node::Node),
    /// The cluster's members and key.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Keys that sign mail, and the records that publish them.
    #[command(subcommand)]
    Dkim(Dkim),
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
    /// What the programs of a node log.
    #[command(subcommand)]
    Log(Log),
    /// Load balancers before the cluster.
    #[command(subcommand)]
    Lb(Lb),
    /// The configuration.
    #[command(subcommand)]
    Config(Config),
    /// The users who may submit mail, in the file that `auth.users` names.
    #[command(subcommand)]
    User(user::Verb),
    /// Show the main job on this machine: nodes on loopback, real mail, one fails; is anything lost?
    Demo(shows::Demo),
    /// Measure mailswitch on this machine, beside Postfix where it is installed: accept, relay, drain; and takeovers.
    Bench(shows::Bench),
    /// Can a queue live in this directory? What the takeover protocol asks of a file system is tried there.
    ///
    /// Ends with 1 if a queue must not live there, with 4 on tmpfs, ramfs and overlayfs.
    Fscheck(shows::Fscheck),
    /// Print the completion script of a shell: `switchctl completion bash > /etc/bash_completion.d/switchctl`.
    Completion {
        /// Which.
        shell: clap_complete::Shell,
    },
    /// Print the man page of switchctl, or write those of all commands into a folder.
    Man {
        /// The folder; it is made.
        folder: Option<PathBuf>,
    },
    /// Print the version.
    Version,
}

#[derive(Debug, Subcommand)]
enum Alert {
    /// Tell everybody that alerts.webhook, alerts.mail and alerts.command name that this is a test, and say what came of it.
    Test,
}

#[derive(Debug, Subcommand)]
enum Lb {
    /// What a balancer would see of every node now: greeting, health, agent. Looked at from here.
    Status {
        #[command(flatten)]
        watch: Watch,
    },
    /// Print the configuration of a balancer, made from the one of the cluster.
    Snippet {
        /// Which.
        kind: lb::Kind,
        /// The address that clients use; every one of the balancer if not said.
        #[arg(long, value_name = "IP")]
        address: Option<IpAddr>,
    },
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
    /// What an event of the log means, and what to do about it.
    Explain {
        /// Its name: switch.active.
        event: String,
    },
    /// Print all events as journald's catalogue; the package has it, so that journalctl -x explains them.
    Catalog,
}

#[derive(Debug, Subcommand)]
enum Cluster {
    /// The nodes.
    Members,
    /// Make the heartbeat key that the configuration names. One that is there is kept.
    Keygen,
}

#[derive(Debug, Subcommand)]
enum Dkim {
    /// Make a private key. A file that is there is left alone.
    Keygen {
        /// Where.
        file: PathBuf,
        /// Which.
        #[arg(long, value_enum, default_value = "rsa")]
        kind: dkim::Kind,
    },
    /// Show the DNS records of the keys that the configuration names.
    Record,
}

#[derive(Debug, Subcommand)]
enum Ledger {
    /// Do the books of every queue balance? Lists what is in doubt.
    Verify {
        /// Count only what was done since then: how long ago (2h, 7d), or a moment (2026-03-01T12:00:00Z).
        ///
        /// A queue keeps sums where it begins a segment, so the count begins with the last segment that was begun before;
        /// the listing says when that was.
        #[arg(long, value_name = "T", value_parser = ledger::since)]
        since: Option<WallTime>,
    },
}

#[derive(Debug, Subcommand)]
enum Trace {
    /// The whole story of a message, read from the queue: attempts, replies, verbs, takeovers.
    Message {
        /// Its id, as in the 250 reply.
        id: MessageId,
    },
    /// Watch what clients of this node and its switch say to each other, while they say it.
    ///
    /// Dialogues that begin from now on are shown, and others from their next message on; neither messages nor what proves who
    /// somebody is. A mail server that is busy says more than can be read: name whom you want to see.
    In {
        /// A client: its address, a network, or a part of the host name that a front said. Everybody if not said.
        #[arg(default_value = "")]
        client: String,
        /// How long.
        #[arg(long = "for", value_name = "DURATION", default_value = "1m", value_parser = settings::parse_duration)]
        span: Duration,
    },
    /// The same with next hops, for all queues that this node serves.
    Out {
        /// A host, its address or network, or a part of its name or of the domain that mail is for. Everybody if not said.
        #[arg(default_value = "")]
        destination: String,
        /// How long.
        #[arg(long = "for", value_name = "DURATION", default_value = "1m", value_parser = settings::parse_duration)]
        span: Duration,
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
    /// Take the configuration, the certificates and the tables of this node into use, or with --node that node's own: every switch
    /// there checks them and reads them again, as on SIGHUP. No session is dropped; what has a fault changes nothing, and what only
    /// a restart changes is named. heartbeatd takes a new configuration by a restart.
    Apply,
    /// Print a JSON Schema of the configuration, for editors.
    Schema,
}

impl Noun {
    /// How often it is to be asked again, if it is.
    fn watched(&self) -> Option<Duration> {
        if let Self::Status { watch, .. } | Self::Lb(Lb::Status { watch }) = self {
            return watch.every;
        }
        if let Self::Ha(verb) = self {
            return verb.watched();
        }
        if let Self::Queue(verb) = self { verb.watched() } else { None }
    }
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
    if cli.common.output == Format::PostqueueJson && !matches!(cli.noun, Noun::Queue(Queue::List { .. })) {
        return Err(Failure::new(Exit::Usage, "-o postqueue-json is for queue list only; say -o json here"));
    }
    if let Some(every) = cli.noun.watched() {
        // What cannot be asked even once is said once.
        cli.common.context()?;
        return watch::run(every, cli.common.output);
    }
    let context = || cli.common.context();
    match &cli.noun {
        Noun::Version => {
            say(format_args!("switchctl {}", env!("CARGO_PKG_VERSION")))?;
            Ok(Exit::Ok)
        }
        Noun::Demo(arguments) => shows::demo(arguments, cli.common.output),
        Noun::Bench(arguments) => shows::bench(arguments, cli.common.output),
        Noun::Fscheck(arguments) => shows::fscheck(arguments, &cli.common),
        Noun::Config(Config::Check) => config::check(&context()?, &cli.common.config),
        Noun::Config(Config::Show) => config::show(&context()?),
        Noun::Config(Config::Explain { key }) => config::explain(&cli.common.config, cli.common.output, key),
        Noun::Config(Config::Diff { other }) => config::diff(&context()?, other),
        Noun::Config(Config::Apply) => config::apply(&context()?),
        Noun::Config(Config::Schema) => config::schema(),
        Noun::Completion { shell } => manual::completion(Cli::command(), *shell),
        Noun::Man { folder } => manual::pages(Cli::command(), folder.as_deref()),
        Noun::Status { check, matrix, .. } => {
            status::run(&context()?, status::Question { check: *check, matrix: *matrix })
        }
        Noun::Alert(Alert::Test) => crate::ha::alert_test(&context()?),
        Noun::Doctor => doctor::run(&context()?),
        Noun::Report { folder, keep_addresses } => {
            report::run(&context()?, &cli.common.config, folder.as_deref(), *keep_addresses)
        }
        Noun::Lb(Lb::Status { .. }) => lb::status(&context()?),
        Noun::Lb(Lb::Snippet { kind, address }) => {
            lb::snippet(&context()?, *kind, lb::Front { address: *address })
        }
        Noun::Log(Log::Show) => log::run(&context()?, ""),
        Noun::Log(Log::Set { order }) => log::run(&context()?, order),
        Noun::Log(Log::Explain { event }) => catalog::explain(event, cli.common.output),
        Noun::Log(Log::Catalog) => catalog::print(),
        Noun::Ha(verb) => ha::run(&cli.common, verb),
        Noun::Node(verb) => node::run(&cli.common, verb),
        Noun::Cluster(Cluster::Members) => cluster::members(&context()?),
        Noun::Cluster(Cluster::Keygen) => cluster::keygen(&context()?),
        Noun::Dkim(Dkim::Keygen { file, kind }) => dkim::keygen(file, *kind),
        Noun::Dkim(Dkim::Record) => dkim::record(&context()?),
        Noun::Queue(verb) => queue::run(&cli.common, verb),
        Noun::Ledger(Ledger::Verify { since }) => ledger::verify(&context()?, *since),
        Noun::Trace(Trace::Message { id }) => trace::message(&context()?, id),
        Noun::Trace(Trace::In { client, span }) => trace::live::run(&context()?, TraceWay::In, client, *span),
        Noun::Trace(Trace::Out { destination, span }) => {
            trace::live::run(&context()?, TraceWay::Out, destination, *span)
        }
        Noun::User(verb) => user::run(&context()?, verb),
        Noun::Route(Route::Test { address }) => route::test(&context()?, address),
    }
}
