//! A real DNS server on loopback with zones of a test: unbound, from Debian.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lookup::Resolver;
use mail_model::Domain;
use routing::mx::AddressOrder;
use settings::DnsSettings;
use tempfile::TempDir;

use crate::site::PATIENCE;

const PROGRAM: &str = "/usr/sbin/unbound";

/// Everything below `test.`; below `down.test` it answers nothing.
const HEAD: &str = "$ORIGIN test.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 30\n@ NS ns\nns A 127.0.0.1\n\
                    up A 127.0.0.1\n";

#[derive(Debug)]
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    dir: TempDir,
    child: Child,
    /// Whose public key is the trust anchor, if the zone is signed.
    key: Option<String>,
}

impl NameServer {
    /// Answers with these records below `test.`. `None` without the program.
    pub(crate) async fn start(zone: &str) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            eprintln!("skipped: needs unbound");
            return None;
        }
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let child = launch(dir.path(), address, zone, None);
        let mut server = Self { address, dir, child, key: None };
        if !server.answers().await {
            server.restart(zone).await;
        }
        Some(server)
    }

    /// The same, the zone signed, and validated. `plain.example` beside it is not signed, and has these records.
    pub(crate) async fn start_signed(zone: &str, plain: &str) -> Option<Self> {
        let mut server = Self::start(zone).await?;
        let tool = |arguments: &[&str], program: &str| {
            let done = Command::new(program).current_dir(server.dir.path()).args(arguments).output();
            done.ok().filter(|done| done.status.success()).map(|done| done.stdout)
        };
        let key = tool(&["-a", "ECDSAP256SHA256", "-k", "test"], "ldns-keygen");
        let Some(key) = key.map(|key| String::from_utf8(key).unwrap().trim().to_owned()) else {
            eprintln!("skipped: needs ldnsutils");
            return None;
        };
        let plain = format!(
            "$ORIGIN plain.example.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 30\n@ NS ns\n{plain}"
        );
        std::fs::write(server.dir.path().join("plain"), plain).unwrap();
        server.key = Some(key);
        server.restart(zone).await;
        Some(server)
    }

    /// The same server with other records. It has forgotten every answer.
    pub(crate) async fn restart(&mut self, zone: &str) {
        self.stop();
        // Its port may be that of somebody's connection at the moment it starts.
        for turn in 0.. {
            assert!(turn < 20, "unbound ends again and again: {}", self.log());
            self.child = launch(self.dir.path(), self.address, zone, self.key.as_deref());
            if self.answers().await {
                return;
            }
        }
    }

    pub(crate) fn stop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// What a switch is told to ask it.
    pub(crate) fn settings(&self) -> DnsSettings {
        DnsSettings {
            servers: vec![self.address],
            timeout: PATIENCE / 20,
            trust_ad: self.key.is_some(),
            addresses: AddressOrder::default(),
            mx_port: 25,
            sts_port: 443,
            own: routing::mx::Own::default(),
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// False if it ended instead.
    async fn answers(&mut self) -> bool {
        let clock = crate::site::clock();
        let deadline = clock.now() + PATIENCE;
        let up = Domain::new("up.test").unwrap();
        loop {
            let resolver = Resolver::new(&self.settings()).unwrap();
            if resolver.addresses(&up).await.is_ok_and(|answer| !answer.value.is_empty()) {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(clock.now() < deadline, "unbound never answers: {}", self.log());
            tokio::time::sleep(PATIENCE / 400).await;
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn launch(dir: &Path, address: SocketAddr, zone: &str, key: Option<&str>) -> Child {
    let folder = dir.display();
    let port = address.port();
    std::fs::write(dir.join("zone"), format!("{HEAD}{zone}")).unwrap();
    let mut modules = "iterator".to_owned();
    let mut file = "zone";
    let mut more = String::new();
    if let Some(key) = key {
        let mut sign = Command::new("ldns-signzone");
        assert!(sign.current_dir(dir).args(["-o", "test", "zone", key]).status().unwrap().success());
        modules = format!("validator iterator\"\n trust-anchor-file: \"{key}.key");
        file = "zone.signed";
        more.push_str("auth-zone:\n name: \"plain.example.\"\n zonefile: \"plain\"\n for-downstream: no\n for-upstream: yes\n");
    }
    let config = format!(
        "server:\n directory: \"{folder}\"\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n use-syslog: no\n \
         do-daemonize: no\n interface: 127.0.0.1\n port: {port}\n do-not-query-localhost: no\n \
         access-control: 127.0.0.0/8 allow\n module-config: \"{modules}\"\n local-zone: \"test.\" nodefault\n \
         local-zone: \"down.test.\" always_refuse\n \
         local-zone: \"_tcp.silent.test.\" always_refuse\n\
         auth-zone:\n name: \"test.\"\n zonefile: \"{file}\"\n for-downstream: no\n for-upstream: yes\n{more}\
         remote-control:\n control-enable: no\n"
    );
    std::fs::write(dir.join("unbound.conf"), config).unwrap();
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("-d").arg("-c").arg(dir.join("unbound.conf")).stdin(Stdio::null()).stderr(log);
    command.spawn().unwrap()
}

#[tokio::test]
async fn an_answer_is_kept_as_long_as_its_record_allows_and_no_longer() {
    let Some(mut server) = NameServer::start("kept 3 A 127.0.0.1\ngone 3 MX 0 up\n").await else { return };
    let resolver = Resolver::new(&server.settings()).unwrap();
    let kept = Domain::new("kept.test").unwrap();
    let first = resolver.addresses(&kept).await.unwrap().value;
    assert_eq!(first, ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    server.stop();
    assert_eq!(resolver.addresses(&kept).await.unwrap().value, first, "asked again too early");
    server.restart("kept 3 A 127.0.0.2\n").await;
    let clock = crate::site::clock();
    let deadline = clock.now() + PATIENCE;
    while resolver.addresses(&kept).await.unwrap().value == first {
        assert!(clock.now() < deadline, "kept for too long");
        tokio::time::sleep(PATIENCE / 100).await;
    }
}

#[tokio::test]
async fn the_lack_of_a_record_is_an_answer_and_silence_is_none() {
    let zone =
        "some TXT \"a\" \"b\"\nalias CNAME some\nloop1 CNAME loop2\nloop2 CNAME loop1\nlost CNAME gone\n";
    let Some(mut server) = NameServer::start(zone).await else { return };
    let resolver = Resolver::new(&server.settings()).unwrap();
    let texts = async |name: &str| resolver.texts(name).await.map(|answer| answer.value);
    for name in ["some.test", "alias.test"] {
        assert_eq!(texts(name).await, Ok(lookup::Found::Data(vec!["ab".to_owned()])), "{name}");
    }
    assert_eq!(texts("up.test").await, Ok(lookup::Found::NoData));
    for name in ["none.test", "lost.test", "no..name", &"x".repeat(300)] {
        assert_eq!(texts(name).await, Ok(lookup::Found::NoName), "{name}");
    }
    for name in ["x.down.test", "loop1.test"] {
        assert!(texts(name).await.is_err(), "{name}");
    }
    server.stop();
    assert!(texts("other.test").await.is_err());
}
