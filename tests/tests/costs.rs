//! What one message costs in system calls and instructions: counted, so that it can be compared on any machine, however busy.
//! A bound is what was counted when it was set, and about a third more. Who makes it cheaper lowers the bound.

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

const PATIENCE: Duration = Duration::from_mins(2);

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counter {
    /// System calls.
    Strace,
    /// Instructions of the program, without the kernel's.
    Callgrind,
}

impl Counter {
    fn command(self, counts: &Path) -> Command {
        match self {
            Self::Strace => {
                let mut command = Command::new("strace");
                command.args(["-f", "-c", "-U", "calls,name", "-o"]).arg(counts);
                command
            }
            Self::Callgrind => {
                let mut file = std::ffi::OsString::from("--callgrind-out-file=");
                file.push(counts);
                let mut command = Command::new("valgrind");
                // Threads take turns there, and none may starve.
                command.args(["--tool=callgrind", "--fair-sched=yes"]).arg(file);
                command
            }
        }
    }

    /// Whether it can be used here.
    fn works(self) -> bool {
        let Ok(dir) = tempfile::tempdir() else { return false };
        let tried = self.command(&dir.path().join("counts")).arg("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    }
}

/// A switch whose work is counted.
struct Counted {
    counter: Counter,
    process: Child,
    smtp: SocketAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Ok(pid) = self.switch() {
            kill(pid, Signal::SIGKILL).ok();
        }
        self.process.wait().ok();
    }
}

impl Counted {
    /// `routes` say which mail goes where.
    async fn start(counter: Counter, dir: &Path, routes: &[(&str, String)]) -> Result<Self> {
        let smtp = free_tcp()?;
        let config = dir.join("mailswitch.yaml");
        // Under a counter it is many times slower, and would give its lease up.
        let mut text = format!(
            "cluster: {{ id: costs, takeover: {{ window: 60s }} }}\nnode: {{ id: a, state_dir: state }}\nqueue: {{ dir: spool }}\n\
             listeners:\n  - {{ address: \"{smtp}\" }}\nrelay: {{ trusted_networks: [127.0.0.1/32] }}\n\
             routes:\n"
        );
        let routes = routes
            .iter()
            .map(|(domain, hop)| format!("  - {{ match: \"{domain}\", next_hop: \"{hop}\" }}\n"));
        text.extend(routes);
        std::fs::write(&config, text)?;
        let log = dir.join("switch.log");
        let process = counter
            .command(&dir.join("counts"))
            .arg(tests::programs::build()?.join("switch"))
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        let mut switch = Self { counter, process, smtp };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut dialogue) = Dialogue::connect(smtp, PATIENCE).await
                && dialogue.reply().await?.code == 220
            {
                return Ok(switch);
            }
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            ensure!(switch.process.try_wait()?.is_none(), "the switch has ended: {}", log());
            ensure!(Instant::now() < deadline, "the switch does not serve: {}", log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Takes messages of 4 KiB on ten sessions.
    async fn take(&self, messages: u64, recipient: &str) -> Result<()> {
        let flood = Flood {
            target: self.smtp,
            sessions: 10,
            messages_per_connection: 1_000_000,
            message_size_bytes: 4096,
            time: PATIENCE,
            total: Some(messages),
            rate: None,
            recipient: recipient.to_owned(),
        };
        let flooded = flood.run().await;
        ensure!((flooded.accepted, flooded.failed) == (messages, 0), "{:?}", flooded.first_failure);
        Ok(())
    }

    /// strace watches it from outside, and goes when it does; valgrind is the same process.
    fn switch(&self) -> Result<Pid> {
        let id = self.process.id();
        if self.counter == Counter::Callgrind {
            return Ok(Pid::from_raw(i32::try_from(id)?));
        }
        let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let child = text.split_whitespace().next().context("strace has no child")?;
        Ok(Pid::from_raw(child.parse()?))
    }

    /// Ends the switch; what its counter wrote.
    fn counts(mut self, dir: &Path) -> Result<String> {
        kill(self.switch()?, Signal::SIGTERM)?;
        let ended = self.process.wait()?;
        ensure!(ended.success(), "the switch ended with {ended}");
        Ok(std::fs::read_to_string(dir.join("counts"))?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relayed_message_makes_few_system_calls() -> Result<()> {
    const MESSAGES: u64 = 2_000;
    if !Counter::Strace.works() {
        println!("skipped: needs strace, and the right to trace");
        return Ok(());
    }
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let drain = Drain::start(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let routes = [("*", drain.address().to_string())];
    let counted = Counted::start(Counter::Strace, dir.path(), &routes).await?;
    counted.take(MESSAGES, Flood::RECIPIENT).await?;
    ensure!(drain.wait_for(MESSAGES, PATIENCE).await, "{} came to the sink", drain.messages());
    let text = counted.counts(dir.path())?;
    let pairs = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse::<u64>().ok()?, words.next()?))
    });
    let counts: HashMap<&str, u64> = pairs.map(|(count, name)| (name, count)).collect();
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

/// Instructions since this was last asked. valgrind writes a file for each question, with the next number.
fn instructions(counted: &Counted, dir: &Path, question: u32) -> Result<u64> {
    let process = counted.switch()?.to_string();
    let asked =
        Command::new("callgrind_control").args(["--dump", &process]).stdout(Stdio::null()).status()?;
    ensure!(asked.success(), "callgrind_control ended with {asked}");
    let text = std::fs::read_to_string(dir.join(format!("counts.{question}")))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).context("no totals")?;
    Ok(total.trim().parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_takes_few_instructions() -> Result<()> {
    const MESSAGES: u64 = 200;
    if !Counter::Callgrind.works() {
        println!("skipped: needs valgrind");
        return Ok(());
    }
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let drain = Drain::start(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let routes = [("held.test", "hold".to_owned()), ("*", drain.address().to_string())];
    let counted = Counted::start(Counter::Callgrind, dir.path(), &routes).await?;
    // Whatever is made but once is made by these.
    for recipient in ["a@held.test", Flood::RECIPIENT] {
        counted.take(20, recipient).await?;
    }
    ensure!(drain.wait_for(20, PATIENCE).await, "{} came to the sink", drain.messages());
    instructions(&counted, dir.path(), 1)?;
    counted.take(MESSAGES, "a@held.test").await?;
    let accepted = instructions(&counted, dir.path(), 2)? / MESSAGES;
    counted.take(MESSAGES, Flood::RECIPIENT).await?;
    ensure!(drain.wait_for(20 + MESSAGES, PATIENCE).await, "{} came to the sink", drain.messages());
    let relayed = instructions(&counted, dir.path(), 3)? / MESSAGES;
    let mut faults = Vec::new();
    // Of the programs as tests run them, which are hardly optimised.
    for (name, each, bound) in [("accepted", accepted, 1_000_000), ("relayed", relayed, 1_650_000)] {
        println!("{each} instructions for a message {name}, at most {bound}");
        if each > bound {
            faults.push(format!("{each} instructions for a message {name}, more than {bound}"));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}
