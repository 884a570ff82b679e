//! Names of nodes, queues, ownerships and messages. Each is a newtype, so that none is taken for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Node and queue names: 1 to 32 of `a-z 0-9 -`, not starting or ending with `-`.
    #[error("'{0}' is not a node name: use 1 to 32 of a-z, 0-9 and '-', with a letter or digit at both ends")]
    Name(String),
    /// Message ids look like `a-7-1f`.
    #[error("'{0}' is not a message id: it looks like a-7-1f (queue, epoch, sequence)")]
    Message(String),
}

/// A node of the cluster. 1 to 32 bytes of `a-z 0-9 -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(String);

impl NodeId {
    /// Checks `name` and makes it an id.
    pub fn new(name: impl Into<String>) -> Result<Self, IdError> {
        let name = name.into();
        let bytes = name.as_bytes();
        let charset = bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let ends = bytes.first().is_some_and(|b| *b != b'-') && bytes.last().is_some_and(|b| *b != b'-');
        if charset && ends && bytes.len() <= 32 { Ok(Self(name)) } else { Err(IdError::Name(name)) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeId {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        Self::new(s)
    }
}

impl TryFrom<String> for NodeId {
    type Error = IdError;
    fn try_from(s: String) -> Result<Self, IdError> {
        Self::new(s)
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0
    }
}

/// A queue: one directory, owned by one instance at a time. It bears the name of the node it belongs to at home.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueueId(NodeId);

impl QueueId {
    /// The queue of `home`.
    #[must_use]
    pub fn of(home: NodeId) -> Self {
        Self(home)
    }

    /// The node this queue belongs to when nothing is broken.
    #[must_use]
    pub fn home(&self) -> &NodeId {
        &self.0
    }

    /// The name as text, which is also the directory's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for QueueId {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        NodeId::new(s).map(Self)
    }
}

/// The number of an ownership of one queue. Grows by one with each claim, starts at 1, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The ownership after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A segment file: the `number`-th (from 0) that the owner of `epoch` opened. Orders as the queue's history does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct SegmentId {
    /// The ownership that wrote it.
    pub epoch: Epoch,
    /// From 0, without gaps.
    pub number: u32,
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

/// A message, unique in the cluster and for all time: the epoch is never reused, the sequence never within it.
/// Shown as `QUEUE-EPOCH-SEQUENCE`, epoch and sequence in lower-case hexadecimal. Survives takeover and hand-back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    /// The queue that accepted it.
    pub queue: QueueId,
    /// The ownership under which it was accepted.
    pub epoch: Epoch,
    /// From 1 within the epoch.
    pub sequence: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{:x}", self.queue, self.epoch.0, self.sequence)
    }
}

impl FromStr for MessageId {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        let fault = || IdError::Message(s.to_owned());
        let (rest, sequence) = s.rsplit_once('-').ok_or_else(fault)?;
        let (queue, epoch) = rest.rsplit_once('-').ok_or_else(fault)?;
        Ok(Self {
            queue: queue.parse().map_err(|_| fault())?,
            epoch: Epoch(u64::from_str_radix(epoch, 16).map_err(|_| fault())?),
            sequence: u64::from_str_radix(sequence, 16).map_err(|_| fault())?,
        })
    }
}

impl Serialize for MessageId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The number of a delivery attempt, from 1, unique within one epoch of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptNumber(pub u64);

/// One run of one program: random, made at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub u128);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One boot of one machine, as its kernel names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub u128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_reads_back_as_it_was_written() {
        let id = MessageId { queue: "mx-1".parse().unwrap(), epoch: Epoch(26), sequence: 4096 };
        assert_eq!(id.to_string(), "mx-1-1a-1000");
        assert_eq!("mx-1-1a-1000".parse::<MessageId>().unwrap(), id);
    }

    #[test]
    fn names_outside_the_alphabet_are_refused() {
        for bad in ["", "-a", "a-", "A", "a/b", "..", "a b", &"x".repeat(33)] {
            assert!(NodeId::new(bad).is_err(), "{bad:?}");
        }
    }
}
