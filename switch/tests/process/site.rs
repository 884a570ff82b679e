//! A node with one switch: its folder, its configuration, its process.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use cluster::instance::Order;
use control::switch::{Answer, Request, SwitchStatus};
use daemon_kit::{SystemClock, boot_id, instance_id};
use mail_model::{Clock, Epoch, QueueId, Reason, Role};
use queue_format::record::MessageKey;
use queue_store::inspect::{self, Depth, Inspection};
use queue_store::{Queue, QueueOptions};
use rig::{Answer as Reply, Dialogue};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};

/// The longest to wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a test changes in the configuration. Each is a line of YAML within its block.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) trusted: &'static str,
    pub(crate) queue: String,
    pub(crate) limits: &'static str,
    /// Of the listener.
    pub(crate) listener: &'static str,
    /// Of the route.
    pub(crate) route: &'static str,
    /// Where mail goes. Nobody listens there if not said: what is accepted stays queued.
    pub(crate) next_hop: Option<SocketAddr>,
    /// The same as it is written, for what is no address.
    pub(crate) hop: Option<String>,
    /// Further lines, not within a block.
    pub(crate) top: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            trusted: "127.0.0.1/32",
            queue: String::new(),
            limits: "",
            listener: "",
            route: "",
            next_hop: None,
            hop: None,
            top: String::new(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Site {
    dir: TempDir,
    pub(crate) smtp: SocketAddr,
    pub(crate) health: SocketAddr,
    /// Where nobody listens, unless a test does.
    pub(crate) nowhere: SocketAddr,
}

pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

impl Site {
    pub(crate) fn new(config: &Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Self { dir, smtp: free_port(), health: free_port(), nowhere: free_port() };
        site.configure(config);
        site
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.path().join("mailswitch.yaml")
    }

    pub(crate) fn queue_dir(&self) -> PathBuf {
        self.path().join("spool/a")
    }

    pub(crate) fn configure(&self, config: &Config) {
        let Config { trusted, queue, limits, listener, route, next_hop, hop, top } = config;
        let (smtp, health, next_hop) = (self.smtp, self.health, next_hop.unwrap_or(self.nowhere));
        let next_hop = hop.clone().unwrap_or_else(|| next_hop.to_string());
        let text = format!(
            "cluster:\n  id: demo\nnode:\n  id: a\n  state_dir: state\n  hostname: mx.example.test\n\
             queue:\n  dir: spool\n  {queue}\nlisteners:\n  - address: {smtp}\n    {listener}\nhealth:\n  address: {health}\n\
             relay:\n  trusted_networks: [{trusted}]\n  domains: [example.test]\n\
             routes:\n  - match: \"*\"\n    next_hop: \"{next_hop}\"\n    {route}\nlimits:\n  message_size: 20MiB\n  {limits}\n{top}\n"
        );
        std::fs::write(self.config_file(), text).unwrap();
    }

    /// Adds a file to the configuration: its keys go over those of [`Self::configure`].
    pub(crate) fn configure_more(&self, text: &str) {
        let folder = self.path().join("conf.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("more.yaml"), text).unwrap();
    }

    /// `switch` with these arguments, not yet started, its log in a file.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.with_program(env!("CARGO_BIN_EXE_switch"));
        command.args(arguments);
        command
    }

    /// Another program, its log in the same file.
    pub(crate) fn with_program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.stderr(File::create(self.path().join("switch.log")).unwrap());
        command
    }

    /// A running switch of this node, which may not be ready yet.
    pub(crate) fn start(&self) -> Running {
        self.run(&["run", "--config", self.config_file().to_str().unwrap()])
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Running {
        Running::of(self.command(arguments), self)
    }

    /// Makes this node b of a cluster in which a is dead; the queue stays a's.
    pub(crate) fn becomes_survivor(&self) {
        let text = std::fs::read_to_string(self.config_file()).unwrap();
        let cluster = "cluster:\n  id: demo\n  key_file: cluster.key\n  nodes:\n\
                       \x20   - { id: a, heartbeat: [127.0.0.1:7101], control: 127.0.0.1:7201 }\n\
                       \x20   - { id: b, heartbeat: [127.0.0.1:7102], control: 127.0.0.1:7202 }\n\
                       node:\n  id: b\n";
        let text = text.replace("cluster:\n  id: demo\nnode:\n  id: a\n", cluster);
        std::fs::write(self.config_file(), text).unwrap();
        std::fs::write(self.path().join("cluster.key"), "x").unwrap();
    }

    /// A running secondary for queue a, which is at this epoch.
    pub(crate) fn take_over(&self, epoch: &str) -> Running {
        let config = self.config_file();
        let config = config.to_str().unwrap();
        let take = ["--queue", "a", "--secondary", "--expected-epoch", epoch, "--reason", "expired"];
        self.run(&[&["run", "--config", config], &take[..]].concat())
    }

    /// A running switch that takes mail.
    pub(crate) async fn start_ready(&self) -> Running {
        let running = self.start();
        until("the switch is ready", || self.probe().starts_with("HTTP/1.1 200")).await;
        running
    }

    /// The answer to a probe of readiness; empty if there is none.
    pub(crate) fn probe(&self) -> String {
        let ask = || {
            let mut stream = TcpStream::connect(self.health)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        };
        ask().unwrap_or_default()
    }

    /// A connection, and its greeting.
    pub(crate) async fn connect(&self) -> (Dialogue, Reply) {
        self.connect_patiently(PATIENCE).await
    }

    /// The same, with a client that waits longer or shorter for each reply.
    pub(crate) async fn connect_patiently(&self, patience: Duration) -> (Dialogue, Reply) {
        let mut client = Dialogue::connect(self.smtp, patience).await.unwrap();
        let greeting = client.reply().await.unwrap();
        (client, greeting)
    }

    /// A connection of a client at an address of the loopback network.
    pub(crate) async fn connect_from(&self, ip: &str) -> Dialogue {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
        Dialogue::over(socket.connect(self.smtp).await.unwrap(), PATIENCE)
    }

    /// A connection after its EHLO.
    pub(crate) async fn client(&self) -> Dialogue {
        let (mut client, greeting) = self.connect().await;
        assert_eq!(greeting.code, 220, "{greeting:?}");
        assert_eq!(say(&mut client, "EHLO client.test").await.code, 250);
        client
    }

    pub(crate) async fn ask(&self, request: Request) -> Result<Answer, control::CallError> {
        let socket = control::paths::switch(&self.path().join("state"), &queue_id());
        control::ask(&socket, request, PATIENCE).await
    }

    pub(crate) async fn status(&self) -> SwitchStatus {
        match self.ask(Request::Status).await.unwrap() {
            Answer::Status(status) => *status,
            other @ (Answer::Ready(_)
            | Answer::Done { .. }
            | Answer::Operated(_)
            | Answer::Traced(_)
            | Answer::Metrics { .. }) => {
                unreachable!("{other:?}")
            }
        }
    }

    /// The queue as it is on disk.
    pub(crate) fn inspect(&self) -> Inspection {
        inspect::inspect(&self.queue_dir(), "demo", &queue_id(), Depth::Everything).unwrap()
    }

    /// The content of a message on disk, the Received field on top included.
    pub(crate) fn content(&self, key: MessageKey) -> Vec<u8> {
        let mut reader = self.inspect().content(key).unwrap();
        let mut content = Vec::new();
        while let Some(piece) = reader.next_piece() {
            content.extend_from_slice(&piece.unwrap());
        }
        content
    }

    /// Opens this site's queue from another node, as a takeover does; without an order as one that nobody has owned yet.
    pub(crate) fn open_elsewhere(&self, order: Option<Order>) -> Queue {
        std::fs::create_dir_all(self.queue_dir()).unwrap();
        Queue::open(QueueOptions {
            dir: self.queue_dir(),
            cluster: "demo".into(),
            queue: queue_id(),
            owner: "b".parse().unwrap(),
            instance: instance_id(),
            boot: boot_id().unwrap(),
            role: Role::Secondary,
            order: order.or(Some(Order { expected: Epoch(0), reason: Reason::Forced })),
            timers: cluster::Timers::default(),
            segment_size: 16 << 20,
            free_space_reserve: 0,
            clock: clock(),
            proof: None,
        })
        .unwrap()
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

pub(crate) fn queue_id() -> QueueId {
    "a".parse().unwrap()
}

/// The key of the message that a 250 names.
pub(crate) fn key(reply: &str) -> MessageKey {
    let id: mail_model::MessageId = reply.rsplit(' ').next().unwrap().parse().unwrap();
    MessageKey { epoch: id.epoch, sequence: id.sequence }
}

pub(crate) async fn say<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Dialogue<S>, line: &str) -> Reply {
    client.command(line).await.unwrap()
}

/// An envelope from a@client.test to b@example.test, and DATA answered with 354.
pub(crate) async fn begin<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Dialogue<S>) {
    assert_eq!(say(client, "MAIL FROM:<a@client.test>").await.code, 250);
    assert_eq!(say(client, "RCPT TO:<b@example.test>").await.code, 250);
    assert_eq!(say(client, "DATA").await.code, 354);
}

/// A whole transaction from a@client.test. The replies to RCPT, and the one to the content.
pub(crate) async fn send_to(site: &Site, recipients: &[&str]) -> (Vec<Reply>, Reply) {
    let mut client = site.client().await;
    assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 250);
    let mut replies = Vec::new();
    for recipient in recipients {
        replies.push(say(&mut client, &format!("RCPT TO:<{recipient}>")).await);
    }
    let mut last = say(&mut client, "DATA").await;
    if last.code == 354 {
        client.send("Subject: x\r\n\r\ntext\r\n.\r\n").await.unwrap();
        last = client.reply().await.unwrap();
    }
    (replies, last)
}

/// Waits for a condition of the world outside, with a deadline.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = clock();
    let deadline = clock.now() + PATIENCE;
    while !holds() {
        assert!(clock.now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A switch that was started. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command`, whose log is `site`'s.
    pub(crate) fn of(mut command: Command, site: &Site) -> Self {
        Self { child: command.spawn().unwrap(), log: site.path().join("switch.log") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Stops it as a whole. A signal is only on its way when it was sent, so this waits until every thread stands still.
    pub(crate) async fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        until("the process stands still", || {
            std::fs::read_dir(&tasks).unwrap().all(|task| {
                // A thread that has just ended does not run either.
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
                stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('T'))
            })
        })
        .await;
    }

    /// Waits for its end. The exit code; 0 for none.
    pub(crate) async fn ended(&mut self) -> i32 {
        let mut status: Option<ExitStatus> = None;
        let child = &mut self.child;
        until("the switch ended", || {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.and_then(|status| status.code()).unwrap_or(0)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            // The site may be gone already; a second panic would hide the first.
            eprintln!(
                "{}",
                std::fs::read_to_string(&self.log).unwrap_or_else(|error| format!("no log: {error}"))
            );
        }
    }
}
