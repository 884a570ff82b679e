//! A site on loopback: a folder with a configuration per node, one shared spool, and the nodes' real processes.
//!
//! A node is a `switch` and a `heartbeatd`, each leader of a process group of its own, so that a fault hits the program
//! and whatever it started. Nothing here looks inside them. A node that is dropped is killed; should this process die
//! first, the kernel asks its children to end.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};
use daemon_kit::process::{Child, Launcher};
use mail_model::{NodeId, QueueId};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The cluster's name in every demo.
pub const CLUSTER: &str = "demo";

/// What a site is made of.
#[derive(Debug, Clone)]
pub struct SitePlan {
    /// Everything is written below this folder.
    pub dir: PathBuf,
    /// 1 to 26 nodes, named `a`, `b`, …
    pub nodes: usize,
    /// Where all mail goes.
    pub sink: SocketAddr,
    /// Folder of the three programs.
    pub programs: PathBuf,
    /// What stands under `cluster.takeover`, for example `window: 2s`, …
    pub takeover: String,
}

/// One node's addresses and files.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// `a`, `b`, …
    pub id: NodeId,
    /// Its configuration file.
    pub config: PathBuf,
    /// Sockets and decision records.
    pub state_dir: PathBuf,
    /// SMTP in.
    pub smtp: SocketAddr,
    /// Health probes.
    pub health: SocketAddr,
    /// Where its heartbeatd listens.
    pub heartbeat: SocketAddr,
    /// Where its programs are asked by other nodes.
    pub control: SocketAddr,
}

impl NodePlan {
    /// Its own queue.
    #[must_use]
    pub fn queue(&self) -> QueueId {
        QueueId::of(self.id.clone())
    }
}

/// A laid-out site.
#[derive(Debug)]
pub struct Site {
    plan: SitePlan,
    launcher: Launcher,
    /// The nodes, in order.
    pub nodes: Vec<NodePlan>,
}

impl Site {
    /// Chooses free ports, writes the configurations and the cluster key. `heard_at(from, to, address)` is where node
    /// `from` sends its heartbeats for node `to`: the real address, or a link that can be cut.
    pub fn lay_out(
        plan: SitePlan,
        heard_at: impl Fn(usize, usize, SocketAddr) -> Result<SocketAddr>,
    ) -> Result<Self> {
        fs::create_dir_all(&plan.dir).with_context(|| format!("make {}", plan.dir.display()))?;
        for program in ["switch", "heartbeatd", "switchctl"] {
            let path = plan.programs.join(program);
            if !path.is_file() {
                bail!("{} is missing: build all programs first (make build)", path.display());
            }
        }
        let nodes = (0..plan.nodes).map(|index| choose(&plan.dir, index)).collect::<Result<Vec<_>>>()?;
        let launcher = Launcher::start().context("start the thread that starts programs")?;
        let site = Self { plan, launcher, nodes };
        for index in 0..site.nodes.len() {
            site.write_config(index, &heard_at)?;
        }
        site.switchctl(0, &["cluster", "keygen"])?;
        Ok(site)
    }

    /// The folder that holds one directory per queue.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.plan.dir.join("spool")
    }

    /// A node by position.
    pub fn node(&self, index: usize) -> Result<&NodePlan> {
        self.nodes.get(index).with_context(|| format!("there is no node number {index}"))
    }

    /// Runs `switchctl` as on node `index`, and returns what it printed. Fails if it does.
    pub fn switchctl(&self, index: usize, arguments: &[&str]) -> Result<String> {
        let shown = arguments.join(" ");
        let done = Command::new(self.plan.programs.join("switchctl"))
            .arg("--config")
            .arg(&self.node(index)?.config)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run switchctl {shown}"))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("switchctl {shown}: {}: {}", done.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn write_config(
        &self,
        own: usize,
        heard_at: &impl Fn(usize, usize, SocketAddr) -> Result<SocketAddr>,
    ) -> Result<()> {
        let me = self.node(own)?;
        let mut peers = String::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let address = if index == own { node.heartbeat } else { heard_at(own, index, node.heartbeat)? };
            let (id, control) = (&node.id, node.control);
            writeln!(peers, "    - {{ id: {id}, heartbeat: [\"{address}\"], control: \"{control}\" }}")?;
        }
        let text = format!(
            "cluster:\n  id: {CLUSTER}\n  nodes:\n{peers}  key_file: cluster.key\n  takeover: {{ {takeover} }}\n\
             node: {{ id: {id}, state_dir: state/{id} }}\n\
             queue: {{ dir: spool, storage: shared }}\n\
             listeners:\n  - {{ address: \"{smtp}\" }}\n\
             health: {{ address: \"{health}\" }}\n\
             relay: {{ trusted_networks: [127.0.0.1/32] }}\n\
             routes:\n  - {{ match: \"*\", next_hop: \"{sink}\" }}\n\
             limits: {{ connections_per_client: 1000 }}\n\
             retry: {{ first: 1s, max: 10s }}\n\
             launcher: exec\n",
            takeover = self.plan.takeover,
            id = me.id,
            smtp = me.smtp,
            health = me.health,
            sink = self.plan.sink,
        );
        fs::write(&me.config, text).with_context(|| format!("write {}", me.config.display()))
    }

    /// Starts both programs of a node.
    pub async fn start(&self, index: usize) -> Result<NodeProcesses> {
        Ok(NodeProcesses {
            switch: self.start_program(index, "switch").await?,
            heartbeatd: self.start_program(index, "heartbeatd").await?,
        })
    }

    /// Starts one program of a node: `switch` or `heartbeatd`.
    pub async fn start_program(&self, index: usize, program: &str) -> Result<ProcessGroup> {
        let node = self.node(index)?;
        let log = self.log(node, program);
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        let mut command = Command::new(self.plan.programs.join(program));
        command
            .arg("run")
            .arg("--config")
            .arg(&node.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .process_group(0);
        let started = self.launcher.spawn(command).await;
        let child = started.with_context(|| format!("start {program} of node {}", node.id))?;
        Ok(ProcessGroup::new(child, log))
    }

    fn log(&self, node: &NodePlan, program: &str) -> PathBuf {
        self.plan.dir.join(format!("{program}-{}.log", node.id))
    }

    /// Every log line of level ERROR so far, of all programs. A clean site has none.
    pub fn errors(&self) -> Result<Vec<String>> {
        let mut errors = Vec::new();
        for node in &self.nodes {
            for program in ["switch", "heartbeatd"] {
                let log = self.log(node, program);
                let text = fs::read(&log).with_context(|| format!("read {}", log.display()))?;
                let text = String::from_utf8_lossy(&text).into_owned();
                let lines = text.lines().filter(|line| line.contains("ERROR"));
                errors.extend(lines.map(|line| format!("{program} {}: {line}", node.id)));
            }
        }
        Ok(errors)
    }
}

fn choose(dir: &Path, index: usize) -> Result<NodePlan> {
    let letter = u8::try_from(index).ok().filter(|i| *i < 26).context("at most 26 nodes")? + b'a';
    let id = NodeId::new(char::from(letter).to_string())?;
    Ok(NodePlan {
        config: dir.join(format!("{id}.yaml")),
        state_dir: dir.join("state").join(id.as_str()),
        smtp: free_tcp()?,
        health: free_tcp()?,
        heartbeat: free_udp()?,
        control: free_tcp()?,
        id,
    })
}

/// Below the ports that kernels give to outgoing connections: a node that is down for a while finds its own free.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// How many ports this process has tried.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// The first port that `bind` takes, beginning at another place in every process.
fn free<T>(bind: impl Fn(SocketAddr) -> std::io::Result<T>) -> Result<SocketAddr> {
    let span = PORTS.end - PORTS.start;
    let own = u16::try_from(u64::from(std::process::id()).wrapping_mul(97) % u64::from(span)).unwrap_or(0);
    for _ in 0..span {
        let next = TRIED.fetch_add(1, Ordering::Relaxed) % span;
        let port = PORTS.start + (own + next) % span;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port from {} to {} of 127.0.0.1 is free", PORTS.start, PORTS.end)
}

/// A loopback TCP port that is free now.
pub fn free_tcp() -> Result<SocketAddr> {
    free(TcpListener::bind)
}

/// A loopback UDP port that is free now.
pub fn free_udp() -> Result<SocketAddr> {
    free(UdpSocket::bind)
}

/// A node's two programs, running.
#[derive(Debug)]
pub struct NodeProcesses {
    /// The mail program.
    pub switch: ProcessGroup,
    /// The cluster program.
    pub heartbeatd: ProcessGroup,
}

impl NodeProcesses {
    /// Sends `signal` to every process of the node.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // heartbeatd first: a dead or frozen one starts nothing anew.
        self.heartbeatd.signal(signal)?;
        self.switch.signal(signal)
    }

    /// The node loses power: SIGKILL to all its processes at once.
    pub async fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.heartbeatd.child.wait().await.context("wait for heartbeatd")?;
        self.switch.child.wait().await.context("wait for switch")?;
        Ok(())
    }
}

/// A program and whatever it started.
#[derive(Debug)]
pub struct ProcessGroup {
    child: Child,
    /// What it writes to standard error.
    pub log: PathBuf,
}

impl ProcessGroup {
    /// The group of `child`, which leads it.
    pub(crate) fn new(child: Child, log: PathBuf) -> Self {
        Self { child, log }
    }

    /// Sends `signal` to the group. A group that is gone already is fine.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let group = Pid::from_raw(i32::try_from(self.child.pid()).context("process id")?);
        match killpg(group, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("send {signal} to process group {group}")),
        }
    }

    /// Asks the program, and not what it started, to end.
    pub fn terminate(&self) -> Result<()> {
        self.child.terminate().context("send SIGTERM")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("look whether a program has ended")
    }

    /// Waits for the end of the program.
    pub async fn end(&mut self) -> Result<ExitStatus> {
        self.child.wait().await.context("wait for a program")
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // Nothing of a site outlives it, whatever state it was left in.
        self.signal(Signal::SIGKILL).ok();
    }
}
