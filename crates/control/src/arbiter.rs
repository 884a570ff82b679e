//! The arbiter of promoted storage, as it is asked: who owns a queue's device, and compare-and-swap of that.
//!
//! An answer is one to a question that was sent after the call began, never an older one: what waits for it may rest on the
//! order. No answer within the time, or one that cannot be read, is [`Unknown`], and unknown means no effect. After an
//! unknown swap the register must be read again: it may have been carried out.

mod etcd;
mod witness;

use std::time::Duration;

use cluster::register::{Entry, Register, Version};
use mail_model::QueueId;
use settings::Settings;
use tokio::time::timeout;

use crate::network::{KeyFault, Members, Node, read_key};

use self::etcd::Etcd;
use self::witness::Witness;

/// Nothing is known: the arbiter did not answer, or not in a way that can be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the arbiter ({arbiter}) does not answer: {why}")]
pub struct Unknown {
    /// Who.
    pub arbiter: String,
    /// What happened.
    pub why: String,
}

/// An arbiter that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum Misconfigured {
    /// Its URLs.
    #[error("cluster.arbiter.etcd: {0}")]
    Etcd(String),
    /// The cluster's key, by which a witness knows who asks.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// There is no key.
    #[error("a witness is asked with the cluster's key; write cluster.key_file")]
    NoKey,
}

/// Who decides.
#[derive(Debug)]
pub struct Arbiter(Kind);

#[derive(Debug)]
enum Kind {
    Witness(Witness),
    Etcd(Etcd),
}

impl Arbiter {
    /// The heartbeatd of a third node.
    #[must_use]
    pub fn witness(node: Node, members: Members) -> Self {
        Self(Kind::Witness(Witness::new(node, members)))
    }

    /// An etcd, by the URLs of its members.
    pub fn etcd(cluster: &str, urls: &[String]) -> Result<Self, Misconfigured> {
        Ok(Self(Kind::Etcd(Etcd::new(cluster, urls).map_err(Misconfigured::Etcd)?)))
    }

    /// Whom the configuration names; `None` if nobody. Blocks on the disk.
    pub fn configured(settings: &Settings) -> Result<Option<Self>, Misconfigured> {
        let cluster = &settings.cluster;
        let witness =
            cluster.witness.as_ref().and_then(|w| Some(Node { id: w.id.clone(), address: w.control? }));
        let Some(witness) = witness else {
            let etcd = (!cluster.etcd.is_empty()).then(|| Self::etcd(&cluster.id, &cluster.etcd));
            return etcd.transpose();
        };
        let key = read_key(cluster.key_file.as_deref().ok_or(Misconfigured::NoKey)?)?;
        let nodes = cluster.nodes.iter().chain(&cluster.witness).map(|node| &node.id);
        let members = Members::new(&key, &cluster.id, &settings.node.id, nodes)?;
        Ok(Some(Self::witness(witness, members)))
    }

    /// What stands in the register of `queue` now.
    pub async fn read(&self, queue: &QueueId, within: Duration) -> Result<Entry, Unknown> {
        let asked = async {
            match &self.0 {
                Kind::Witness(witness) => witness.read(queue, within).await,
                Kind::Etcd(etcd) => etcd.read(queue, within).await,
            }
        };
        self.answered(timeout(within, asked).await, within)
    }

    /// Puts `register` there if it still is `expected`; `None` if it is not. When this returns a version, that is durable.
    pub async fn swap(
        &self,
        queue: &QueueId,
        expected: Version,
        register: Register,
        within: Duration,
    ) -> Result<Option<Version>, Unknown> {
        let asked = async {
            match &self.0 {
                Kind::Witness(witness) => witness.swap(queue, expected, register, within).await,
                Kind::Etcd(etcd) => etcd.swap(queue, expected, &register).await,
            }
        };
        self.answered(timeout(within, asked).await, within)
    }

    fn answered<T>(
        &self,
        result: Result<Result<T, String>, tokio::time::error::Elapsed>,
        within: Duration,
    ) -> Result<T, Unknown> {
        let late = |_| Err(format!("nothing came within {} ms", within.as_millis()));
        let arbiter = || match &self.0 {
            Kind::Witness(witness) => format!("witness {}", witness.node()),
            Kind::Etcd(_) => "etcd".to_owned(),
        };
        result.unwrap_or_else(late).map_err(|why| Unknown { arbiter: arbiter(), why })
    }
}
