//! A switch between the peers of a test and a sink that keeps everything.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rig::{Delivery, Dialogue, Sink, SinkOptions};
use tempfile::TempDir;
use tests::postfix::{free_address, open_to_all};

/// What the switch calls itself.
pub(crate) const NAME: &str = "mx.example.test";
/// Mail for it goes from the switch to the peer, and from the peer to the sink.
pub(crate) const TO_PEER: &str = "to-peer.test";
/// Mail for it goes from the peer to the switch, and from the switch to the sink.
pub(crate) const TO_SWITCH: &str = "to-switch.test";
/// Who may submit, with the password `secret`.
pub(crate) const USER: &str = "alice";

const PATIENCE: Duration = Duration::from_mins(1);

/// A server that somebody else wrote.
pub(crate) trait Peer {
    fn address(&self) -> SocketAddr;

    /// It passes `BODY=8BITMIME` on.
    fn declares_eight_bits(&self) -> bool;
}

pub(crate) struct Site {
    dir: TempDir,
    sink: Sink,
    address: SocketAddr,
    submission: SocketAddr,
    switch: Option<Child>,
}

impl Site {
    /// A sink, a certificate, and a place for the rest. Processes of other users can read it.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path()).unwrap();
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let clock = Arc::new(daemon_kit::clock::SystemClock);
        let sink = Sink::start(SinkOptions { keep_bytes_max: 64 << 20, ..SinkOptions::new(clock) }).unwrap();
        let (address, submission) = (free_address().unwrap(), free_address().unwrap());
        Self { dir, sink, address, submission, switch: None }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn submission(&self) -> SocketAddr {
        self.submission
    }

    pub(crate) fn sink_address(&self) -> SocketAddr {
        self.sink.address()
    }

    /// Starts the switch. `peer` takes the mail of one domain, under TLS unless it is the sink itself.
    pub(crate) async fn start(&mut self, peer: SocketAddr) {
        let asked = if peer == self.sink_address() { "tls: none" } else { "tls: encrypt" };
        self.start_with(peer, asked).await;
    }

    /// The same, with more of the route to the peer.
    pub(crate) async fn start_with(&mut self, peer: SocketAddr, route: &str) {
        let (address, submission, sink) = (self.address, self.submission, self.sink_address());
        let tls = "tls: { cert: cert.pem, key: key.pem }";
        let text = format!(
            "cluster: {{ id: demo }}\nnode: {{ id: a, state_dir: state, hostname: {NAME} }}\nqueue: {{ dir: queue }}\n\
             listeners:\n  - {{ address: \"{address}\", {tls} }}\n  - {{ address: \"{submission}\", kind: submission, {tls} }}\n\
             auth: {{ users: users, failure_delay: 0s }}\nrelay: {{ domains: [{TO_PEER}, {TO_SWITCH}] }}\nroutes:\n  \
             - {{ match: {TO_PEER}, next_hop: \"{peer}\", {route} }}\n  \
             - {{ match: {TO_SWITCH}, next_hop: \"{sink}\", tls: none }}\nlimits: {{ message_size: 50MiB }}\n"
        );
        let file = self.path().join("mailswitch.yaml");
        std::fs::write(&file, text).unwrap();
        let programs = tests::programs::build().unwrap();
        let mut user = Command::new(programs.join("switchctl"));
        user.arg("--config").arg(&file).args(["user", "add", &format!("{USER}@{TO_SWITCH}")]);
        let mut user = user.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        user.stdin.take().unwrap().write_all(b"secret\n").unwrap();
        assert!(user.wait().unwrap().success());
        let log = std::fs::File::create(self.path().join("switch-log")).unwrap();
        let mut switch = Command::new(programs.join("switch"));
        self.switch = Some(switch.args(["run", "--config"]).arg(&file).stderr(log).spawn().unwrap());
        self.greets(address, 220).await;
    }

    /// Waits until a server greets.
    pub(crate) async fn greets(&self, address: SocketAddr, code: u16) {
        for _ in 0..400 {
            if let Ok(mut client) = Dialogue::connect(address, PATIENCE).await
                && client.reply().await.is_ok_and(|greeting| greeting.code == code)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{address} does not greet:\n{}", self.logs());
    }

    /// Waits until the sink has so many messages for `recipient`.
    pub(crate) async fn count(&self, recipient: &str, wanted: usize) {
        let is_there = |_: &rig::SinkTally| {
            let mine = |delivery: &&Delivery| delivery.recipients == [recipient];
            self.sink.inspect(|all| all.iter().filter(mine).count() >= wanted)
        };
        assert!(self.sink.wait_for(is_there, PATIENCE).await, "{recipient} got nothing:\n{}", self.logs());
    }

    pub(crate) fn delivery(&self, recipient: &str) -> Delivery {
        let found = |all: &[Delivery]| all.iter().find(|one| one.recipients == [recipient]).cloned();
        self.sink.inspect(found).expect("it has come")
    }

    /// What stands above `content` in what came for `recipient`, which must be there to the octet.
    pub(crate) async fn header_above(&self, recipient: &str, content: &[u8]) -> String {
        self.count(recipient, 1).await;
        let whole = self.delivery(recipient).content.unwrap();
        let above = whole.strip_suffix(content).unwrap_or_else(|| {
            let behind = whole.len().saturating_sub(content.len());
            let differs = whole[behind..].iter().zip(content).position(|(came, sent)| came != sent);
            panic!("{recipient}: {} octets of {} came, differ at {differs:?}", whole.len(), content.len())
        });
        String::from_utf8_lossy(above).into_owned()
    }

    fn logs(&self) -> String {
        let text = |name| std::fs::read_to_string(self.path().join(name)).unwrap_or_default();
        ["switch-log", "log", "exim/mainlog", "exim/paniclog"].map(text).join("\n")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(switch) = &mut self.switch {
            switch.kill().ok();
            switch.wait().ok();
        }
    }
}
