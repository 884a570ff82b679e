//! Nodes with a real systemd, made by the scripts in `tests/lab/`: the Debian package in them, a network, a far end for their mail.
//! Everything is gone when the lab is dropped.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daemon_kit::SystemClock;
use mail_model::Clock;
use rig::{Behaviour, Load, LoadRun, Rate, Rule, Sink, SinkOptions, Stage};
use switchctl::demo::site::CLUSTER;
use tempfile::TempDir;

/// Longest wait for anything in a container.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Where the queues are in a node.
pub const SPOOL: &str = "/var/spool/mailswitch";
const PROGRAMS: [&str; 4] = ["nft", "ip", "dpkg-deb", "strip"];

/// What the nodes of a lab are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Containers with one folder of this machine for their queues.
    Containers,
    /// Containers with GlusterFS, and a folder `/data` on a real file system each.
    Bricks,
    /// Virtual machines with Debian's kernel, DRBD and NFS, and an empty disk each. One lab of them at a time.
    Machines,
}

impl Kind {
    /// What builds what they boot.
    fn image(self) -> Command {
        let mut command = Command::new(script(match self {
            Self::Containers | Self::Bricks => "tests/lab/rootfs.sh",
            Self::Machines => "tests/lab/image.sh",
        }));
        if self == Self::Bricks {
            command.args(["procps", "fuse3", "attr", "glusterfs-server", "glusterfs-client"]);
        }
        command
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Containers | Self::Bricks => &["systemd-nspawn", "mmdebstrap"],
            Self::Machines => {
                &["qemu-system-x86_64", "qemu-img", "mmdebstrap", "busybox", "cpio", "zstd", "mke2fs"]
            }
        }
    }

    fn script(self) -> PathBuf {
        script(match self {
            Self::Containers | Self::Bricks => "tests/lab/node.sh",
            Self::Machines => "tests/lab/vm.sh",
        })
    }
}

/// A lab.
#[derive(Debug)]
pub struct Lab {
    kind: Kind,
    name: String,
    subnet: String,
    dir: TempDir,
    image: String,
    /// The far end.
    pub sink: Sink,
    /// Time of all records.
    pub clock: Arc<dyn Clock>,
    /// Machines have addresses that are always the same, so there is one lab of them.
    _alone: Option<File>,
}

impl Lab {
    /// A bridge, a far end, and the package; no node yet. None, said aloud, where this machine cannot do it.
    pub fn open(number: u8) -> Result<Option<Self>> {
        Self::of(Kind::Containers, number)
    }

    /// The same with nodes of a kind.
    pub fn of(kind: Kind, number: u8) -> Result<Option<Self>> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return Ok(None);
        }
        for program in PROGRAMS.iter().chain(kind.programs()) {
            if let Err(error) = Command::new(program).arg("--version").output()
                && error.kind() == std::io::ErrorKind::NotFound
            {
                eprintln!("skipped: needs {program} (tests/install-needs.sh installs it)");
                return Ok(None);
            }
        }
        let image = said(kind.image()).context("build what the nodes boot")?;
        // Beside it, on a real file system: an overlay cannot lie on an overlay.
        let cache = Path::new(&image).parent().context("the image lies in a folder")?.to_owned();
        let id = std::process::id() % 200;
        let (mut subnet, mut alone) = (format!("10.{}.{number}", 50 + id), None);
        if kind == Kind::Machines {
            let file = File::create(cache.join("machines"))?;
            file.lock()?;
            (subnet, alone) = ("10.49.0".to_owned(), Some(file));
        }
        let dir = TempDir::with_prefix_in("run-", cache)?;
        for folder in ["deb", "spool"] {
            std::fs::create_dir(dir.path().join(folder))?;
        }
        let name = format!("msw{id}-{number}");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        said(node_script(kind, ["net", &name, &subnet]))
            .context("make the network; has the kernel bridge and nft?")?;
        let address = format!("{subnet}.1:0").parse()?;
        let sink = Sink::start(SinkOptions { address, ..SinkOptions::new(Arc::clone(&clock)) })?;
        let lab = Self { kind, name, subnet, dir, image, sink, clock, _alone: alone };
        lab.package(None)?;
        Ok(Some(lab))
    }

    /// Longest wait for anything. An emulated machine is slow.
    #[must_use]
    pub fn patience(&self) -> Duration {
        match self.kind {
            Kind::Containers | Kind::Bricks => PATIENCE,
            Kind::Machines => PATIENCE * 5,
        }
    }

    /// Builds the package of the programs of this build. Its name in the folder `/deb` of the nodes.
    pub fn package(&self, version: Option<&str>) -> Result<String> {
        let mut build = Command::new(script("ha-scripts/deb/build.sh"));
        if self.kind == Kind::Machines {
            build.env("MAILSWITCH_COMPRESSION", "none");
        }
        build.arg(crate::programs::build()?).arg(self.dir.path().join("deb"));
        if let Some(version) = version {
            build.env("MAILSWITCH_VERSION", version);
        }
        let path = PathBuf::from(said(build)?);
        let name = path.file_name().context("the package has a name")?.to_string_lossy().into_owned();
        Ok(format!("/deb/{name}"))
    }

    /// The queues of all nodes where these are containers, as this machine sees them.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// A copy of the queues as a node sees them. No owner may run.
    pub fn copy_spool(&self, node: &str) -> Result<PathBuf> {
        let copy = self.dir.path().join("copy");
        std::fs::create_dir(&copy)?;
        let mut from = self.script("run", node);
        from.args(["tar", "c", "--sparse", "-C", SPOOL, "."]).stdout(Stdio::piped());
        let mut from = from.spawn()?;
        let mut into = Command::new("tar");
        into.arg("x").arg("-C").arg(&copy).stdin(from.stdout.take().context("a pipe")?);
        ensure!(
            into.status()?.success() && from.wait()?.success(),
            "the queues of node {node} cannot be read"
        );
        Ok(copy)
    }

    /// A node's address.
    #[must_use]
    pub fn address(&self, node: &str) -> String {
        let last = match node {
            "a" => 11,
            "b" => 12,
            _ => 13,
        };
        format!("{}.{last}", self.subnet)
    }

    /// Every address of the lab.
    #[must_use]
    pub fn network(&self) -> String {
        format!("{}.0/24", self.subnet)
    }

    /// Boots a node, and returns when its systemd is up.
    pub fn up(&self, node: &str) -> Result<()> {
        let here = |folder: &str| self.dir.path().join(folder);
        let bind = |options: &str, from: &Path, to: &str| format!("--bind{options}={}:{to}", from.display());
        let mut command = self.script("up", node);
        command.args([&self.address(node), &self.image]);
        match self.kind {
            Kind::Containers => {
                command.args([bind("", &here("spool"), SPOOL), bind("-ro", &here("deb"), "/deb")]);
            }
            Kind::Bricks => {
                let brick = here(&format!("brick-{node}"));
                std::fs::create_dir_all(&brick)?;
                command.args([bind("", &brick, "/data"), bind("-ro", &here("deb"), "/deb")]);
                command.args(["--bind=/dev/fuse", "--capability=all"]);
            }
            Kind::Machines => {
                command.arg(here("deb"));
            }
        }
        said(command)?;
        if self.kind == Kind::Machines {
            self.run(node, "mkdir -p /deb && mount -o ro /dev/vdc /deb")?;
        }
        Ok(())
    }

    /// Boots a node, installs the package, configures it and starts its services.
    pub fn install(&self, node: &str, nodes: &str) -> Result<()> {
        self.up(node)?;
        self.serve(node, nodes)
    }

    /// Installs the package in a node that is up, configures it and starts its services.
    pub fn serve(&self, node: &str, nodes: &str) -> Result<()> {
        self.run(node, "dpkg -i /deb/*.deb 2>&1")?;
        self.configure(node, nodes)?;
        self.start(node, &format!("systemctl enable --now mailswitch.target switch@{node} heartbeatd 2>&1"))?;
        self.ready(node)
    }

    /// Writes a file in a node.
    pub fn write(&self, node: &str, path: &str, text: &str) -> Result<()> {
        // The shell ends the text at a line of its own.
        self.run(node, &format!("mkdir -p \"$(dirname {path})\" && cat >{path} <<'LAB'\n{text}\nLAB"))
            .map(drop)
    }

    /// Writes a node's configuration and key.
    pub fn configure(&self, node: &str, nodes: &str) -> Result<()> {
        let sink = self.sink.address();
        let text = format!(
            "cluster:\n  id: {CLUSTER}\n{nodes}node: {{ id: {node}, hostname: {node}.lab.test }}\n\
             listeners: [ {{ address: \"0.0.0.0:25\" }} ]\nhealth: {{ address: \"0.0.0.0:8025\" }}\n\
             relay: {{ trusted_networks: [ {}.0/24 ] }}\nroutes: [ {{ match: \"*\", next_hop: \"{sink}\" }} ]\n\
             retry: {{ first: 300ms, max: 300ms }}\nlauncher: systemd\n",
            self.subnet
        );
        self.write(node, "/etc/mailswitch/mailswitch.yaml", &text)?;
        let key = "07".repeat(32);
        self.run(
            node,
            &format!(
                "cd /etc/mailswitch && (umask 077; echo {key} > cluster.key) && chown mailswitch cluster.key"
            ),
        )
        .map(drop)
    }

    /// Runs `ha-scripts/install-pair` for a and b, with a stand-in for ssh that enters the nodes.
    pub fn install_pair(&self) -> Result<String> {
        let ssh = self.dir.path().join("ssh");
        let (node, dir) = (self.kind.script(), self.dir.path());
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
    pub fn ready(&self, node: &str) -> Result<()> {
        self.until(node, &format!("switchctl status --node {node} -o json"), "it is ready", |said| {
            said.contains("\"ready\":true")
        })
        .map(drop)
    }

    /// What a shell line in a node says; an error if it fails.
    pub fn run(&self, node: &str, line: &str) -> Result<String> {
        said(self.shell(node, line)).with_context(|| format!("node {node}: {line}"))
    }

    /// The same; if it fails, with what the node's services said.
    pub fn start(&self, node: &str, line: &str) -> Result<String> {
        let log = || said(self.shell(node, "journalctl --no-pager -n 60")).unwrap_or_default();
        self.run(node, line).with_context(log)
    }

    fn shell(&self, node: &str, line: &str) -> Command {
        let mut command = self.script("run", node);
        command.args(["sh", "-c", line]);
        command
    }

    /// Runs a line until what it says fits. A line that fails is run again.
    pub fn until(&self, node: &str, line: &str, what: &str, fits: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = self.clock.now() + self.patience();
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
    pub fn order(&self, verb: &str, node: &str) -> Result<()> {
        let command = match verb {
            "unplug" | "plug" | "cut" | "heal" => node_script(self.kind, [verb, &self.name, node]),
            _ => self.script(verb, node),
        };
        said(command).map(drop)
    }

    fn script(&self, verb: &str, node: &str) -> Command {
        let mut command = node_script(self.kind, [verb, &self.name]);
        command.arg(self.dir.path()).arg(node);
        command
    }

    /// Traffic of `total` messages to one node.
    pub fn load(&self, node: &str, run: &str, total: u64) -> Result<LoadRun> {
        let target = format!("{}:25", self.address(node)).parse()?;
        let rate = match self.kind {
            Kind::Containers | Kind::Bricks => 200,
            Kind::Machines => 20,
        };
        let load = Load { rate: Rate::PerSecond(rate), total: Some(total), ..Load::new(target, run) };
        Ok(load.start(Arc::clone(&self.clock)))
    }

    /// The far end puts all mail off, or takes it.
    pub fn put_off(&self, put_off: bool) {
        let mut behaviour = Behaviour::default();
        if put_off {
            behaviour.rules.push(Rule::at(Stage::Recipient).reply(451, "4.7.1 not now, try again"));
        }
        self.sink.behave(behaviour);
    }

    /// Waits until so many different messages are at the far end.
    pub async fn delivered(&self, messages: u64) -> Result<()> {
        let all = self.sink.wait_for(|tally| tally.probes >= messages, self.patience()).await;
        ensure!(all, "{} of {messages} messages are at the far end", self.sink.tally().probes);
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let mut command = node_script(self.kind, ["down", &self.name]);
        command.arg(self.dir.path());
        if let Err(error) = said(command) {
            eprintln!("{error:#}");
        }
    }
}

fn script(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn node_script<const N: usize>(kind: Kind, arguments: [&str; N]) -> Command {
    let mut command = Command::new(kind.script());
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
