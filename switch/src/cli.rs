//! The command line. Exit codes are those of `daemon_kit::exit`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use cluster::instance::Order;
use daemon_kit::logging;
use daemon_kit::{configuration, exit, limits, tables};
use mail_model::{Epoch, QueueId, Reason, Role};
use settings::Settings;

use crate::intake;
use crate::role::{self, Start};
use crate::tls::{self, Tls};

/// The mail program: SMTP in, queue, SMTP out.
#[derive(Debug, Parser)]
#[command(name = "switch", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a switch in the foreground.
    ///
    /// SIGTERM drains and ends, a second one ends at once; SIGHUP reloads; SIGUSR1 writes the state to the log.
    Run(Run),
}

#[derive(Debug, Args)]
struct Run {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = configuration::DEFAULT_PATH)]
    config: PathBuf,
    /// The queue to own; this node's own if not said.
    #[arg(long, value_name = "NODE")]
    queue: Option<QueueId>,
    /// Drain the queue of another node, and listen nowhere.
    #[arg(long, requires = "queue")]
    secondary: bool,
    /// Take the queue only if this is its newest epoch.
    #[arg(long, value_name = "N", requires_all = ["secondary", "reason"])]
    expected_epoch: Option<u64>,
    /// Why it is taken.
    #[arg(long, requires = "expected_epoch")]
    reason: Option<TakeReason>,
    /// A file that says both, in lines `expected_epoch=N` and `reason=WHY`.
    #[arg(long, value_name = "FILE", requires = "secondary", conflicts_with_all = ["expected_epoch", "reason"])]
    order: Option<PathBuf>,
}

/// Why a secondary takes a queue.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TakeReason {
    /// Its owner's renewals stopped.
    Expired,
    /// Its owner had released it.
    Released,
    /// An operator ordered it.
    Forced,
    /// A drill ordered it.
    Drill,
}

impl TakeReason {
    fn reason(self) -> Reason {
        match self {
            Self::Expired => Reason::Expired,
            Self::Released => Reason::Released,
            Self::Forced => Reason::Forced,
            Self::Drill => Reason::Drill,
        }
    }
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Help and version go to standard output and are no failure.
            error.print().ok();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked { exit::OK } else { exit::USAGE });
        }
    };
    match command {
        Command::Run(run) => ExitCode::from(start(run)),
    }
}

fn start(run: Run) -> u8 {
    let mut settings = match configuration::load(&run.config) {
        Ok(loaded) => loaded.settings,
        Err(faults) => {
            eprintln!("{faults}");
            return exit::USAGE;
        }
    };
    let table_faults = tables::load(&mut settings, None);
    let log = settings.log;
    let start = match chosen(run, settings) {
        Ok(start) => start,
        Err(fault) => {
            eprintln!("{fault}");
            return exit::USAGE;
        }
    };
    let log = match logging::start(&log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{error}");
            return exit::USAGE;
        }
    };
    if !table_faults.is_empty() {
        // No reason to stay down: who needs them is told to come again, and all other mail flows.
        tracing::error!(event = "table.unavailable", faults = %tables::shown(&table_faults));
    }
    if let Err(error) = limits::raise_open_files() {
        tracing::warn!(event = "limits.not_raised", %error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start threads: {error}; raise the limit of processes of this user");
            return exit::FAILED;
        }
    };
    let code = runtime.block_on(role::run(start, log.levels())).unwrap_or_else(|error| {
        tracing::error!(event = "switch.failed", error = %format_args!("{error:#}"));
        exit::FAILED
    });
    // What still runs has nothing left to do.
    runtime.shutdown_background();
    drop(log);
    code
}

/// What heartbeatd wrote for a secondary that systemd starts.
fn read_order(file: &Path) -> Result<(u64, TakeReason), String> {
    let wrong = |what: &dyn fmt::Display| {
        format!(
            "--order {}: {what}; heartbeatd writes it, `switchctl ha takeover NODE` orders it",
            file.display()
        )
    };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let epoch = value("expected_epoch").and_then(|epoch| epoch.parse().ok());
    let reason = value("reason").and_then(|reason| TakeReason::from_str(reason, false).ok());
    epoch.zip(reason).ok_or_else(|| wrong(&"it does not say 'expected_epoch=N' and 'reason=WHY'"))
}

/// Which queue this process is for.
fn chosen(run: Run, settings: Settings) -> Result<Start, String> {
    let home = QueueId::of(settings.node.id.clone());
    let queue = run.queue.unwrap_or_else(|| home.clone());
    let role = if run.secondary { Role::Secondary } else { Role::Primary };
    let shown = run.config.display();
    if !settings.cluster.nodes.iter().any(|node| node.id == *queue.home()) {
        return Err(format!("--queue {queue}: no node of {shown} has this name; see cluster.nodes"));
    }
    match role {
        Role::Primary if queue != home => {
            return Err(format!(
                "--queue {queue}: this is node '{home}'; add --secondary to drain the queue of another node"
            ));
        }
        Role::Secondary if queue == home => {
            return Err(format!("--queue {queue}: this is its home node; leave out --queue and --secondary"));
        }
        Role::Primary | Role::Secondary => {}
    }
    let order = match &run.order {
        Some(file) => Some(read_order(file)?),
        None => run.expected_epoch.zip(run.reason),
    };
    let order = order.map(|(epoch, reason)| Order { expected: Epoch(epoch), reason: reason.reason() });
    let tls = Tls::load(&settings, role).map_err(|faults| tls::shown(&faults))?;
    let directory = intake::directory(&settings, role)?;
    Ok(Start { file: run.config, settings, tls, directory, queue, role, order })
}
