//! What this program needs of the configuration, with the key read and the program found.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cluster::Timers;
use cluster::heartbeat::ClusterKey;
use control::arbiter::Arbiter;
use control::network::read_key;
use mail_model::{NodeId, QueueId};
use settings::{Launcher, Settings, Storage, TlsMode};

/// A node as heartbeats reach it.
#[derive(Debug, Clone)]
pub(crate) struct PeerPlan {
    pub(crate) id: NodeId,
    /// It has a queue: it is not the witness.
    pub(crate) has_queue: bool,
    /// Its address on each path.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// A program of the operator's, and how long it may take.
pub(crate) type HookPlan = (Vec<String>, Duration);

/// What promoted storage needs.
#[derive(Debug, Clone)]
pub(crate) struct PromotedPlan {
    pub(crate) hook: HookPlan,
    pub(crate) fence: Option<HookPlan>,
    pub(crate) arbiter: Arc<Arbiter>,
}

/// The plan.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) config: PathBuf,
    pub(crate) config_hash: String,
    pub(crate) cluster: String,
    pub(crate) me: NodeId,
    /// This node has no queue: it keeps the registers of those of others.
    pub(crate) witness: bool,
    /// Where this node hears heartbeats, one address a path. Empty: stand-alone.
    pub(crate) heard_at: Vec<SocketAddr>,
    /// The other nodes.
    pub(crate) peers: Vec<PeerPlan>,
    /// None only without peers.
    pub(crate) key: Option<ClusterKey>,
    pub(crate) timers: Timers,
    /// For each node, who takes its queue first.
    pub(crate) takers: BTreeMap<NodeId, Vec<NodeId>>,
    pub(crate) state_dir: PathBuf,
    pub(crate) spool: PathBuf,
    /// The storage is mounted by one node at a time.
    pub(crate) promoted: Option<PromotedPlan>,
    pub(crate) agent: Option<SocketAddr>,
    /// Where the programs of this node are asked by other nodes.
    pub(crate) control: Option<SocketAddr>,
    /// Where probes and Prometheus are answered.
    pub(crate) monitor: Option<SocketAddr>,
    /// Where this node takes mail, as the peers reach it.
    pub(crate) smtp: Option<SocketAddr>,
    /// The program that runs a queue.
    pub(crate) switch: PathBuf,
    /// With systemd as the launcher: where orders for secondaries are written.
    pub(crate) orders: Option<PathBuf>,
}

impl Plan {
    /// From a checked configuration. Makes the node's directories if they are missing.
    pub(crate) fn new(config: &Path, settings: &Settings) -> Result<Self> {
        let me = settings.node.id.clone();
        let witness = settings.cluster.witness.as_ref();
        let nodes = || settings.cluster.nodes.iter().chain(witness);
        let heard_at = nodes().find(|n| n.id == me).map(|n| n.heartbeat.clone()).unwrap_or_default();
        let control = nodes().find(|n| n.id == me).and_then(|n| n.control);
        let has_queue = |id: &NodeId| witness.is_none_or(|witness| witness.id != *id);
        let peers: Vec<PeerPlan> = nodes()
            .filter(|n| n.id != me)
            .map(|n| PeerPlan {
                id: n.id.clone(),
                has_queue: has_queue(&n.id),
                addresses: n.heartbeat.clone(),
            })
            .collect();
        let key = match &settings.cluster.key_file {
            Some(path) if !peers.is_empty() => Some(read_key(path)?),
            None if !peers.is_empty() => {
                bail!(
                    "cluster.key_file is not set, and there are peers; make a key: switchctl cluster keygen"
                )
            }
            Some(_) | None => None,
        };
        let spool = has_queue(&me).then_some(&settings.queue.dir);
        for dir in [&settings.node.state_dir].into_iter().chain(spool) {
            std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let smtp = spool.and_then(|_| public_listener(settings, heard_at.first()));
        let program = std::env::current_exe().context("find the folder of this program")?;
        Ok(Self {
            config: std::path::absolute(config).context("make the configuration's path absolute")?,
            config_hash: settings.shared_hash(),
            cluster: settings.cluster.id.clone(),
            control,
            witness: !has_queue(&me),
            me,
            heard_at,
            peers,
            key,
            timers: settings.cluster.timers,
            takers: settings
                .cluster
                .takeover_order
                .iter()
                .map(|home| (home.clone(), settings.cluster.takers(home)))
                .collect(),
            state_dir: settings.node.state_dir.clone(),
            spool: settings.queue.dir.clone(),
            promoted: if has_queue(&settings.node.id) { promoted(settings)? } else { None },
            agent: settings.agent,
            monitor: settings.monitor,
            smtp,
            switch: program.with_file_name("switch"),
            orders: match settings.launcher {
                Launcher::Exec => None,
                Launcher::Systemd => Some(orders_folder()?),
            },
        })
    }

    /// Every queue of the cluster.
    pub(crate) fn queues(&self) -> impl Iterator<Item = QueueId> {
        let peers = self.peers.iter().filter(|peer| peer.has_queue).map(|peer| &peer.id);
        let me = (!self.witness).then_some(&self.me);
        me.into_iter().chain(peers).cloned().map(QueueId::of)
    }

    /// Those that this node watches. A witness sees no storage.
    pub(crate) fn watched(&self) -> impl Iterator<Item = QueueId> {
        self.queues().filter(|_| !self.witness)
    }

    /// True if `node` has a queue, and so can take others over.
    pub(crate) fn has_queue(&self, node: &NodeId) -> bool {
        self.queues().any(|queue| queue.home() == node)
    }

    /// The own queue.
    pub(crate) fn own(&self) -> QueueId {
        QueueId::of(self.me.clone())
    }
}

/// Nothing where the storage is shared.
fn promoted(settings: &Settings) -> Result<Option<PromotedPlan>> {
    let hook = match settings.queue.storage {
        Storage::Shared => return Ok(None),
        Storage::Promoted => settings.queue.promoted.as_ref(),
    };
    let hook = hook.context("queue.storage: promoted needs queue.promoted.command")?;
    let arbiter = Arbiter::configured(settings)?;
    let arbiter = arbiter.context("queue.storage: promoted needs a witness or cluster.arbiter.etcd")?;
    let fence = settings.fence.as_ref().map(|fence| (fence.command.clone(), fence.timeout));
    let hook = (hook.command.clone(), hook.timeout);
    Ok(Some(PromotedPlan { hook, fence, arbiter: Arc::new(arbiter) }))
}

/// The first listener that speaks SMTP in clear at first. One for all addresses is reached where heartbeats are.
fn public_listener(settings: &Settings, heard_at: Option<&SocketAddr>) -> Option<SocketAddr> {
    let plain = settings.listeners.iter().find(|listener| listener.tls_mode == TlsMode::StartTls)?;
    if plain.address.ip().is_unspecified() {
        return heard_at.map(|heard| SocketAddr::new(heard.ip(), plain.address.port()));
    }
    Some(plain.address)
}

fn orders_folder() -> Result<PathBuf> {
    match std::env::var_os("RUNTIME_DIRECTORY") {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => bail!(
            "launcher: systemd, and systemd did not start this program; start heartbeatd.service, or write 'launcher: exec'"
        ),
    }
}
