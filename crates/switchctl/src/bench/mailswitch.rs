//! Ours: a stand-alone node with its defaults, but for the limits of connections of one client and to the next hop, which
//! are those of the other server.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daemon_kit::process::Launcher;

use super::work::{DEAD, Delivery};
use crate::demo::site::{ProcessGroup, free_tcp};

/// How long it may take to end.
const STOP_PATIENCE: Duration = Duration::from_mins(1);

/// A running switch.
#[derive(Debug)]
pub(crate) struct Mailswitch {
    pub(crate) process: ProcessGroup,
    pub(crate) smtp: SocketAddr,
    pub(crate) config: PathBuf,
}

impl Mailswitch {
    pub(crate) async fn start(dir: &Path, delivery: Delivery) -> Result<Self> {
        let smtp = free_tcp()?;
        // Nobody listens there, so mail waits.
        let nobody = free_tcp()?;
        let next_hop = match delivery {
            Delivery::To(sink) | Delivery::Beside(sink) => sink,
            Delivery::Held => nobody,
        };
        let config = dir.join("mailswitch.yaml");
        let text = format!(
            "cluster: {{ id: bench }}\nnode: {{ id: a, state_dir: state }}\nqueue: {{ dir: spool }}\nlisteners:\n  - {{ address: \"{smtp}\" }}\n\
             relay: {{ trusted_networks: [127.0.0.1/32] }}\nroutes:\n  - {{ match: \"{DEAD}\", next_hop: \"{nobody}\" }}\n  - {{ match: \"*\", next_hop: \"{next_hop}\" }}\n\
             limits: {{ connections_per_client: 10000, concurrency_per_destination: 50 }}\nretry: {{ first: 1s, max: 1s }}\n"
        );
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let programs = std::env::current_exe().context("find the folder of the programs")?;
        let program = programs.with_file_name("switch");
        if !program.is_file() {
            bail!("{} is missing: build all programs first (make build)", program.display());
        }
        // Beside the configuration every line would look like a change of it.
        let logs = dir.join("log");
        fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
        let log = logs.join("switch.log");
        let file = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).process_group(0);
        let launcher = Launcher::start().context("start the thread that starts programs")?;
        let child = launcher.spawn(command).await.context("start switch")?;
        Ok(Self { process: ProcessGroup::new(child, log), smtp, config })
    }

    /// An error with what it said if it has ended.
    pub(crate) fn alive(&mut self) -> Result<()> {
        let Some(status) = self.process.ended()? else { return Ok(()) };
        let said = fs::read_to_string(&self.process.log).unwrap_or_default();
        bail!("the switch ended with {status}: {}", said.lines().last().unwrap_or("nothing said"))
    }

    /// Milliseconds from the claim of its queue to the end of its recovery, as its log has them.
    pub(crate) fn recovery_ms(&self) -> Option<f64> {
        let text = fs::read_to_string(&self.process.log).ok()?;
        let at = |event: &str| {
            let line = text.lines().find(|line| line.contains(event))?;
            line.split(' ').next()?.parse::<jiff::Timestamp>().ok()
        };
        let took = at(" queue.active ")?.since(at(" queue.claimed ")?).ok()?;
        took.total(jiff::Unit::Millisecond).ok()
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        self.process.terminate()?;
        let ended = tokio::time::timeout(STOP_PATIENCE, self.process.end()).await;
        let status = ended.context("the switch does not end")??;
        if !status.success() {
            bail!("the switch ended with {status}; its log is {}", self.process.log.display());
        }
        Ok(())
    }
}
