//! The bytes of a heartbeat: one datagram for one peer, at most [`DATAGRAM_BYTES_MAX`] bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | `MSHB` |
//! | 1 | version, 1 |
//! | 1 | path, from 0 |
//! | 16 | the sender's run (incarnation), random |
//! | 8 | counter, from 1, one for all paths and peers |
//! | 1 + n | sender's name |
//! | 1 + n | receiver's name |
//! | rest | content as JSON, sealed with XChaCha20-Poly1305; everything before is authenticated with it |
//!
//! The key is derived for each run of each sender, the nonce is the counter: no pair is used twice. A heartbeat is a hint,
//! never a proof of ownership. What cannot be opened is counted and ignored: see [`Unopened`].

mod key;
mod peer;

use std::net::SocketAddr;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use mail_model::{Epoch, InstanceId, LeaseState, NodeId, QueueId, Role};
use serde::{Deserialize, Serialize};

use crate::drill::{DrillOrder, DrillWord};

pub use key::{ClusterKey, KeyError, parse_key};
pub use peer::{Peer, Standing};

/// A datagram that no path fragments.
pub const DATAGRAM_BYTES_MAX: usize = 1200;

const MAGIC: &[u8] = b"MSHB";
const VERSION: u8 = 1;
const FIXED_LEN: usize = 30;

/// What a node says of itself and what it sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The program's version.
    #[serde(rename = "v")]
    pub version: String,
    /// A digest of its configuration.
    #[serde(rename = "c")]
    pub config_hash: String,
    /// Its state in a word: `up`, `draining`.
    #[serde(rename = "s")]
    pub state: String,
    /// The queues it owns.
    #[serde(rename = "q", default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueBeat>,
    /// Whom it hears, on which paths.
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    pub heard: Vec<Heard>,
    /// Instances that are dead and that it does not start again.
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    pub instance_dead: Vec<InstanceDead>,
    /// It starts its primary again.
    #[serde(rename = "r", default)]
    pub restarting: bool,
    /// Its primary waits at INIT for its own queue.
    #[serde(rename = "w", default)]
    pub waiting: bool,
    /// What is left of a pause, ms.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub paused_ms: Option<u64>,
    /// Where it takes mail, so that a drill can send it some.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SocketAddr>,
    /// A drill it orders.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillOrder>,
    /// What it says of a drill on itself.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub word: Option<DrillWord>,
    /// A number the receiver is to echo.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<u64>,
    /// The number the receiver asked to be echoed.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<u64>,
}

/// A queue the sender owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueBeat {
    /// Its name.
    #[serde(rename = "q")]
    pub queue: QueueId,
    /// The ownership.
    #[serde(rename = "e")]
    pub epoch: Epoch,
    /// The last renewal.
    #[serde(rename = "n")]
    pub seq: u64,
    /// At home or not.
    #[serde(rename = "r")]
    pub role: Role,
    /// What the owner says.
    #[serde(rename = "s")]
    pub state: Option<LeaseState>,
    /// p99.9 of renewals, µs.
    #[serde(rename = "io")]
    pub io_p999_us: u32,
    /// Recipients in it, as the lease says.
    #[serde(rename = "u", default)]
    pub queued: u64,
}

/// A node the sender hears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Whom.
    #[serde(rename = "n")]
    pub node: NodeId,
    /// A bit for each path, the first is the lowest.
    #[serde(rename = "p")]
    pub paths: u32,
}

/// The sender's word that an instance is dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceDead {
    /// The queue it owned.
    #[serde(rename = "q")]
    pub queue: QueueId,
    /// The ownership.
    #[serde(rename = "e")]
    pub epoch: Epoch,
}

/// From whom to whom, and which of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The path it is sent on.
    pub path: u8,
    /// The sender's run.
    pub incarnation: InstanceId,
    /// From 1; never used twice in one run.
    pub counter: u64,
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
}

/// Why a datagram was ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Unopened {
    /// No heartbeat, or cut off.
    #[error("not a heartbeat, or cut off")]
    Malformed,
    /// Of another version.
    #[error("of another version of the heartbeat")]
    Version,
    /// For another node, or from this one.
    #[error("not for this node")]
    Misdirected,
    /// Not made with this cluster's key, or changed on the way.
    #[error("not made with this cluster's key, or changed on the way")]
    Forged,
    /// Sealed by a member, but not to be understood.
    #[error("its content cannot be read")]
    Content,
}

/// The heartbeat does not fit into a datagram even without what is least needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a heartbeat does not fit into {DATAGRAM_BYTES_MAX} bytes; shorten node names or cluster.id")]
pub struct TooLong;

/// Seals a heartbeat. What does not fit is left out: first whom the sender hears, then its queues (the leases say more).
pub fn seal(
    key: &ClusterKey,
    cluster: &str,
    header: &Header,
    heartbeat: &Heartbeat,
) -> Result<Vec<u8>, TooLong> {
    let head = encode(header)?;
    let mut beat = heartbeat.clone();
    loop {
        let content = serde_json::to_vec(&beat).map_err(|_| TooLong)?;
        if head.len() + content.len() + 16 > DATAGRAM_BYTES_MAX {
            if beat.heard.pop().is_none() && beat.queues.pop().is_none() {
                return Err(TooLong);
            }
            continue;
        }
        let payload = Payload { msg: &content, aad: &head };
        let sealed =
            cipher(key, cluster, header).encrypt(&nonce(header.counter), payload).map_err(|_| TooLong)?;
        return Ok([head, sealed].concat());
    }
}

/// Opens a datagram for `me`.
pub fn open(
    key: &ClusterKey,
    cluster: &str,
    me: &NodeId,
    datagram: &[u8],
) -> Result<(Header, Heartbeat), Unopened> {
    let (header, head_len) = decode(datagram)?;
    if header.to != *me || header.from == *me {
        return Err(Unopened::Misdirected);
    }
    let (head, sealed) = datagram.split_at_checked(head_len).ok_or(Unopened::Malformed)?;
    let payload = Payload { msg: sealed, aad: head };
    let content = cipher(key, cluster, &header)
        .decrypt(&nonce(header.counter), payload)
        .map_err(|_| Unopened::Forged)?;
    let heartbeat = serde_json::from_slice(&content).map_err(|_| Unopened::Content)?;
    Ok((header, heartbeat))
}

fn cipher(key: &ClusterKey, cluster: &str, header: &Header) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&key.derive(cluster, &header.from, header.incarnation).into())
}

fn nonce(counter: u64) -> XNonce {
    let mut bytes = [0; 24];
    for (slot, byte) in bytes.iter_mut().zip(counter.to_be_bytes()) {
        *slot = byte;
    }
    bytes.into()
}

fn encode(header: &Header) -> Result<Vec<u8>, TooLong> {
    let mut bytes = Vec::with_capacity(DATAGRAM_BYTES_MAX);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, header.path]);
    bytes.extend_from_slice(&header.incarnation.0.to_be_bytes());
    bytes.extend_from_slice(&header.counter.to_be_bytes());
    for name in [&header.from, &header.to] {
        bytes.push(u8::try_from(name.as_str().len()).map_err(|_| TooLong)?);
        bytes.extend_from_slice(name.as_str().as_bytes());
    }
    Ok(bytes)
}

/// The header and its length.
fn decode(datagram: &[u8]) -> Result<(Header, usize), Unopened> {
    if datagram.len() > DATAGRAM_BYTES_MAX {
        return Err(Unopened::Malformed);
    }
    let (fixed, rest) = datagram.split_at_checked(FIXED_LEN).ok_or(Unopened::Malformed)?;
    let fixed = fixed.strip_prefix(MAGIC).ok_or(Unopened::Malformed)?;
    let [version, path, numbers @ ..] = fixed else { return Err(Unopened::Malformed) };
    if *version != VERSION {
        return Err(Unopened::Version);
    }
    let (incarnation, counter) = numbers.split_at_checked(16).ok_or(Unopened::Malformed)?;
    let (from, rest) = name(rest)?;
    let (to, rest) = name(rest)?;
    let header = Header {
        path: *path,
        incarnation: InstanceId(u128::from_be_bytes(
            incarnation.try_into().map_err(|_| Unopened::Malformed)?,
        )),
        counter: u64::from_be_bytes(counter.try_into().map_err(|_| Unopened::Malformed)?),
        from,
        to,
    };
    Ok((header, datagram.len() - rest.len()))
}

fn name(bytes: &[u8]) -> Result<(NodeId, &[u8]), Unopened> {
    let (len, rest) = bytes.split_first().ok_or(Unopened::Malformed)?;
    let (name, rest) = rest.split_at_checked(usize::from(*len)).ok_or(Unopened::Malformed)?;
    let name = std::str::from_utf8(name).map_err(|_| Unopened::Malformed)?;
    Ok((NodeId::new(name).map_err(|_| Unopened::Malformed)?, rest))
}

#[cfg(test)]
mod tests;
