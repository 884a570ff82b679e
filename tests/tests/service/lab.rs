//! Nodes with a real systemd, made by `tests/lab/node.sh`: the Debian package in them, a network, a far end for their mail.
//! Everything is gone when the lab is dropped.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daemon_kit::SystemClock;
use mail_model::Clock;
use rig::{Behaviour, Load, LoadRun, Rate, Rule, Sink, SinkOptions, Stage};
use switchctl::demo::site::CLUSTER;
use tempfile::TempDir;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
const PROGRAMS: [&str; 6] = ["systemd-nspawn", "mmdebstrap", "nft", "ip", "dpkg-deb", "strip"];

/// A lab.
pub(crate) struct Lab {
    name: String,
    subnet: String,
    dir: TempDir,
    rootfs: String,
    pub(crate) sink: Sink,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Lab {
    /// A bridge, a far end, and the package; no node yet. None, said aloud, where this machine cannot do it.
    pub(crate) fn open(number: u8) -> Result<Option<Self>> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return Ok(None);
        }
        for program in PROGRAMS {
            if Command::new(program).arg("--version").output().is_err() {
                eprintln!("skipped: needs {program} (tests/install-needs.sh installs it)");
                return Ok(None);
            }
        }
        let rootfs = said(Command::new(script("tests/lab/rootfs.sh"))).context("build the nodes' root")?;
        // Beside the root, on a real file system: an overlay cannot lie on an overlay.
        let cache = Path::new(&rootfs).parent().context("the root lies in a folder")?.to_owned();
        let dir = TempDir::with_prefix_in("run-", cache)?;
        for folder in ["deb", "spool"] {
            std::fs::create_dir(dir.path().join(folder))?;
        }
        let id = std::process::id() % 200;
        let (name, subnet) = (format!("msw{id}-{number}"), format!("10.{}.{number}", 50 + id));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        said(node_script(["net", &name, &subnet]))
            .context("make the network; has the kernel bridge and nft?")?;
        let address = format!("{subnet}.1:0").parse()?;
        let sink = Sink::start(SinkOptions { address, ..SinkOptions::new(Arc::clone(&clock)) })?;
        let lab = Self { name, subnet, dir, rootfs, sink, clock };
        lab.package(None)?;
        Ok(Some(lab))
    }

    /// Builds the package of the programs of this build. Its name in the folder `/deb` of the nodes.
    pub(crate) fn package(&self, version: Option<&str>) -> Result<String> {
        let mut build = Command::new(script("ha-scripts/deb/build.sh"));
        build.arg(tests::programs::build()?).arg(self.dir.path().join("deb"));
        if let Some(version) = version {
            build.env("MAILSWITCH_VERSION", version);
        }
        let path = PathBuf::from(said(build)?);
        let name = path.file_name().context("the package has a name")?.to_string_lossy().into_owned();
        Ok(format!("/deb/{name}"))
    }

    /// The queues of all nodes, as this machine sees them.
    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// A node's address.
    pub(crate) fn address(&self, node: &str) -> String {
        format!("{}.{}", self.subnet, if node == "a" { 11 } else { 12 })
    }

    /// Boots a node, and returns when its systemd is up.
    pub(crate) fn up(&self, node: &str) -> Result<()> {
        let bind = |options: &str, from: &str, to: &str| {
            format!("--bind{options}={}:{to}", self.dir.path().join(from).display())
        };
        let mut command = self.script("up", node);
        command.args([&self.address(node), &self.rootfs]);
        command.args([bind("", "spool", "/var/spool/mailswitch"), bind("-ro", "deb", "/deb")]);
        said(command).map(drop)
    }

    /// Boots a node, installs the package, configures it and starts its services.
    pub(crate) fn install(&self, node: &str, nodes: &str) -> Result<()> {
        self.up(node)?;
        self.run(node, "dpkg -i /deb/*.deb 2>&1")?;
        self.configure(node, nodes)?;
        self.start(node, &format!("systemctl enable --now mailswitch.target switch@{node} heartbeatd 2>&1"))?;
        self.ready(node)
    }

    /// Writes a node's configuration and key.
    pub(crate) fn configure(&self, node: &str, nodes: &str) -> Result<()> {
        let sink = self.sink.address();
        let text = format!(
            "cluster:\n  id: {CLUSTER}\n{nodes}node: {{ id: {node}, hostname: {node}.lab.test }}\n\
             listeners: [ {{ address: \"0.0.0.0:25\" }} ]\nhealth: {{ address: \"0.0.0.0:8025\" }}\n\
             relay: {{ trusted_networks: [ {}.0/24 ] }}\nroutes: [ {{ match: \"*\", next_hop: \"{sink}\" }} ]\n\
             retry: {{ first: 300ms, max: 300ms }}\nlauncher: systemd\n",
            self.subnet
        );
        std::fs::write(self.dir.path().join("deb/mailswitch.yaml"), text)?;
        let key = "07".repeat(32);
        self.run(
            node,
            &format!(
                "cp /deb/mailswitch.yaml /etc/mailswitch/mailswitch.yaml && cd /etc/mailswitch && \
                 (umask 077; echo {key} > cluster.key) && chown mailswitch cluster.key"
            ),
        )
        .map(drop)
    }

    /// Runs `ha-scripts/install-pair` for a and b, with a stand-in for ssh that enters the nodes.
    pub(crate) fn install_pair(&self) -> Result<String> {
        let ssh = self.dir.path().join("ssh");
        let (node, dir) = (script("tests/lab/node.sh"), self.dir.path());
        let [a, b] = ["a", "b"].map(|node| self.address(node));
        let text = format!(
            "#!/bin/sh\nshift 2\ncase \"$1\" in root@{a}) node=a ;; root@{b}) node=b ;; *) exit 255 ;; esac\n\
             exec {} run {} {} \"$node\" sh -c \"$2\"\n",
            node.display(),
            self.name,
            dir.display()
        );
        std::fs::write(&ssh, text)?;
        std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755))?;
        let package = std::fs::read_dir(dir.join("deb"))?.next().context("a package")??.path();
        let mut command = Command::new(script("ha-scripts/install-pair"));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", dir.display())).arg("--package").arg(package);
        command.args([
            "--next-hop",
            &self.sink.address().to_string(),
            "--networks",
            &format!("{}.0/24", self.subnet),
        ]);
        command.args([format!("a={a}"), format!("b={b}")]);
        said(command)
    }

    /// Waits until a node takes mail.
    pub(crate) fn ready(&self, node: &str) -> Result<()> {
        self.until(node, &format!("switchctl status --node {node} -o json"), "it is ready", |said| {
            said.contains("\"ready\":true")
        })
        .map(drop)
    }

    /// What a shell line in a node says; an error if it fails.
    pub(crate) fn run(&self, node: &str, line: &str) -> Result<String> {
        said(self.shell(node, line)).with_context(|| format!("node {node}: {line}"))
    }

    /// The same; if it fails, with what the node's services said.
    pub(crate) fn start(&self, node: &str, line: &str) -> Result<String> {
        let log = || said(self.shell(node, "journalctl --no-pager -n 60")).unwrap_or_default();
        self.run(node, line).with_context(log)
    }

    fn shell(&self, node: &str, line: &str) -> Command {
        let mut command = self.script("run", node);
        command.args(["sh", "-c", line]);
        command
    }

    /// Runs a line until what it says fits. A line that fails is run again.
    pub(crate) fn until(
        &self,
        node: &str,
        line: &str,
        what: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let deadline = self.clock.now() + PATIENCE;
        loop {
            let said = self.run(node, line);
            if let Ok(said) = &said
                && fits(said)
            {
                return Ok(said.clone());
            }
            if self.clock.now() >= deadline {
                let log = self.run(node, "journalctl --no-pager -n 60").unwrap_or_default();
                bail!("node {node}: never {what}: {line}: {said:?}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A verb of `node.sh` about a node.
    pub(crate) fn order(&self, verb: &str, node: &str) -> Result<()> {
        let command = match verb {
            "unplug" | "plug" | "cut" | "heal" => node_script([verb, &self.name, node]),
            _ => self.script(verb, node),
        };
        said(command).map(drop)
    }

    fn script(&self, verb: &str, node: &str) -> Command {
        let mut command = node_script([verb, &self.name]);
        command.arg(self.dir.path()).arg(node);
        command
    }

    /// Traffic of `total` messages to one node.
    pub(crate) fn load(&self, node: &str, run: &str, total: u64) -> Result<LoadRun> {
        let target = format!("{}:25", self.address(node)).parse()?;
        let load = Load { rate: Rate::PerSecond(200), total: Some(total), ..Load::new(target, run) };
        Ok(load.start(Arc::clone(&self.clock)))
    }

    /// The far end puts all mail off, or takes it.
    pub(crate) fn put_off(&self, put_off: bool) {
        let mut behaviour = Behaviour::default();
        if put_off {
            behaviour.rules.push(Rule::at(Stage::Recipient).reply(451, "4.7.1 not now, try again"));
        }
        self.sink.behave(behaviour);
    }

    /// Waits until so many different messages are at the far end.
    pub(crate) async fn delivered(&self, messages: u64) -> Result<()> {
        let all = self.sink.wait_for(|tally| tally.probes >= messages, PATIENCE).await;
        ensure!(all, "{} of {messages} messages are at the far end", self.sink.tally().probes);
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let mut command = node_script(["down", &self.name]);
        command.arg(self.dir.path());
        if let Err(error) = said(command) {
            eprintln!("{error:#}");
        }
    }
}

fn script(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn node_script<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(script("tests/lab/node.sh"));
    command.args(arguments);
    command
}

/// Runs a command. What it wrote to standard output; an error with the rest if it failed.
fn said(mut command: Command) -> Result<String> {
    // A file and not a pipe: a container that goes on holds it open.
    let errors = tempfile::tempfile()?;
    let output = command.stderr(errors.try_clone()?).output();
    let output = output.with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        let mut text = String::new();
        std::io::Seek::rewind(&mut &errors)?;
        std::io::Read::read_to_string(&mut &errors, &mut text)?;
        bail!("{command:?}: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stdout));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
