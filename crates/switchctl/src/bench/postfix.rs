//! Debian's Postfix with a configuration, a queue and ports of its own, set up for speed: no limit per client, many
//! processes, many connections to the next hop, no DNS, no TLS. It never touches the system's own instance.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};

use super::work::Delivery;
use crate::demo::site::free_tcp;

const PROGRAM: &str = "/usr/sbin/postfix";
/// How long it may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running Postfix.
#[derive(Debug)]
pub(crate) struct Postfix {
    pub(crate) smtp: SocketAddr,
    pub(crate) pid: u32,
    config: PathBuf,
}

/// Why Postfix cannot be measured here, if it cannot.
pub(crate) fn missing() -> Option<&'static str> {
    if !Path::new(PROGRAM).is_file() {
        return Some("Postfix is not installed (apt-get install postfix)");
    }
    (!nix::unistd::geteuid().is_root()).then_some("Postfix can only be started by root")
}

/// Its version, as it says it.
pub(crate) fn version() -> Option<String> {
    let asked = Command::new("/usr/sbin/postconf").args(["-d", "-h", "mail_version"]).output().ok()?;
    asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).trim().to_owned())
}

impl Postfix {
    pub(crate) fn start(dir: &Path, delivery: Delivery) -> Result<Self> {
        let smtp = free_tcp()?;
        let config = dir.join("conf");
        for part in ["conf", "spool", "data"] {
            let part = dir.join(part);
            fs::create_dir_all(&part).with_context(|| format!("make {}", part.display()))?;
        }
        let owner = nix::unistd::User::from_name("postfix").context("look the user postfix up")?;
        let owner = owner.context("there is no user postfix")?;
        nix::unistd::chown(&dir.join("data"), Some(owner.uid), None).context("give data to postfix")?;
        fs::write(config.join("main.cf"), main_cf(dir, delivery)).context("write main.cf")?;
        fs::write(config.join("master.cf"), master_cf(smtp, delivery)).context("write master.cf")?;
        postfix(&config, "start")?;
        let pid_file = dir.join("spool/pid/master.pid");
        let pid = fs::read_to_string(&pid_file).with_context(|| format!("read {}", pid_file.display()))?;
        let pid = pid.trim().parse().with_context(|| format!("{} holds no number", pid_file.display()))?;
        Ok(Self { smtp, pid, config })
    }

    pub(crate) async fn stop(self) -> Result<()> {
        postfix(&self.config, "stop")?;
        let process = PathBuf::from(format!("/proc/{}", self.pid));
        let deadline = Instant::now() + PATIENCE;
        while process.exists() {
            if Instant::now() > deadline {
                bail!("Postfix does not end");
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // Stopped already, mostly; a benchmark that breaks off leaves nothing running.
        if Path::new(&format!("/proc/{}", self.pid)).exists() {
            postfix(&self.config, "abort").ok();
        }
    }
}

fn postfix(config: &Path, verb: &str) -> Result<()> {
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(config).arg(verb).stdin(Stdio::null());
    // What it starts keeps its standard error open, so it must not be a pipe that is read to its end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().with_context(|| format!("run postfix {verb}"))?;
    if !status.success() {
        bail!("postfix -c {} {verb}: {status}", config.display());
    }
    Ok(())
}

fn main_cf(dir: &Path, delivery: Delivery) -> String {
    let dir_shown = dir.display();
    let parent = dir.parent().unwrap_or(dir).display();
    let relayhost = match delivery {
        Delivery::To(sink) | Delivery::Beside(sink) => format!("[{}]:{}", sink.ip(), sink.port()),
        Delivery::Held => "[127.0.0.1]:9".to_owned(),
    };
    format!(
        "compatibility_level = 3.6\n\
         queue_directory = {dir_shown}/spool\n\
         data_directory = {dir_shown}/data\n\
         maillog_file = {dir_shown}/mail.log\n\
         maillog_file_prefixes = {parent}\n\
         myhostname = bench.test\n\
         mydestination =\n\
         local_recipient_maps =\n\
         alias_maps =\n\
         alias_database =\n\
         inet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\n\
         relay_domains =\n\
         smtpd_relay_restrictions = permit_mynetworks, reject\n\
         smtpd_peername_lookup = no\n\
         smtpd_tls_security_level = none\n\
         smtp_tls_security_level = none\n\
         smtpd_client_connection_count_limit = 0\n\
         in_flow_delay = 0\n\
         default_process_limit = 200\n\
         default_destination_concurrency_limit = 50\n\
         initial_destination_concurrency = 50\n\
         smtp_dns_support_level = disabled\n\
         relayhost = {relayhost}\n"
    )
}

/// Mail stays in the queue where no queue manager is there to look at it: that costs the least.
fn master_cf(smtp: SocketAddr, delivery: Delivery) -> String {
    let manager = match delivery {
        Delivery::To(_) | Delivery::Beside(_) => "qmgr unix n - n 300 1 qmgr\n",
        Delivery::Held => "",
    };
    format!(
        "{smtp} inet n - n - - smtpd\n{manager}\
         pickup unix n - n 60 1 pickup\n\
         cleanup unix n - n - 0 cleanup\n\
         rewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\n\
         verify unix - - n - 1 verify\n\
         flush unix n - n 1000? 0 flush\n\
         proxymap unix - - n - - proxymap\n\
         smtp unix - - n - - smtp\n\
         relay unix - - n - - smtp\n\
         showq unix n - n - - showq\n\
         error unix - - n - - error\n\
         retry unix - - n - - error\n\
         discard unix - - n - - discard\n\
         anvil unix - - n - 1 anvil\n\
         scache unix - - n - 1 scache\n\
         postlog unix-dgram n - n - 1 postlogd\n"
    )
}
