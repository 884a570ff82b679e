//! A site for real heartbeatds: folders, configurations, leases written by the test, and a `switch` that is a script.

use std::fmt::Write;
use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use control::client::CallError;
use control::heartbeatd::{Answer, HeartbeatdStatus, Request};
use daemon_kit::SystemClock;
use mail_model::{
    BootId, Clock, Epoch, InstanceId, LeaseState, Moment, NodeId, QueueId, Reason, Role, SegmentId, WallTime,
};
use queue_format::lease::{Claim, LEASE_LEN, RENEW_OFFSET, Renewal, SECTOR_LEN};
use tempfile::TempDir;

/// What must happen happens within this time, on a loaded machine too.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) nodes: Vec<(String, u16)>,
    pub(crate) window: &'static str,
    /// More lines of every configuration.
    pub(crate) more: String,
    /// Where node `w`, if there is one, is asked as the witness.
    pub(crate) witness: Option<SocketAddr>,
}

/// Notes its command line, and says so when it is asked to end.
const SWITCH: &str = "#!/bin/sh\n\
    echo \"$@\" >> \"$(dirname \"$0\")/started\"\n\
    trap 'echo ended >> \"$(dirname \"$0\")/started\"; exit 0' TERM\n\
    while :; do sleep 0.05; done\n";

impl Site {
    pub(crate) fn of(names: &[&str], window: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Held together, so that no port comes twice.
        let sockets: Vec<UdpSocket> = names.iter().map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
        let nodes = names.iter().zip(&sockets).map(|(name, s)| ((*name).to_owned(), port(s))).collect();
        let site = Self { dir, nodes, window, more: String::new(), witness: None };
        fs::write(site.path("cluster.key"), format!("{}\n", "07".repeat(32))).unwrap();
        fs::set_permissions(site.path("cluster.key"), fs::Permissions::from_mode(0o600)).unwrap();
        for name in names {
            fs::create_dir_all(site.path(&format!("bin-{name}"))).unwrap();
            let program = site.path(&format!("bin-{name}/heartbeatd"));
            if fs::hard_link(env!("CARGO_BIN_EXE_heartbeatd"), &program).is_err() {
                fs::copy(env!("CARGO_BIN_EXE_heartbeatd"), &program).unwrap();
            }
            let script = site.path(&format!("bin-{name}/switch"));
            fs::write(&script, SWITCH).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            site.configure(name);
        }
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.yaml"))
    }

    pub(crate) fn configure(&self, name: &str) {
        fs::write(self.config(name), self.yaml(name)).unwrap();
    }

    fn yaml(&self, name: &str) -> String {
        let mut text = "cluster:\n  id: test\n".to_owned();
        if self.nodes.len() > 1 {
            text.push_str("  nodes:\n");
            for (node, port) in &self.nodes {
                let witness = self.witness.filter(|_| node == "w");
                let more =
                    witness.map_or_else(String::new, |at| format!(", control: \"{at}\", witness: true"));
                writeln!(text, "    - {{ id: {node}, heartbeat: [\"127.0.0.1:{port}\"]{more} }}").unwrap();
            }
            writeln!(text, "  key_file: cluster.key\n  takeover: {{ window: {} }}", self.window).unwrap();
        }
        writeln!(
            text,
            "node: {{ id: {name}, state_dir: state/{name} }}\nqueue: {{ dir: spool, storage: shared }}\n\
             listeners: [ {{ address: \"127.0.0.1:1\" }} ]\n\
             routes: [ {{ match: \"*\", next_hop: \"127.0.0.1:1\" }} ]\n{}",
            self.more
        )
        .unwrap();
        text
    }

    pub(crate) fn start(&self, name: &str) -> Node {
        self.start_with(name, |_| {})
    }

    /// With another environment.
    pub(crate) fn start_with(&self, name: &str, change: impl FnOnce(&mut Command)) -> Node {
        let log =
            OpenOptions::new().create(true).append(true).open(self.path(&format!("{name}.log"))).unwrap();
        let mut command = Command::new(self.path(&format!("bin-{name}/heartbeatd")));
        command.args(["run", "--config"]).arg(self.config(name)).stdin(Stdio::null()).stderr(log);
        change(&mut command);
        let child = command.spawn().unwrap();
        Node { child, state_dir: self.path(&format!("state/{name}")), log: self.path(&format!("{name}.log")) }
    }

    /// The command lines with which the node's heartbeatd started a switch so far, and `ended` for each that ended.
    pub(crate) fn started(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(&format!("bin-{name}/started"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn lease(&self, queue: &str, epoch: u64, owner: &str) -> Lease {
        Lease::make(&self.path("spool").join(queue), queue, epoch, owner)
    }
}

/// A running heartbeatd. Killed when dropped; its log is shown if the test failed.
pub(crate) struct Node {
    pub(crate) child: Child,
    pub(crate) state_dir: PathBuf,
    log: PathBuf,
}

impl Node {
    pub(crate) async fn ask(&self, request: Request) -> Result<Answer, CallError> {
        control::ask(&control::paths::heartbeatd(&self.state_dir), request, Duration::from_secs(5)).await
    }

    pub(crate) async fn status(&self) -> Option<HeartbeatdStatus> {
        match self.ask(Request::Status).await {
            Ok(Answer::Status(status)) => Some(*status),
            _ => None,
        }
    }

    /// Waits until what it says fits.
    pub(crate) async fn until(
        &self,
        what: &str,
        fits: impl Fn(&HeartbeatdStatus) -> bool,
    ) -> HeartbeatdStatus {
        let mut last = None;
        let end = SystemClock.now() + LIMIT;
        while SystemClock.now() < end {
            last = self.status().await;
            if let Some(status) = last.as_ref().filter(|status| fits(status)) {
                return status.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never {what}: {last:?}");
    }

    pub(crate) async fn until_state(&self, queue: &str, state: &str) {
        let queue: QueueId = queue.parse().unwrap();
        self.until(state, |s| s.queues.iter().any(|q| q.queue == queue && q.state == state)).await;
    }

    /// Waits until its records about a queue contain this decision by this rule, and gives that record.
    pub(crate) async fn until_recorded(&self, queue: &str, decision: &str, rule: &str) -> serde_json::Value {
        let node = NodeId::new(queue).unwrap();
        let mut last = Vec::new();
        let end = SystemClock.now() + LIMIT;
        while SystemClock.now() < end {
            if let Ok(Answer::Records(records)) = self.ask(Request::Why { node: node.clone() }).await {
                let wanted = |r: &&serde_json::Value| r["decision"] == decision && r["rule"] == rule;
                if let Some(found) = records.iter().find(wanted) {
                    return found.clone();
                }
                last = records;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never recorded {decision} by {rule}: {last:#?}");
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// SIGTERM, and its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let end = SystemClock.now() + LIMIT;
        while SystemClock.now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("did not end");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// Waits for a condition of the test's own.
pub(crate) async fn until(what: &str, fits: impl Fn() -> bool) {
    let end = SystemClock.now() + LIMIT;
    while SystemClock.now() < end {
        if fits() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {what}");
}

/// A lease as an owner writes it, renewed by a thread for as long as it lives.
pub(crate) struct Lease {
    file: Arc<File>,
    alive: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Moment>>,
}

fn renew(file: &File, seq: u64, state: LeaseState) {
    let renewal = Renewal {
        seq,
        state,
        working: true,
        io_p999_us: 500,
        committed: (SegmentId::default(), 0),
        queued: 3,
        wall: SystemClock.wall(),
    };
    file.write_all_at(&renewal.encode()[..], RENEW_OFFSET).unwrap();
}

impl Lease {
    fn make(dir: &Path, queue: &str, epoch: u64, owner: &str) -> Self {
        fs::create_dir_all(dir.join("lease")).unwrap();
        let claim = Claim {
            cluster: "test".into(),
            queue: queue.parse().unwrap(),
            epoch: Epoch(epoch),
            owner: NodeId::new(owner).unwrap(),
            instance: InstanceId(1),
            boot: BootId(1),
            role: if owner == queue { Role::Primary } else { Role::Secondary },
            previous: Epoch(epoch - 1),
            reason: Reason::Boot,
            renew_ms: 150,
            window_ms: 1000,
            wall: WallTime(0),
        };
        // As a real claim: whole before it has its name.
        let draft = dir.join(format!("draft-{epoch}"));
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(&draft).unwrap();
        file.set_len(LEASE_LEN).unwrap();
        file.write_all_at(&claim.encode()[..], 0).unwrap();
        renew(&file, 1, LeaseState::Active);
        fs::hard_link(&draft, dir.join("lease").join(queue_format::names::lease_file(Epoch(epoch)))).unwrap();
        let (file, alive) = (Arc::new(file), Arc::new(AtomicBool::new(true)));
        let thread = std::thread::spawn({
            let (file, alive) = (Arc::clone(&file), Arc::clone(&alive));
            move || {
                let mut last = SystemClock.now();
                for seq in 2.. {
                    std::thread::park_timeout(Duration::from_millis(150));
                    if !alive.load(Ordering::Relaxed) {
                        break;
                    }
                    renew(&file, seq, LeaseState::Active);
                    last = SystemClock.now();
                }
                last
            }
        });
        Self { file, alive, thread: Some(thread) }
    }

    /// The owner dies: no renewal any more. When was the last?
    pub(crate) fn die(&mut self) -> Moment {
        self.alive.store(false, Ordering::Relaxed);
        let thread = self.thread.take().unwrap();
        thread.thread().unpark();
        thread.join().unwrap()
    }

    /// The owner's last renewal is torn, as by a loss of power in the middle of the write.
    pub(crate) fn tear(&mut self) {
        self.die();
        self.file.write_all_at(&[0x5a; 256], RENEW_OFFSET + 256).unwrap();
    }

    /// The claim is written in a form that is not known here, and is whole.
    pub(crate) fn write_format(&mut self, version: u16) {
        let mut sector = [0; SECTOR_LEN];
        self.file.read_exact_at(&mut sector, 0).unwrap();
        sector[8..10].copy_from_slice(&version.to_le_bytes());
        let crc = queue_format::frame::body_crc(&sector[8..]).to_le_bytes();
        sector[4..8].copy_from_slice(&crc);
        self.file.write_all_at(&sector, 0).unwrap();
    }

    /// The owner says RELEASED as its last word.
    pub(crate) fn release(&mut self) {
        self.die();
        renew(&self.file, 1 << 40, LeaseState::Released);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.die();
        }
    }
}
