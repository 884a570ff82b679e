//! A private Dovecot from Debian that only answers who users are, as Postfix asks it (SASL). It needs root, and leaves nothing behind.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Debian's.
const PROGRAM: &str = "/usr/sbin/dovecot";

/// One that runs. It is stopped when dropped.
#[derive(Debug)]
pub struct Dovecot(Child);

impl Dovecot {
    /// True where the package is.
    #[must_use]
    pub fn is_there() -> bool {
        Path::new(PROGRAM).is_file()
    }

    /// Starts one that listens at the socket `auth` below `dir` and knows `user` by the password `secret`.
    pub fn start(dir: &Path, user: &str) -> Result<Self> {
        let shown = dir.display();
        let text = format!(
            "protocols =\nbase_dir = {shown}/run\nstate_dir = {shown}/state\nlog_path = {shown}/dovecot-log\nssl = no\n\
             auth_mechanisms = plain login scram-sha-256\ndefault_internal_user = nobody\ndefault_login_user = nobody\n\
             default_internal_group = nogroup\npassdb {{\n driver = passwd-file\n args = {shown}/dovecot-users\n}}\n\
             userdb {{\n driver = passwd-file\n args = {shown}/dovecot-users\n}}\n\
             auth_failure_delay = 0\nservice anvil {{\n unix_listener anvil-auth-penalty {{\n mode = 0\n }}\n}}\n\
             service auth {{\n unix_listener {shown}/auth {{\n mode = 0666\n }}\n}}\n"
        );
        fs::write(dir.join("dovecot-users"), format!("{user}:{{PLAIN}}secret:65534:65534::/nonexistent\n"))?;
        fs::write(dir.join("dovecot.conf"), text)?;
        let mut command = Command::new(PROGRAM);
        command.args(["-F", "-c"]).arg(dir.join("dovecot.conf")).stderr(Stdio::null());
        let dovecot = Self(command.spawn().context("start Dovecot")?);
        for _ in 0..400 {
            if UnixStream::connect(dir.join("auth")).is_ok() {
                return Ok(dovecot);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("Dovecot does not listen")
    }

    /// False if it ended.
    pub fn lives(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // Its own children end with it only if it is told.
        let pid = i32::try_from(self.0.id()).map(nix::unistd::Pid::from_raw);
        pid.map(|pid| nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok()).ok();
        self.0.wait().ok();
    }
}
