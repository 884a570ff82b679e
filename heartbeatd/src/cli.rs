//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use daemon_kit::{configuration, exit, logging};

/// The storage may hang a thread that reads it: the end of the program does not wait longer than this for it.
const LAST_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Parser)]
#[command(
    name = "heartbeatd",
    version,
    about = "Watches the nodes of a mailswitch cluster and takes over their queues"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run in the foreground until SIGTERM
    Run {
        /// The configuration file; conf.d/*.yaml beside it is read too
        #[arg(long, value_name = "FILE", default_value = configuration::DEFAULT_PATH)]
        config: PathBuf,
    },
}

/// The program. Codes are those of `daemon_kit::exit`.
#[must_use]
pub fn main() -> ExitCode {
    let Verb::Run { config } = Cli::parse().verb;
    let settings = match configuration::load(&config) {
        Ok(loaded) => loaded.settings,
        Err(error) => {
            eprintln!("{error}");
            return exit::USAGE.into();
        }
    };
    let log = match logging::start(&settings.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{error}");
            return exit::USAGE.into();
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(crate::run::run(&config, &settings, log.levels()));
            runtime.shutdown_timeout(LAST_WAIT);
            result
        }
        Err(error) => Err(anyhow::Error::from(error).context("start the runtime")),
    };
    match result {
        Ok(()) => exit::OK.into(),
        Err(error) => {
            let error = format!("{error:#}");
            tracing::error!(event = "heartbeatd.failed", %error);
            exit::FAILED.into()
        }
    }
}
