//! A real keepalived in a network of its own, with the configuration that `switchctl lb snippet keepalived` prints: what its notify
//! script writes to the log when the address comes and goes.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daemon_kit::SystemClock;
use mail_model::Clock;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// The log is a socket of ours at /dev/log, the link a pair of ends; a line on standard input takes it down, another ends it all.
const SCRIPT: &str = r#"
set -e
mknod -m 666 "$1/dev/null" c 1 3
mount --bind "$1/dev" /dev
ip link add v0 type veth peer name v1
ip addr add 10.9.0.1/24 dev v0
ip link set lo up
ip link set v0 up
ip link set v1 up
"$2" -n -f "$1/keepalived.conf" -p "$1/p" -r "$1/v" -c "$1/c" --log-console >"$1/out" 2>&1 &
pid=$!
read -r _
ip link set v0 down
read -r _
kill "$pid"
wait "$pid" || true
"#;

pub(crate) struct Keepalived {
    process: Child,
    log: UnixDatagram,
    dir: TempDir,
}

impl Keepalived {
    /// `None` where it cannot be started.
    pub(crate) fn start(program: &Path, text: &str) -> Result<Option<Self>> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return Ok(None);
        }
        let dir = tempfile::tempdir()?;
        let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
        open(dir.path(), 0o755)?;
        std::fs::create_dir(dir.path().join("dev"))?;
        let log = UnixDatagram::bind(dir.path().join("dev/log"))?;
        open(&dir.path().join("dev/log"), 0o666)?;
        log.set_read_timeout(Some(Duration::from_millis(200)))?;
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ha-scripts/keepalived");
        let notify = dir.path().join("keepalived-notify");
        std::fs::copy(scripts.join("keepalived-notify"), &notify)?;
        open(&notify, 0o755)?;
        // No switch is in that network; whether one takes mail is asked in another test.
        let asked =
            text.lines().find(|line| line.trim_start().starts_with("script \"")).context("no check")?;
        let text = text
            .replace(asked, "    script \"/bin/true\"")
            .replace("interface eth0", "interface v0")
            .replace("/usr/lib/mailswitch/keepalived-notify", &notify.to_string_lossy());
        std::fs::write(dir.path().join("keepalived.conf"), text)?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "bash", "-c", SCRIPT, "bash"]).arg(dir.path()).arg(program);
        let process = command.process_group(0).stdin(Stdio::piped()).spawn()?;
        Ok(Some(Self { process, log, dir }))
    }

    /// Waits until the script wrote this state.
    pub(crate) fn told(&self, state: &str) -> Result<()> {
        let wanted = format!("address.state type=INSTANCE name=mailswitch state={state} priority=100");
        let (begun, mut seen) = (SystemClock.now(), Vec::new());
        let mut line = [0; 4096];
        while SystemClock.now().since(begun) < PATIENCE {
            let Ok(length) = self.log.recv(&mut line) else { continue };
            let text = String::from_utf8_lossy(line.get(..length).unwrap_or_default()).into_owned();
            if text.contains("mailswitch-address") && text.contains(&wanted) {
                return Ok(());
            }
            seen.push(text);
        }
        let out = std::fs::read_to_string(self.dir.path().join("out")).unwrap_or_default();
        bail!("never: {wanted}\n{}\n{out}", seen.join("\n"));
    }

    /// The next thing: the link goes down, then keepalived ends.
    pub(crate) fn go_on(&mut self) -> Result<()> {
        Ok(self.process.stdin.as_mut().context("its input")?.write_all(b"\n")?)
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap_or(i32::MAX));
        nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).ok();
        self.process.wait().ok();
    }
}
