//! The servers that are asked: a `switch`, and a private Postfix. Both relay for example.test and for nobody else, take
//! 1,000,000 octets, 1,000 recipients and any number of errors, and deliver nothing.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) is_postfix: bool,
    dir: TempDir,
    child: Option<Child>,
}

fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn certificate(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["mx.example.test".to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

impl Server {
    pub(crate) async fn switch() -> Self {
        let programs = tests::programs::build().unwrap();
        let (dir, address) = (tempfile::tempdir().unwrap(), free_port());
        certificate(dir.path());
        let nowhere = free_port();
        let text = format!(
            "cluster: {{ id: demo }}\nnode: {{ id: a, state_dir: state, hostname: mx.example.test }}\nqueue: {{ dir: spool }}\n\
             listeners:\n  - address: {address}\n    tls: {{ cert: cert.pem, key: key.pem }}\n\
             relay: {{ domains: [example.test] }}\nroutes: [ {{ match: \"*\", next_hop: \"{nowhere}\" }} ]\n\
             limits: {{ message_size: 1000000B, recipients: 1000, errors: 10000, tarpit: 0s, connections_per_client: 1000 }}\n"
        );
        let file = dir.path().join("mailswitch.yaml");
        fs::write(&file, text).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child =
            Command::new(programs.join("switch")).args(["run", "--config"]).arg(&file).stderr(log).spawn();
        let server = Self { address, is_postfix: false, dir, child: Some(child.unwrap()) };
        server.ready().await;
        server
    }

    /// `None` where it cannot be started.
    pub(crate) async fn postfix() -> Option<Self> {
        if !Path::new("/usr/sbin/postfix").is_file() || !nix::unistd::geteuid().is_root() {
            return None;
        }
        let (dir, address) = (tempfile::tempdir().unwrap(), free_port());
        let path = dir.path();
        // Its processes run as another user and must pass through.
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for part in ["conf", "spool", "data"] {
            fs::create_dir_all(path.join(part)).unwrap();
        }
        certificate(path);
        let owner = nix::unistd::User::from_name("postfix").unwrap()?;
        nix::unistd::chown(&path.join("data"), Some(owner.uid), None).unwrap();
        fs::write(path.join("conf/main.cf"), main_cf(path)).unwrap();
        fs::write(path.join("conf/master.cf"), master_cf(address)).unwrap();
        let server = Self { address, is_postfix: true, dir, child: None };
        server.order("start");
        server.ready().await;
        Some(server)
    }

    fn order(&self, verb: &str) {
        let mut command = Command::new("/usr/sbin/postfix");
        command.arg("-c").arg(self.dir.path().join("conf")).arg(verb);
        let status =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success() || verb != "start", "postfix does not start");
    }

    async fn ready(&self) {
        for _ in 0..400 {
            if let Ok(mut client) = rig::Dialogue::connect(self.address, Duration::from_secs(20)).await
                && client.reply().await.is_ok_and(|greeting| greeting.code == 220)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} does not greet: {}", self.address, self.log());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn lives(&mut self) -> bool {
        let runs = self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_none());
        runs && TcpStream::connect(self.address).is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.child {
            Some(child) => {
                child.kill().ok();
                child.wait().ok();
            }
            None => self.order("abort"),
        }
    }
}

fn main_cf(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "compatibility_level = 3.6\nqueue_directory = {dir}/spool\ndata_directory = {dir}/data\nmaillog_file = {dir}/log\n\
         maillog_file_prefixes = /\nmyhostname = mx.example.test\nmydestination =\nlocal_recipient_maps =\nalias_maps =\n\
         alias_database =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 192.0.2.0/24\n\
         relay_domains = example.test\nsmtpd_relay_restrictions = reject_unauth_destination\nsmtpd_peername_lookup = no\n\
         smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {dir}/cert.pem\nsmtpd_tls_key_file = {dir}/key.pem\n\
         smtpd_client_connection_count_limit = 0\nsmtpd_soft_error_limit = 10000\nsmtpd_hard_error_limit = 10000\n\
         smtpd_error_sleep_time = 0\nmessage_size_limit = 1000000\nsmtpd_recipient_limit = 1000\n\
         smtpd_recipient_overshoot_limit = 10000\nsmtpd_discard_ehlo_keywords =\ndefault_transport = discard:\n\
         relay_transport = discard:\nsmtputf8_enable = yes\nin_flow_delay = 0\nsmtpd_junk_command_limit = 10000\n"
    )
}

fn master_cf(smtp: SocketAddr) -> String {
    format!(
        "{smtp} inet n - n - - smtpd\nqmgr unix n - n 300 1 qmgr\npickup unix n - n 60 1 pickup\n\
         cleanup unix n - n - 0 cleanup\nrewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\nproxymap unix - - n - - proxymap\n\
         error unix - - n - - error\nretry unix - - n - - error\ndiscard unix - - n - - discard\n\
         anvil unix - - n - 1 anvil\ntlsmgr unix - - n 1000? 1 tlsmgr\npostlog unix-dgram n - n - 1 postlogd\n"
    )
}
