//! A site on loopback: a folder with a configuration per node, one shared spool, and the nodes' real processes.
//!
//! A node is a `switch` and a `heartbeatd`, each leader of a process group of its own, so that a fault hits the program
//! and whatever it started. Nothing here looks inside them.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use mail_model::NodeId;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

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
    /// More YAML for every node's file, top level.
    pub extra: String,
}

/// One node's addresses and files.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// `a`, `b`, …
    pub id: NodeId,
    /// Its configuration file.
    pub config: PathBuf,
    /// SMTP in.
    pub smtp: SocketAddr,
    /// Health probes.
    pub health: SocketAddr,
    /// Where its heartbeatd listens.
    pub heartbeat: SocketAddr,
    log: PathBuf,
}

/// A laid-out site.
#[derive(Debug)]
pub struct Site {
    plan: SitePlan,
    /// The nodes, in order.
    pub nodes: Vec<NodePlan>,
}

impl Site {
    /// Chooses free ports, writes the configurations and the cluster key. `heard_at(from, to)` is where node `from`
    /// sends its heartbeats for node `to`: the real address, or a link that can be cut.
    pub fn lay_out(plan: SitePlan, heard_at: impl Fn(usize, usize, SocketAddr) -> Result<SocketAddr>) -> Result<Self> {
        fs::create_dir_all(&plan.dir).with_context(|| format!("make {}", plan.dir.display()))?;
        let nodes = (0..plan.nodes).map(|index| NodePlan::choose(&plan.dir, index)).collect::<Result<Vec<_>>>()?;
        let site = Self { plan, nodes };
        for index in 0..site.nodes.len() {
            site.write_config(index, &heard_at)?;
        }
        if let Some(first) = site.nodes.first() {
            let made = site
                .program("switchctl")
                .args(["cluster", "keygen", "--config"])
                .arg(&first.config)
                .stdout(Stdio::null())
                .status()
                .context("run switchctl cluster keygen")?;
            if !made.success() {
                bail!("switchctl cluster keygen failed: {made}");
            }
        }
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

    fn program(&self, name: &str) -> Command {
        Command::new(self.plan.programs.join(name))
    }

    fn write_config(
        &self,
        own: usize,
        heard_at: &impl Fn(usize, usize, SocketAddr) -> Result<SocketAddr>,
    ) -> Result<()> {
        use std::fmt::Write as _;
        let me = self.node(own)?;
        let mut peers = String::new();
        let mut order = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let address = if index == own { node.heartbeat } else { heard_at(own, index, node.heartbeat)? };
            writeln!(peers, "    - {{ id: {}, heartbeat: [\"{address}\"] }}", node.id)?;
            order.push(node.id.as_str().to_owned());
        }
        let text = format!(
            "cluster:\n  id: demo\n  nodes:\n{peers}  key_file: cluster.key\n  takeover: {{ window: 2s, order: [{}] }}\n\
             node: {{ id: {}, state_dir: state/{} }}\n\
             queue: {{ dir: spool, storage: shared }}\n\
             listeners: [ {{ address: \"{}\" }} ]\n\
             health: {{ address: \"{}\" }}\n\
             relay: {{ trusted_networks: [127.0.0.1/32] }}\n\
             routes: [ {{ match: \"*\", next_hop: \"{}\" }} ]\n\
             limits: {{ connections_per_client: 1000 }}\n\
             retry: {{ first: 1s, max: 10s }}\n\
             launcher: exec\n{}",
            order.join(", "),
            me.id,
            me.id,
            me.smtp,
            me.health,
            self.plan.sink,
            self.plan.extra,
        );
        fs::write(&me.config, text).with_context(|| format!("write {}", me.config.display()))
    }

    /// Starts both programs of a node.
    pub fn start(&self, index: usize) -> Result<NodeProcesses> {
        let node = self.node(index)?;
        Ok(NodeProcesses {
            switch: self.spawn(node, "switch")?,
            heartbeatd: self.spawn(node, "heartbeatd")?,
        })
    }

    fn spawn(&self, node: &NodePlan, program: &str) -> Result<ProcessGroup> {
        let log = node.log.join(format!("{program}-{}.log", node.id));
        let file = File::options().create(true).append(true).open(&log).with_context(|| format!("open {}", log.display()))?;
        let child = self
            .program(program)
            .arg("run")
            .arg("--config")
            .arg(&node.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {program} of node {}", node.id))?;
        Ok(ProcessGroup { child })
    }
}

impl NodePlan {
    fn choose(dir: &Path, index: usize) -> Result<Self> {
        let letter = u8::try_from(index).ok().filter(|i| *i < 26).context("at most 26 nodes")? + b'a';
        let id = NodeId::new(char::from(letter).to_string())?;
        Ok(Self {
            config: dir.join(format!("{id}.yaml")),
            id,
            smtp: free_tcp()?,
            health: free_tcp()?,
            heartbeat: free_udp()?,
            log: dir.to_owned(),
        })
    }
}

/// A loopback TCP port that is free now.
pub fn free_tcp() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").context("find a free port")?.local_addr()?)
}

/// A loopback UDP port that is free now.
pub fn free_udp() -> Result<SocketAddr> {
    Ok(UdpSocket::bind("127.0.0.1:0").context("find a free port")?.local_addr()?)
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
    pub fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.heartbeatd.child.wait()?;
        self.switch.child.wait()?;
        Ok(())
    }
}

impl Drop for NodeProcesses {
    fn drop(&mut self) {
        // Nothing of a site outlives it, whatever state a test left it in.
        self.signal(Signal::SIGKILL).ok();
        self.heartbeatd.child.wait().ok();
        self.switch.child.wait().ok();
    }
}

/// A program and whatever it started.
#[derive(Debug)]
pub struct ProcessGroup {
    child: Child,
}

impl ProcessGroup {
    /// Sends `signal` to the group. A group that is gone already is fine.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let group = Pid::from_raw(i32::try_from(self.child.id()).context("process id")?);
        match killpg(group, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("send {signal} to process group {group}")),
        }
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}
