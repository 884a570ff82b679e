//! An Exim as relay beside a switch. Debian has one mail server on a machine, so its package lies unpacked in a folder of its own
//! (`tests/install-needs.sh`), and the user that it wants is there for its process alone.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::free;
use super::site::{Peer, Site, TO_PEER, TO_SWITCH};

const PROGRAM: &str = "/var/cache/mailswitch-tests/exim/usr/sbin/exim4";

pub(crate) struct Exim {
    address: SocketAddr,
    child: Child,
}

impl Exim {
    /// `None` where it cannot be started.
    pub(crate) fn start(site: &Site) -> Option<Self> {
        if !Path::new(PROGRAM).is_file() || !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root and exim, see tests/install-needs.sh");
            return None;
        }
        let (address, dir) = (free(), site.path());
        let folder = dir.join("exim");
        std::fs::create_dir(&folder).unwrap();
        nix::unistd::chown(&folder, Some(65_534.into()), Some(65_534.into())).unwrap();
        for (file, line) in [
            ("passwd", "Debian-exim:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"),
            ("group", "Debian-exim:x:65534:\n"),
        ] {
            let known = std::fs::read_to_string(Path::new("/etc").join(file)).unwrap();
            std::fs::write(dir.join(file), format!("{}\n{line}", known.trim_end())).unwrap();
        }
        std::fs::write(dir.join("exim.conf"), configuration(site, address)).unwrap();
        let script = "mount --bind \"$1/passwd\" /etc/passwd && mount --bind \"$1/group\" /etc/group && \
                      exec \"$2\" -C \"$1/exim.conf\" -bdf";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(dir).arg(PROGRAM);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Some(Self { address, child })
    }
}

fn configuration(site: &Site, address: SocketAddr) -> String {
    let (dir, ip, port) = (site.path().display(), address.ip(), address.port());
    let server = |address: SocketAddr| format!("{}::{}", address.ip(), address.port());
    let (sink, switch) = (server(site.sink_address()), server(site.address()));
    format!(
        "exim_user = nobody\nexim_group = nogroup\nprimary_hostname = exim.example.test\nspool_directory = {dir}/exim\n\
         log_file_path = {dir}/exim/%slog\npid_file_path = {dir}/exim/pid\nlocal_interfaces = {ip}\ndaemon_smtp_ports = {port}\n\
         tls_advertise_hosts = *\ntls_certificate = {dir}/cert.pem\ntls_privatekey = {dir}/key.pem\nmessage_size_limit = 50M\n\
         smtputf8_advertise_hosts = *\naccept_8bitmime = true\nacl_smtp_rcpt = take\nhost_lookup =\nrfc1413_query_timeout = 0s\n\
         deliver_drop_privilege = true\nnever_users =\nkeep_environment =\ncheck_spool_space = 0\ncheck_spool_inodes = 0\n\
         begin acl\ntake:\n  accept\n\
         begin routers\nsink:\n  driver = manualroute\n  route_list = {TO_PEER} {sink}\n  self = send\n  transport = clear\n\
         switch:\n  driver = manualroute\n  route_list = {TO_SWITCH} {switch}\n  self = send\n  transport = secured\n\
         begin transports\n\
         clear:\n  driver = smtp\n  allow_localhost = true\n  hosts_try_dane =\n  dnssec_request_domains =\n\
         secured:\n  driver = smtp\n  allow_localhost = true\n  hosts_try_dane =\n  dnssec_request_domains =\n  hosts_require_tls = *\n  \
         tls_verify_certificates = {dir}/cert.pem\n  tls_verify_cert_hostnames =\n\
         begin retry\n* * F,1h,1s\n"
    )
}

impl Peer for Exim {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn declares_eight_bits(&self) -> bool {
        false
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
