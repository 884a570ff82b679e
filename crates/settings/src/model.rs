//! What the programs get: everything checked, paths made absolute against the file they stand in, defaults filled in.

mod delivery;
mod promoted;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cluster::Timers;
use ipnet::IpNet;
use mail_model::{Domain, Mailbox, NodeId};
use message::ShapeLimits;
use policy::limits::ClientLimits;
use routing::mx::{AddressOrder, Own};
use routing::{DrillKey, RelayPolicy, Routes, Tables};
use schedule::{ConcurrencyLimits, RetryPolicy};
use smtp::limits::SendTimeouts;
use smtp::sasl::Mechanism;
use smtp::session::SessionConfig;

pub use self::delivery::{
    BounceSettings, CacheSettings, DeliverySettings, DoubleBounce, EightBit, OwnerSettings,
};
pub use self::promoted::{FenceSettings, PromotedSettings};
use crate::checks::CheckSettings;
use crate::filter::FilterSettings;

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What all nodes share.
    pub cluster: ClusterSettings,
    /// This node.
    pub node: NodeSettings,
    /// The queues.
    pub queue: QueueSettings,
    /// Where SMTP is listened for.
    pub listeners: Vec<ListenerSettings>,
    /// Who may submit mail, on listeners for submission.
    pub auth: AuthSettings,
    /// Where `/health/…` is answered by the primary switch.
    pub health: Option<SocketAddr>,
    /// Where HAProxy's agent-check is answered by heartbeatd.
    pub agent: Option<SocketAddr>,
    /// Where heartbeatd answers probes and Prometheus.
    pub monitor: Option<SocketAddr>,
    /// Who may relay where.
    pub relay: RelayPolicy,
    /// From an address to a next hop.
    pub routes: Routes,
    /// How names are looked up, and who we are there.
    pub dns: DnsSettings,
    /// Where the tables are.
    pub table_files: TableFiles,
    /// The tables of addresses; empty until who opens files has read them.
    pub tables: Tables,
    /// What strangers are asked for.
    pub checks: CheckSettings,
    /// Content filters, in their order.
    pub filters: Vec<FilterSettings>,
    /// With what mail of trusted clients is signed.
    pub dkim: Vec<DkimKey>,
    /// Bounds of the programs.
    pub limits: LimitSettings,
    /// When a deferred recipient is tried again, and for how long.
    pub retry: RetryPolicy,
    /// How mail goes out.
    pub delivery: DeliverySettings,
    /// What senders are told.
    pub bounces: BounceSettings,
    /// Who is told when something is wrong.
    pub alerts: AlertSettings,
    /// What the log says, and how.
    pub log: LogSettings,
    /// What proves that a node is off.
    pub fence: Option<FenceSettings>,
    /// How a secondary is started.
    pub launcher: Launcher,
    /// Seals the addresses of probe mail in drills. Not written in the configuration: made from the cluster's key.
    pub drill_key: Option<DrillKey>,
    /// A digest of the text all this came from, in hexadecimal: the same text, the same digest.
    pub hash: String,
}

impl Settings {
    /// A digest of what must be the same on every node, 16 hexadecimal digits: names, timers and order of the cluster, who
    /// may relay, routes and retries. Addresses and paths are each node's own.
    #[must_use]
    pub fn shared_hash(&self) -> String {
        let names: Vec<&NodeId> = self.cluster.nodes.iter().map(|node| &node.id).collect();
        let cluster = (
            &self.cluster.id,
            names,
            &self.cluster.timers,
            (&self.cluster.takeover_order, self.cluster.takeover_named),
        );
        let mut text = format!("{:?}", (cluster, &self.relay, &self.routes, &self.retry));
        if self.cluster.witness.is_some() || !self.cluster.etcd.is_empty() {
            let witness = self.cluster.witness.as_ref().map(|node| &node.id);
            let arbiter = format!("{:?}", (witness, &self.cluster.etcd));
            text.push_str(&arbiter);
        }
        blake3::hash(text.as_bytes()).to_hex().chars().take(16).collect()
    }
}

/// What all nodes share.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterSettings {
    /// The cluster's name: stands in every lease and segment.
    pub id: String,
    /// Every node with a queue, this one included unless it is the witness. Stand-alone: this one alone, with no addresses.
    pub nodes: Vec<PeerSettings>,
    /// The node that has no queue and keeps the registers of promoted storage.
    pub witness: Option<PeerSettings>,
    /// The members of an etcd that keeps these registers instead.
    pub etcd: Vec<String>,
    /// The heartbeat key. None only for a stand-alone node.
    pub key_file: Option<PathBuf>,
    /// The protocol's timers.
    pub timers: Timers,
    /// Every node once: first those that the configuration names as takers, in their order.
    pub takeover_order: Vec<NodeId>,
    /// So many of them are named.
    pub takeover_named: usize,
}

impl ClusterSettings {
    /// Who takes the queue of `home` first, who next. The nodes that are named come first for every queue; among the others
    /// it is those that follow `home`, in a ring, so that the queues of several dead nodes are split over the survivors.
    #[must_use]
    pub fn takers(&self, home: &NodeId) -> Vec<NodeId> {
        let (named, others) =
            self.takeover_order.split_at(self.takeover_named.min(self.takeover_order.len()));
        let start = others.iter().position(|node| node == home).map_or(0, |place| place + 1);
        let ring = others.iter().cycle().skip(start).take(others.len());
        named.iter().chain(ring).filter(|node| *node != home).cloned().collect()
    }
}

/// A node as the others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSettings {
    /// Its name, which is also its queue's.
    pub id: NodeId,
    /// Its heartbeat address on each path, in the order of paths.
    pub heartbeat: Vec<SocketAddr>,
    /// Its control address.
    pub control: Option<SocketAddr>,
}

/// This node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its name.
    pub id: NodeId,
    /// Sockets, decision records: everything that is not the queue.
    pub state_dir: PathBuf,
    /// The name in greetings, EHLO and Received. Default: the machine's, if that is a full name; else `a.demo.invalid`.
    pub hostname: Domain,
}

/// The queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    /// One directory per queue below it.
    pub dir: PathBuf,
    /// What lies under it.
    pub storage: Storage,
    /// How a device that one node at a time has mounted is asked and moved.
    pub promoted: Option<PromotedSettings>,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// New mail is refused with 452 when less than this is free.
    pub free_space_reserve: u64,
}

/// What the queue directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// A file system every node reads and writes.
    Shared,
    /// A device that one node at a time has mounted.
    Promoted,
}

/// Files of tables, each looked up if it is named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableFiles {
    /// More routes.
    pub routes: Option<PathBuf>,
    /// Who stands for whom.
    pub aliases: Option<PathBuf>,
    /// Who there is in the relay domains.
    pub recipients: Option<PathBuf>,
    /// What senders become.
    pub senders: Option<PathBuf>,
}

/// One SMTP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// What for.
    pub kind: ListenerKind,
    /// Date and Message-ID are added to messages that lack them. RFC 6409 8.
    pub add_missing_fields: bool,
    /// Its certificate; without one no TLS is spoken.
    pub tls: Option<TlsFiles>,
    /// When TLS begins, if there is a certificate.
    pub tls_mode: TlsMode,
    /// PROXY protocol is expected from balancers.
    pub proxy_protocol: bool,
    /// The balancers. Who connects from elsewhere is a client.
    pub proxy_from: Vec<IpNet>,
    /// Who may say by XCLIENT whose session it passes on.
    pub xclient_from: Vec<IpNet>,
    /// Who may name what it hands over, because a repeat is known.
    pub once_from: Vec<IpNet>,
    /// What becomes of mail from strangers that is not from whom it says.
    pub authentication: Authentication,
}

/// What becomes of mail that is not from whom it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Authentication {
    /// Nobody looks.
    #[default]
    Off,
    /// It is said on top of it.
    Mark,
    /// What its domain wants refused is refused; all other has it said on top.
    Refuse,
    /// The same, and what its domain wants quarantined is held.
    Enforce,
}

impl Authentication {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Mark => "mark",
            Self::Refuse => "refuse",
            Self::Enforce => "enforce",
        }
    }
}

/// A key that signs mail of a domain. RFC 6376.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DkimKey {
    /// The domain.
    pub domain: Domain,
    /// Where its public half is found: `SELECTOR._domainkey.DOMAIN`.
    pub selector: String,
    /// The private key, PEM.
    pub file: PathBuf,
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenerKind {
    /// Mail from other servers, and from networks that are trusted. RFC 5321.
    #[default]
    Relay,
    /// Mail from users, who authenticate under TLS. RFC 6409.
    Submission,
}

/// Who may submit mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// The users file.
    pub users: PathBuf,
    /// What is offered, in this order; at least one.
    pub mechanisms: Vec<Mechanism>,
    /// A failed authentication is answered no sooner.
    pub failure_delay: Duration,
    /// So many failures in ten minutes, and this client is asked to come again later.
    pub failures_per_client: u32,
}

/// When TLS begins on a connection of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// When the client asks for it. RFC 3207.
    #[default]
    StartTls,
    /// At once. RFC 8314 3.
    Implicit,
}

/// Certificate and key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Whether clients show one too.
    pub client_certificates: ClientCertificates,
    /// Who vouches for those, PEM.
    pub client_ca: Option<PathBuf>,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Off,
    /// They are asked, and need not. Whose certificate nobody vouches for is a client like any other.
    Request,
    /// No mail is taken from a client without one that somebody vouches for.
    Require,
}

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSettings {
    /// Who is asked; the machine's servers if none.
    pub servers: Vec<SocketAddr>,
    /// How long one question to one server may take.
    pub timeout: Duration,
    /// The servers validate DNSSEC, and their AD bit is believed. RFC 6840 5.8.
    pub trust_ad: bool,
    /// Which addresses of a host are used.
    pub addresses: AddressOrder,
    /// Where MX hosts listen.
    pub mx_port: u16,
    /// Where the web servers of MTA-STS policies listen.
    pub sts_port: u16,
    /// By what this switch is known in MX records, besides its host name and the addresses it listens at.
    pub own: Own,
}

/// Bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// What a receiving session is told: `hostname` and bounds, message size and recipients included.
    pub session: SessionConfig,
    /// Connections of all clients.
    pub connections: usize,
    /// Connections of one client address.
    pub connections_per_client: usize,
    /// What else bounds a client.
    pub clients: ClientLimits,
    /// How long a TLS handshake may take, of a client with us and of us with a next hop.
    pub tls_handshake: Duration,
    /// Received fields after which a message loops. RFC 5321 6.3.
    pub hops: u32,
    /// How a message may be built.
    pub shape: ShapeLimits,
    /// Bytes of all messages together that are kept at hand while they are inspected. At least `message_size`.
    pub inspection_memory: u64,
    /// How long the sending side waits.
    pub send: SendTimeouts,
    /// Connections and open attempts toward destinations.
    pub concurrency: ConcurrencyLimits,
}

/// How a secondary is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// As a child process of heartbeatd.
    Exec,
    /// As a unit of systemd.
    Systemd,
}

/// The log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged.
    pub level: LogLevel,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `Journald` where standard error leads to the journal, else `Logfmt`.
    #[default]
    Auto,
    /// For people and `grep`.
    Logfmt,
    /// One JSON object a line.
    Json,
    /// Entries of the journal, with a field for each field of the event.
    Journald,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(Self::Auto),
            // The second is how it was called first.
            "logfmt" | "human" => Ok(Self::Logfmt),
            "json" => Ok(Self::Json),
            "journald" => Ok(Self::Journald),
            other => Err(format!("'{other}' is no format of the log; write auto, logfmt, json or journald")),
        }
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Somebody must look.
    Error,
    /// Somebody should know.
    Warn,
    /// What is done.
    #[default]
    Info,
    /// How it is done.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];
        let found = all.into_iter().find(|level| level.as_str() == word);
        found.ok_or_else(|| {
            format!("'{word}' is no level of the log; write error, warn, info, debug or trace")
        })
    }
}

/// Who is told when something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertSettings {
    /// What must last so long before it is told.
    pub after: Duration,
    /// What stays is told again after so long.
    pub repeat: Duration,
    /// A program elsewhere.
    pub webhook: Option<WebhookSettings>,
    /// People.
    pub mail: Option<AlertMailSettings>,
    /// A program here and its arguments; empty for none.
    pub command: Vec<String>,
}

/// Where alerts are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// `http://` or `https://`.
    pub url: String,
    /// What posts are signed with.
    pub secret_file: Option<PathBuf>,
}

/// Who gets alerts by mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertMailSettings {
    /// At least one.
    pub to: Vec<Mailbox>,
    /// The sender, if not made of the node's host name.
    pub from: Option<Mailbox>,
    /// Listeners that take it; empty for this node's first.
    pub through: Vec<SocketAddr>,
}
