//! A private Postfix from Debian, for tests that want a peer that somebody else wrote. It needs root, and leaves nothing behind.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use nix::unistd::{User, chown, geteuid};

/// One that runs. It is stopped when dropped.
#[derive(Debug)]
pub struct Postfix {
    configuration: PathBuf,
}

/// Services that each has.
const MASTER: &str = "qmgr unix n - n 300 1 qmgr\npickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\n\
    rewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\n\
    trace unix - - n - 0 bounce\nproxymap unix - - n - - proxymap\nerror unix - - n - - error\n\
    retry unix - - n - - error\ndiscard unix - - n - - discard\nsmtp unix - - n - - smtp\nanvil unix - - n - 1 anvil\n\
    tlsmgr unix - - n 1000? 1 tlsmgr\npostlog unix-dgram n - n - 1 postlogd\n";

impl Postfix {
    /// Starts one below `dir`, which its processes must be able to enter. It has no domains of its own and logs to `dir/log`;
    /// `main` adds to main.cf, `master` to master.cf. `None` where it cannot be started.
    pub fn start(dir: &Path, main: &str, master: &str) -> Result<Option<Self>> {
        if !Path::new("/usr/sbin/postfix").is_file() || !geteuid().is_root() {
            return Ok(None);
        }
        let configuration = dir.join("conf");
        for part in ["conf", "spool", "data"] {
            fs::create_dir_all(dir.join(part)).context("make its folders")?;
        }
        let owner = User::from_name("postfix")?.context("Debian's package makes the user postfix")?;
        chown(&dir.join("data"), Some(owner.uid), None)?;
        let shown = dir.display();
        let common = format!(
            "compatibility_level = 3.6\nqueue_directory = {shown}/spool\ndata_directory = {shown}/data\n\
             maillog_file = {shown}/log\nmaillog_file_prefixes = /\nmydestination =\nlocal_recipient_maps =\nalias_maps =\n\
             alias_database =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nsmtpd_peername_lookup = no\n\
             smtputf8_enable = yes\nin_flow_delay = 0\n"
        );
        fs::write(configuration.join("main.cf"), common + main)?;
        fs::write(configuration.join("master.cf"), format!("{master}{MASTER}"))?;
        let postfix = Self { configuration };
        ensure!(postfix.order("start")?.success(), "postfix does not start");
        Ok(Some(postfix))
    }

    fn order(&self, verb: &str) -> Result<ExitStatus> {
        let mut command = Command::new("/usr/sbin/postfix");
        command.arg("-c").arg(&self.configuration).arg(verb);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?)
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.order("abort").ok();
    }
}

/// An address of this machine that nobody listens at.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Lets processes of other users enter `dir`.
pub fn open_to_all(dir: &Path) -> Result<()> {
    Ok(fs::set_permissions(dir, Permissions::from_mode(0o755))?)
}
