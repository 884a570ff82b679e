//! Two nodes with addresses of their own on loopback and the same ports, as on two machines, each a `switch` and a
//! `heartbeatd` as real processes. They are killed when they are dropped.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daemon_kit::SystemClock;
use mail_model::{Clock, Moment};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const SMTP: u16 = 2525;
const AGENT: u16 = 8026;

/// What a balancer can look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checks {
    /// Health probes and the agent of heartbeatd.
    HealthAndAgent,
    /// Health probes; the agent is played by the test.
    FakeAgent,
    /// Nothing but the greeting, behind a PROXY header.
    Greeting,
}

/// The nodes.
pub(crate) struct Nodes {
    dir: TempDir,
    programs: PathBuf,
    number: u8,
    checks: Checks,
    running: Vec<(&'static str, Child)>,
}

impl Nodes {
    /// Configurations and a key, and nothing that runs.
    pub(crate) fn laid_out(number: u8, checks: Checks) -> Result<Self> {
        let dir = TempDir::with_prefix("mailswitch-balancers-")?;
        let nodes = Self { dir, programs: tests::programs::build()?, number, checks, running: Vec::new() };
        for node in ["a", "b"] {
            std::fs::write(nodes.config(node), nodes.text(node))?;
        }
        nodes.switchctl("a", &["cluster", "keygen"])?;
        Ok(nodes)
    }

    /// Both run and take mail.
    pub(crate) fn start(number: u8, checks: Checks) -> Result<Self> {
        let mut nodes = Self::laid_out(number, checks)?;
        for node in ["a", "b"] {
            nodes.run(node)?;
        }
        Ok(nodes)
    }

    /// An address that only this test of this run has.
    pub(crate) fn address(&self, last: u8) -> IpAddr {
        let id = std::process::id();
        let (high, low) = (u8::try_from(id % 97), u8::try_from(id / 97 % 199));
        IpAddr::V4(Ipv4Addr::new(
            127,
            20 + high.unwrap_or_default(),
            low.unwrap_or_default(),
            self.number * 20 + last,
        ))
    }

    /// Where clients come, before the balancer.
    pub(crate) fn front(&self) -> SocketAddr {
        SocketAddr::new(self.address(9), SMTP)
    }

    pub(crate) fn place(&self, node: &str) -> IpAddr {
        self.address(if node == "a" { 1 } else { 2 })
    }

    /// Health and SMTP of a node, as scripts name them.
    pub(crate) fn places(&self, node: &str) -> [String; 2] {
        [8025, SMTP].map(|port| SocketAddr::new(self.place(node), port).to_string())
    }

    fn text(&self, node: &str) -> String {
        let [a, b, here] = [self.place("a"), self.place("b"), self.place(node)];
        let proxy = match self.checks {
            Checks::HealthAndAgent | Checks::FakeAgent => "",
            Checks::Greeting => ", proxy_protocol: true, proxy_from: [127.0.0.0/8]",
        };
        let more = match self.checks {
            Checks::HealthAndAgent | Checks::FakeAgent => {
                format!("health: {{ address: \"{here}:8025\" }}\nagent: {{ address: \"{here}:{AGENT}\" }}\n")
            }
            Checks::Greeting => String::new(),
        };
        format!(
            "cluster:\n  id: demo\n  nodes:\n    - {{ id: a, heartbeat: [\"{a}:7101\"] }}\n    - {{ id: b, heartbeat: [\"{b}:7101\"] }}\n  \
             key_file: cluster.key\n  takeover: {{ window: 2s, handback_hold: 1s }}\n\
             node: {{ id: {node}, state_dir: state/{node} }}\nqueue: {{ dir: spool }}\n\
             listeners: [ {{ address: \"{here}:{SMTP}\"{proxy} }} ]\n{more}\
             relay: {{ trusted_networks: [127.0.0.0/8] }}\nroutes: [ {{ match: \"*\", next_hop: discard }} ]\n"
        )
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn config(&self, node: &str) -> PathBuf {
        self.dir().join(format!("{node}.yaml"))
    }

    /// What `switchctl` prints on a node; an error if it fails.
    pub(crate) fn switchctl(&self, node: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.programs.join("switchctl"));
        let output = command.arg("--config").arg(self.config(node)).args(arguments).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What is printed for a balancer.
    pub(crate) fn snippet(&self, kind: &str) -> Result<String> {
        self.switchctl("a", &["lb", "snippet", kind, "--address", &self.front().ip().to_string()])
    }

    /// Starts what does not run of a node, and waits until it takes mail.
    pub(crate) fn run(&mut self, node: &'static str) -> Result<()> {
        self.running.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
        let runs = self.running.iter().filter(|(name, _)| *name == node).count();
        ensure!(runs == 0, "node {node} runs already");
        let mut programs = vec!["switch"];
        // Its agent would have the address that the test needs.
        if self.checks != Checks::FakeAgent {
            programs.push("heartbeatd");
        }
        for program in programs {
            let log = std::fs::File::options().create(true).append(true).open(self.log(node))?;
            let mut command = Command::new(self.programs.join(program));
            command.arg("run").arg("--config").arg(self.config(node)).stdin(Stdio::null());
            let child = command.stdout(Stdio::null()).stderr(log).spawn().context(program)?;
            self.running.push((node, child));
        }
        let address = SocketAddr::new(self.place(node), SMTP);
        until(&format!("node {node} greets"), || greets(address))
    }

    fn log(&self, node: &str) -> PathBuf {
        self.dir().join(format!("{node}.log"))
    }

    fn signal(&self, node: &str, signal: Signal) -> Result<()> {
        for (_, child) in self.running.iter().filter(|(name, _)| *name == node) {
            kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        }
        Ok(())
    }

    /// Both programs of a node get SIGKILL, now.
    pub(crate) fn kill(&mut self, node: &str) -> Moment {
        let at = SystemClock.now();
        self.signal(node, Signal::SIGKILL).ok();
        at
    }

    /// In place of the agent of node a.
    pub(crate) fn agent(&self) -> Result<Agent> {
        Agent::start(SocketAddr::new(self.place("a"), AGENT))
    }

    /// No program logged that something is wrong with a client's connection.
    pub(crate) fn client_is_known(&self) -> Result<()> {
        let log = std::fs::read_to_string(self.log("a"))?;
        let accepted =
            log.lines().filter(|line| line.contains("message.accepted") || line.contains("mail.accepted"));
        ensure!(accepted.count() > 0 || !log.is_empty(), "node a logged nothing");
        let faults: Vec<&str> =
            log.lines().filter(|line| line.contains("proxy.") || line.contains(" ERROR ")).collect();
        ensure!(faults.is_empty(), "checks leave no trace: {faults:?}");
        Ok(())
    }

    /// No program of node a, which nothing happened to, logged an error.
    pub(crate) fn delivered_in_log(&self) -> Result<()> {
        let log = std::fs::read_to_string(self.log("a"))?;
        let faults: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
        ensure!(faults.is_empty(), "{faults:?}");
        Ok(())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) -> Result<()> {
    let deadline = SystemClock.now() + PATIENCE;
    while !so() {
        if SystemClock.now() >= deadline {
            bail!("never: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn greets(address: SocketAddr) -> bool {
    let greeting = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        // PROXY version 2, LOCAL; where no header is expected it comes after the greeting was sent.
        let mut line = [0; 3];
        let started = std::io::Read::read_exact(&mut stream, &mut line);
        started.map(|()| &line == b"220")
    };
    let behind_proxy = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")?;
        let mut line = [0; 3];
        std::io::Read::read_exact(&mut stream, &mut line).map(|()| &line == b"220")
    };
    greeting().unwrap_or(false) || behind_proxy().unwrap_or(false)
}

/// An agent that says what it is told.
pub(crate) struct Agent {
    word: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Agent {
    fn start(address: SocketAddr) -> Result<Self> {
        let word = Arc::new(Mutex::new("up ready 100%\n".to_owned()));
        let listener = TcpListener::bind(address)?;
        let shared = Arc::clone(&word);
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let Ok(word) = shared.lock() else { return };
                stream.write_all(word.as_bytes()).ok();
                drop(word);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Self { word, asked })
    }

    /// From now on it says this.
    pub(crate) fn say(&self, word: &str) {
        if let Ok(mut said) = self.word.lock() {
            word.clone_into(&mut said);
        }
    }

    /// Waits until it was asked so many times more.
    pub(crate) fn is_asked(&self, times: usize) -> Result<()> {
        let before = self.asked.load(Ordering::Relaxed);
        until("the agent is asked", || self.asked.load(Ordering::Relaxed) > before + times)
    }
}
