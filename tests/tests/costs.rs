//! What one message costs in system calls: counted, so that it can be compared on any machine, however busy. A bound is
//! what was counted when it was set, and about a third more. Who makes it cheaper lowers the bound.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rig::{Dialogue, Drain, Flood};
use switchctl::demo::site::free_tcp;
use tokio::time::{Instant, sleep};

const MESSAGES: u64 = 2_000;
const PATIENCE: Duration = Duration::from_mins(2);

/// A switch under `strace -c`.
struct Traced {
    strace: Child,
    smtp: SocketAddr,
}

impl Drop for Traced {
    fn drop(&mut self) {
        // strace goes with the switch it watches.
        if let Some(pid) = child_of(self.strace.id()) {
            kill(pid, Signal::SIGKILL).ok();
        }
        self.strace.wait().ok();
    }
}

fn child_of(parent: u32) -> Option<Pid> {
    let text = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
}

impl Traced {
    async fn start(dir: &Path, next_hop: SocketAddr) -> Result<Self> {
        let smtp = free_tcp()?;
        let config = dir.join("mailswitch.yaml");
        let text = format!(
            "cluster: {{ id: costs }}\nnode: {{ id: a, state_dir: state }}\nqueue: {{ dir: spool }}\n\
             listeners:\n  - {{ address: \"{smtp}\" }}\nrelay: {{ trusted_networks: [127.0.0.1/32] }}\n\
             routes:\n  - {{ match: \"*\", next_hop: \"{next_hop}\" }}\n"
        );
        std::fs::write(&config, text)?;
        let logs = dir.join("log");
        std::fs::create_dir(&logs)?;
        let strace = Command::new("strace")
            .args(["-f", "-c", "-U", "calls,name", "-o"])
            .arg(dir.join("counts"))
            .arg(tests::programs::build()?.join("switch"))
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(logs.join("switch.log"))?)
            .spawn()?;
        let mut traced = Self { strace, smtp };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut dialogue) = Dialogue::connect(smtp, PATIENCE).await
                && dialogue.reply().await?.code == 220
            {
                return Ok(traced);
            }
            let log = || std::fs::read_to_string(logs.join("switch.log")).unwrap_or_default();
            ensure!(traced.strace.try_wait()?.is_none(), "the switch has ended: {}", log());
            ensure!(Instant::now() < deadline, "the switch does not serve: {}", log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the switch; the calls it made, by name.
    fn counts(mut self, dir: &Path) -> Result<HashMap<String, u64>> {
        kill(child_of(self.strace.id()).context("the switch")?, Signal::SIGTERM)?;
        self.strace.wait()?;
        let text = std::fs::read_to_string(dir.join("counts"))?;
        let pairs = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
        });
        Ok(pairs.map(|(count, name): (u64, String)| (name, count)).collect())
    }
}

/// Whether system calls of a child can be counted here.
fn can_trace() -> bool {
    let tried =
        Command::new("strace").args(["-c", "-U", "calls,name", "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relayed_message_makes_few_system_calls() -> Result<()> {
    if !can_trace() {
        println!("skipped: needs strace, and the right to trace");
        return Ok(());
    }
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let drain = Drain::start(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let traced = Traced::start(dir.path(), drain.address()).await?;
    let flood = Flood {
        target: traced.smtp,
        sessions: 10,
        messages_per_connection: 1_000_000,
        message_size_bytes: 4096,
        time: PATIENCE,
        total: Some(MESSAGES),
        rate: None,
        recipient: Flood::RECIPIENT.to_owned(),
    };
    let flooded = flood.run().await;
    ensure!((flooded.accepted, flooded.failed) == (MESSAGES, 0), "{:?}", flooded.first_failure);
    ensure!(drain.wait_for(MESSAGES, PATIENCE).await, "{} came to the sink", drain.messages());
    let counts = traced.counts(dir.path())?;
    // Calls for 1,000 messages.
    let bounds = [
        // Replies and commands that go together leave together: two packets in, two out, at each end.
        ("sendto", 4_800),
        ("recvfrom", 5_200),
        // The log is written by its own thread.
        ("write", 600),
        // Content is in memory or in the page cache, and its file is open.
        ("openat", 300),
        // Nothing is handed to blocking threads. The rest is threads that wait for work.
        ("futex", 3_500),
        // Of three records of a message two are waited for; each commit is shared with other messages.
        ("fdatasync", 1_600),
    ];
    let mut faults = Vec::new();
    for (name, bound) in bounds {
        let each = counts.get(name).copied().unwrap_or(0) * 1_000 / MESSAGES;
        println!("{name}: {each} for 1,000 messages, at most {bound}");
        if each > bound {
            faults.push(format!("{name}: {each} for 1,000 messages, more than {bound}"));
        }
    }
    ensure!(counts.get("fdatasync").is_some_and(|count| *count > 0), "nothing was counted: {counts:?}");
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}
