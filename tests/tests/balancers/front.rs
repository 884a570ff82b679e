//! A balancer from Debian, started with what was printed for it.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use daemon_kit::SystemClock;
use mail_model::{Clock, Moment};

use crate::nodes::{Nodes, until};

/// A running balancer.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    stats: PathBuf,
    process: Child,
}

impl Front {
    /// The program, or none, said aloud.
    pub(crate) fn program(name: &str) -> Option<PathBuf> {
        let places = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"];
        let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file());
        if found.is_none() {
            eprintln!("skipped: needs {name} (tests/install-needs.sh installs it)");
        }
        found
    }

    /// HAProxy with the printed file, and `global` in a file of its own.
    pub(crate) fn haproxy(program: &Path, nodes: &Nodes) -> Result<Self> {
        let (printed, own) = (nodes.dir().join("printed.cfg"), nodes.dir().join("global.cfg"));
        std::fs::write(&printed, nodes.snippet("haproxy")?)?;
        let stats = nodes.dir().join("haproxy.sock");
        std::fs::write(&own, format!("global\n    stats socket {}\n", stats.display()))?;
        let check = Command::new(program).arg("-c").arg("-f").arg(&own).arg("-f").arg(&printed).output()?;
        ensure!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        let complaints = String::from_utf8_lossy(&check.stderr).into_owned();
        ensure!(!complaints.contains("[WARNING]"), "{complaints}");
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&own).arg("-f").arg(&printed);
        Self::start(command, nodes, stats)
    }

    /// nginx with the printed block in a file that has nothing else of weight. None where it lacks the module.
    pub(crate) fn nginx(program: &Path, nodes: &Nodes) -> Result<Option<Self>> {
        let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
        if !module.is_file() {
            eprintln!("skipped: needs libnginx-mod-stream (tests/install-needs.sh installs it)");
            return Ok(None);
        }
        let (printed, whole) = (nodes.dir().join("printed.conf"), nodes.dir().join("nginx.conf"));
        std::fs::write(&printed, nodes.snippet("nginx")?)?;
        let dir = nodes.dir().display();
        std::fs::write(
            &whole,
            format!(
                "load_module {};\ndaemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx.log;\n\
                 events {{ }}\ninclude {};\n",
                module.display(),
                printed.display()
            ),
        )?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&whole).arg("-p").arg(nodes.dir());
        Self::start(command, nodes, PathBuf::new()).map(Some)
    }

    /// Fails if keepalived does not understand it. The interface and the scripts of the printed file are not here.
    pub(crate) fn keepalived_reads(program: &Path, text: &str) -> Result<()> {
        let mut interfaces = std::fs::read_dir("/sys/class/net")?.flatten().map(|entry| entry.file_name());
        let Some(interface) = interfaces.find(|name| name != "lo") else {
            eprintln!("skipped: needs a network interface besides lo");
            return Ok(());
        };
        let dir = tempfile::tempdir()?;
        let scripts =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../ha-scripts/keepalived").canonicalize()?;
        let file = dir.path().join("keepalived.conf");
        let text = text.replace("interface eth0", &format!("interface {}", interface.to_string_lossy()));
        std::fs::write(&file, text.replace("/usr/lib/mailswitch", &scripts.to_string_lossy()))?;
        let mut command = Command::new(program);
        let output = command.process_group(0).args(["--config-test", "--use-file"]).arg(&file).output()?;
        let said = [output.stdout, output.stderr].concat();
        // Version 2.2 ends its own group with SIGTERM after a file that it likes; one that it does not like it tells of.
        let ended = output.status.success() || output.status.signal() == Some(15);
        ensure!(ended && said.is_empty(), "{}: {}", output.status, String::from_utf8_lossy(&said));
        Ok(())
    }

    /// The exit code of a script for keepalived.
    pub(crate) fn script(name: &str, arguments: &[&str]) -> Result<i32> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ha-scripts/keepalived").join(name);
        let status = Command::new(script).args(arguments).stderr(Stdio::null()).status()?;
        status.code().context("it was killed")
    }

    fn start(mut command: Command, nodes: &Nodes, stats: PathBuf) -> Result<Self> {
        let log = std::fs::File::create(nodes.dir().join("front.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().context("start the balancer")?;
        let front = Self { address: nodes.front(), stats, process };
        until("the balancer listens", || std::net::TcpStream::connect(front.address).is_ok())?;
        Ok(front)
    }

    /// Waits until HAProxy says this of a node (words with `|` between); when it did.
    pub(crate) fn state(&self, node: &str, wanted: &str) -> Result<Moment> {
        let mut last = String::new();
        let reached = until(&format!("node {node} is {wanted}"), || {
            last = self.stats(node, "status").unwrap_or_default();
            wanted.split('|').any(|word| last == word || last.starts_with(&format!("{word} ")))
        });
        reached.with_context(|| format!("it is {last}"))?;
        Ok(SystemClock.now())
    }

    /// What HAProxy's statistics say of a node in a column.
    pub(crate) fn stats(&self, node: &str, column: &str) -> Result<String> {
        let mut stream = UnixStream::connect(&self.stats)?;
        stream.write_all(b"show stat\n")?;
        let mut table = String::new();
        stream.read_to_string(&mut table)?;
        let columns: Vec<&str> = table.lines().next().context("a header")?.split(',').collect();
        let place = columns.iter().position(|name| *name == column).context("the column")?;
        let row = table.lines().find(|row| row.split(',').nth(1) == Some(node)).context("the server")?;
        Ok(row.split(',').nth(place).context("its value")?.to_owned())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
