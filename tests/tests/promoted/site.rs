//! Two nodes with promoted storage and a witness, or an etcd: real programs, and devices that are directories.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use control::heartbeatd::{Answer, QueueStatus, Request};
use daemon_kit::SystemClock;
use mail_model::{Clock, QueueId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rig::{Load, LoadRun, Probe, Rate, Sink, SinkOptions};
use switchctl::demo::site::{free_tcp, free_udp};
use tempfile::TempDir;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

const NODES: [&str; 3] = ["a", "b", "w"];

/// Who keeps the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    Witness,
    Etcd,
}

struct Addresses {
    heartbeat: SocketAddr,
    control: SocketAddr,
    smtp: SocketAddr,
    health: SocketAddr,
}

/// The site. What runs is killed when it is dropped.
pub(crate) struct Site {
    dir: TempDir,
    programs: PathBuf,
    nodes: Vec<Addresses>,
    pub(crate) sink: Sink,
    clock: Arc<dyn Clock>,
    running: Vec<(String, Child)>,
    /// Of an etcd.
    url: Option<String>,
}

impl Site {
    /// Lays it out and starts everything. `None`, with a word, where etcd is wanted and not installed.
    pub(crate) async fn start(keeper: Keeper) -> Result<Option<Self>> {
        let dir = TempDir::with_prefix("mailswitch-promoted-")?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let sink = Sink::start(SinkOptions::new(Arc::clone(&clock)))?;
        let addresses = || {
            let (heartbeat, control) = (free_udp()?, free_tcp()?);
            anyhow::Ok(Addresses { heartbeat, control, smtp: free_tcp()?, health: free_tcp()? })
        };
        let nodes = NODES.iter().map(|_| addresses()).collect::<Result<_>>()?;
        let programs = tests::programs::build()?;
        let mut site = Self { dir, programs, nodes, sink, clock, running: Vec::new(), url: None };
        if keeper == Keeper::Etcd && !site.etcd()? {
            return Ok(None);
        }
        for folder in ["primary", "device/a", "device/b", "behind", "parted", "spool-a", "spool-b"] {
            fs::create_dir_all(site.path(folder))?;
        }
        symlink(site.programs.join("switchctl"), site.path("switchctl"))?;
        for (name, text) in [("hook.sh", include_str!("hook.sh")), ("off.sh", include_str!("off.sh"))] {
            fs::write(site.path(name), text)?;
            fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o755))?;
        }
        fs::write(site.path("cluster.key"), format!("{}\n", "07".repeat(32)))?;
        fs::set_permissions(site.path("cluster.key"), fs::Permissions::from_mode(0o600))?;
        for (index, name) in NODES.iter().enumerate() {
            fs::write(site.path(&format!("{name}.yaml")), site.yaml(index)?)?;
        }
        if keeper == Keeper::Witness {
            site.run("w", "heartbeatd")?;
        }
        for name in ["a", "b"] {
            site.start_node(name)?;
        }
        for name in ["a", "b"] {
            let at_home = format!("mounted here; owner {name} by term 1; current copies: a, b");
            site.until_device(name, name, &at_home).await?;
            site.until(name, name, "is at work", |queue| queue.lease_state.is_some()).await?;
        }
        Ok(Some(site))
    }

    /// An etcd of one member. False if there is none.
    fn etcd(&mut self) -> Result<bool> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
        {
            println!("skipped: needs etcd (Debian package etcd-server)");
            return Ok(false);
        }
        // Held together, so that no port comes twice.
        let sockets = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [url, peer] =
            [sockets[0].local_addr()?, sockets[1].local_addr()?].map(|at| format!("http://{at}"));
        drop(sockets);
        let child = Command::new("etcd")
            .args(["--name", "m", "--data-dir"])
            .arg(self.path("etcd"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("m={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.running.push(("etcd".to_owned(), child));
        self.url = Some(url);
        Ok(true)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn yaml(&self, own: usize) -> Result<String> {
        let (name, me, root) = (NODES[own], &self.nodes[own], self.dir.path().display());
        let mut text = "cluster:\n  id: test\n  nodes:\n".to_owned();
        let nodes = if self.url.is_some() { 2 } else { 3 };
        for (name, node) in NODES.iter().zip(&self.nodes).take(nodes) {
            let witness = if *name == "w" { ", witness: true" } else { "" };
            let (heartbeat, control) = (node.heartbeat, node.control);
            writeln!(
                text,
                "    - {{ id: {name}, heartbeat: [\"{heartbeat}\"], control: \"{control}\"{witness} }}"
            )?;
        }
        if let Some(url) = &self.url {
            writeln!(text, "  arbiter: {{ etcd: [\"{url}\"] }}")?;
        }
        write!(
            text,
            "  key_file: cluster.key\n  takeover: {{ window: 2s, handback_hold: 1s }}\n\
             node: {{ id: {name}, state_dir: state/{name} }}\n\
             queue:\n  dir: spool-{name}\n  storage: promoted\n  promoted: {{ command: [{root}/hook.sh, {root}, {name}] }}\n\
             fence: {{ command: [{root}/off.sh, {root}] }}\n\
             listeners:\n  - {{ address: \"{smtp}\" }}\n\
             health: {{ address: \"{health}\" }}\n\
             relay: {{ trusted_networks: [127.0.0.1/32] }}\n\
             routes:\n  - {{ match: \"*\", next_hop: \"{sink}\" }}\n\
             limits: {{ connections_per_client: 1000 }}\n\
             retry: {{ first: 1s, max: 10s }}\n\
             launcher: exec\n",
            smtp = me.smtp,
            health = me.health,
            sink = self.sink.address(),
        )?;
        Ok(text)
    }

    /// Both programs of a node.
    pub(crate) fn start_node(&mut self, name: &str) -> Result<()> {
        fs::remove_file(self.path(&format!("off-{name}"))).ok();
        self.run(name, "heartbeatd")?;
        self.run(name, "switch")
    }

    pub(crate) fn run(&mut self, name: &str, program: &str) -> Result<()> {
        let log = self.path(&format!("{program}-{name}.log"));
        let log = File::options().create(true).append(true).open(log)?;
        let child = Command::new(self.programs.join(program))
            .arg("run")
            .arg("--config")
            .arg(self.path(&format!("{name}.yaml")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let pids = self.path(&format!("pids-{name}"));
        writeln!(OpenOptions::new().create(true).append(true).open(pids)?, "{}", child.id())?;
        self.running.push((format!("{program} {name}"), child));
        Ok(())
    }

    /// Loses its power: it is gone, and its devices are nobody's.
    pub(crate) fn power_off(&mut self, name: &str) -> Result<()> {
        let root = self.dir.path();
        let done = Command::new(self.path("off.sh")).arg(root).args(["off", name]).status()?;
        ensure!(done.success(), "off.sh failed");
        self.running.retain_mut(|(what, child)| {
            let hit = what.ends_with(&format!(" {name}"));
            if hit {
                drop(child.wait());
            }
            !hit
        });
        Ok(())
    }

    pub(crate) fn signal(&self, what: &str, signal: Signal) -> Result<()> {
        let (_, child) = self.running.iter().find(|(name, _)| name == what).context("it does not run")?;
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
    }

    /// Waits for the end of a program. Its exit code.
    pub(crate) async fn ended(&mut self, what: &str) -> Result<Option<i32>> {
        let at = self.running.iter().position(|(name, _)| name == what).context("it does not run")?;
        let end = self.clock.now() + PATIENCE;
        while self.clock.now() < end {
            if let Some(status) = self.running[at].1.try_wait()? {
                self.running.remove(at);
                return Ok(status.code());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("{what} never ends")
    }

    pub(crate) fn load(&self, total: u64) -> LoadRun {
        let load =
            Load { rate: Rate::PerSecond(100), total: Some(total), ..Load::new(self.nodes[0].smtp, "run") };
        load.start(Arc::clone(&self.clock))
    }

    /// How a node sees a queue.
    pub(crate) async fn seen(&self, node: &str, queue: &str) -> Option<QueueStatus> {
        let socket = control::paths::heartbeatd(&self.path(&format!("state/{node}")));
        let queue: QueueId = queue.parse().ok()?;
        match control::ask(&socket, Request::Status, Duration::from_secs(5)).await {
            Ok(Answer::Status(status)) => status.queues.into_iter().find(|seen| seen.queue == queue),
            _ => None,
        }
    }

    /// As an operator on `node`.
    pub(crate) async fn order(&self, node: &str, request: Request) -> Result<()> {
        let socket = control::paths::heartbeatd(&self.path(&format!("state/{node}")));
        control::ask(&socket, request, Duration::from_secs(5)).await?;
        Ok(())
    }

    pub(crate) async fn order_takeover(&self, node: &str, queue: &str) -> Result<()> {
        self.order(node, Request::Takeover { queue: queue.parse()?, reason: "test".to_owned() }).await
    }

    fn switchctl(&self, node: &str, words: &[&str]) -> Result<std::process::Output> {
        let mut command = Command::new(self.path("switchctl"));
        command.arg("--config").arg(self.path(&format!("{node}.yaml"))).args(words);
        command.output().context("run switchctl")
    }

    /// As the storage of `node`, whose peer is gone: may it go on alone?
    pub(crate) fn copy_alone(&self, node: &str, queue: &str) -> Result<bool> {
        Ok(self.switchctl(node, &["ha", "copy-alone", queue])?.status.success())
    }

    /// Each side has the copy of `queue` that it had when they were cut: that of b lies in `folder`, and is behind from now on.
    pub(crate) fn cut(&self, queue: &str, folder: &str) -> Result<()> {
        // Of what is removed meanwhile there is no copy.
        let from = self.path(&format!("spool-a/{queue}"));
        Command::new("cp").arg("-a").arg(from).arg(self.path(folder)).stderr(Stdio::null()).status()?;
        self.play("cut")
    }

    /// From now on the device plays `what`.
    pub(crate) fn play(&self, what: &str) -> Result<()> {
        fs::write(self.path(what), "").context("write beside the hook")
    }

    pub(crate) fn is_primary(&self, node: &str, queue: &str) -> bool {
        self.path(&format!("primary/{node}-{queue}")).exists()
    }

    pub(crate) async fn until(
        &self,
        node: &str,
        queue: &str,
        what: &str,
        fits: impl Fn(&QueueStatus) -> bool,
    ) -> Result<()> {
        let began = self.clock.now();
        let mut last = None;
        while self.clock.now() < began + PATIENCE {
            last = self.seen(node, queue).await;
            if last.as_ref().is_some_and(&fits) {
                println!("{:?}: as {node} sees it, queue {queue} {what}", self.clock.now().since(began));
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("as {node} sees it, queue {queue} never {what}: {last:?}\n{}", self.logs())
    }

    pub(crate) async fn until_device(&self, node: &str, queue: &str, line: &str) -> Result<()> {
        self.until(node, queue, line, |seen| seen.device == line).await
    }

    /// Waits until so many messages have a 250.
    pub(crate) async fn until_accepted(&self, load: &LoadRun, count: u64) -> Result<()> {
        let mut tally = load.watch();
        let waited = tokio::time::timeout(PATIENCE, tally.wait_for(|tally| tally.accepted >= count)).await;
        ensure!(waited.is_ok(), "only {:?}\n{}", load.tally(), self.logs());
        Ok(())
    }

    /// The books: everything with a 250 was delivered, whole.
    pub(crate) async fn balanced(&self, probes: &[Probe]) -> Result<()> {
        let end = self.clock.now() + PATIENCE;
        loop {
            let balance = rig::Balance::close("run", probes, &self.sink.deliveries());
            if balance.is_whole() {
                let doubts = self.doubts("a")?;
                println!(
                    "{} accepted, {} delivered, {} duplicates of {doubts} in doubt",
                    balance.accepted, balance.delivered, balance.duplicates
                );
                ensure!(balance.duplicates <= doubts, "second deliveries that nobody counted: {balance:?}");
                return Ok(());
            }
            if self.clock.now() >= end {
                bail!("{balance:?}\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Deliveries of a queue that its owners could not be sure of, by its books.
    fn doubts(&self, queue: &str) -> Result<u64> {
        let node = ["a", "b"].into_iter().find(|node| self.is_primary(node, queue));
        let node = node.context("nobody has it mounted")?;
        let said = self.switchctl(node, &["-o", "json", "ledger", "verify"])?;
        let said: serde_json::Value = serde_json::from_slice(&said.stdout)?;
        let row = said["items"].as_array().and_then(|rows| rows.iter().find(|row| row["queue"] == queue));
        let counted = row.and_then(|row| row["in_doubt"].as_u64()).with_context(|| format!("{said}"))?;
        let listed = said["in_doubt"].as_array().context("no list of doubts")?;
        Ok(counted + listed.iter().filter(|doubt| doubt["state"] == "open").count() as u64)
    }

    /// What a program wrote to its log.
    pub(crate) fn log(&self, program: &str, node: &str) -> String {
        fs::read_to_string(self.path(&format!("{program}-{node}.log"))).unwrap_or_default()
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for name in ["heartbeatd-a", "heartbeatd-b", "heartbeatd-w", "switch-a"] {
            let log = fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(25);
            let shown = format!("--- {name}\n{}\n", lines[from..].join("\n"));
            text.push_str(&shown);
        }
        text
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
