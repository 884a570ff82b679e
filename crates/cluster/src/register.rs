//! Who may promote a device that one node mounts at a time: one small register for each queue, kept outside of all of its
//! copies by an arbiter (a witness, or etcd).
//!
//! | change | who | what must hold |
//! |---|---|---|
//! | [`Register::first`] | the home node | there is none yet |
//! | [`Register::taken`] | a taker | its copy is one of the current ones |
//! | [`Register::alone`] | the owner | its peer is gone: from now on its copy is the only current one |
//! | [`Register::joined`] | the owner | the peer's copy is whole again |
//! | [`Register::given`] | the owner, which released the device | the next owner's copy is current |
//!
//! Each is a compare-and-swap on the [`Version`] that was read, so no change rests on what somebody else changed meanwhile.
//! An effect of an owner needs [`Register::stands`] of a read that began after its `fdatasync`.

use std::collections::BTreeSet;

use mail_model::NodeId;
use serde::{Deserialize, Serialize};

/// Which of all contents of one register. 0: there is none yet. Grows with each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

/// The register of one queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The only node that may promote the device and act on it.
    pub owner: NodeId,
    /// Grows by one with each change of the owner. Starts at 1.
    pub term: u64,
    /// Nodes whose copy has everything that the owner may have acknowledged. Never empty.
    pub copies: BTreeSet<NodeId>,
}

/// A register as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Entry {
    /// For the next compare-and-swap.
    pub version: Version,
    /// `None` before the first claim.
    pub register: Option<Register>,
}

/// Why a change may not even be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unfit {
    /// Only the owner may do this.
    #[error("another node owns the queue by the arbiter's register")]
    NotOwner,
    /// Mail that was acknowledged may be missing there.
    #[error("its copy is not one of the current ones by the arbiter's register")]
    NotCurrent,
}

impl Register {
    /// The first content: the home node's, and only its copy is known to be whole.
    #[must_use]
    pub fn first(home: &NodeId) -> Self {
        Self { owner: home.clone(), term: 1, copies: BTreeSet::from([home.clone()]) }
    }

    /// True if `node` is the owner by `term`.
    #[must_use]
    pub fn stands(&self, node: &NodeId, term: u64) -> bool {
        self.owner == *node && self.term == term
    }

    /// True if the copy of `node` is whole.
    #[must_use]
    pub fn is_current(&self, node: &NodeId) -> bool {
        self.copies.contains(node)
    }

    /// `taker` owns the queue. The old owner's copy stays current: what it writes from now on is acknowledged to nobody.
    pub fn taken(&self, taker: &NodeId) -> Result<Self, Unfit> {
        if !self.is_current(taker) {
            return Err(Unfit::NotCurrent);
        }
        Ok(Self { owner: taker.clone(), term: self.term + 1, copies: self.copies.clone() })
    }

    /// The owner's is the only current copy.
    pub fn alone(&self, owner: &NodeId) -> Result<Self, Unfit> {
        if self.owner != *owner {
            return Err(Unfit::NotOwner);
        }
        if !self.is_current(owner) {
            return Err(Unfit::NotCurrent);
        }
        Ok(Self { copies: BTreeSet::from([owner.clone()]), ..self.clone() })
    }

    /// The copy of `peer` is whole, too. The version that it is swapped against must have been read *before* the owner
    /// looked at its device: a copy that was left behind meanwhile changed the version.
    pub fn joined(&self, owner: &NodeId, peer: &NodeId) -> Result<Self, Unfit> {
        if self.owner != *owner {
            return Err(Unfit::NotOwner);
        }
        let mut copies = self.copies.clone();
        copies.insert(peer.clone());
        Ok(Self { copies, ..self.clone() })
    }

    /// The owner, which has released the device, makes `next` the owner.
    pub fn given(&self, owner: &NodeId, next: &NodeId) -> Result<Self, Unfit> {
        if self.owner != *owner {
            return Err(Unfit::NotOwner);
        }
        self.taken(next)
    }
}

impl Entry {
    /// The entry after a swap against `expected`, or `None` if this is another one: whoever keeps registers swaps by this.
    #[must_use]
    pub fn swapped(&self, expected: Version, register: Register) -> Option<Self> {
        let version = Version(self.version.0.checked_add(1)?);
        (self.version == expected).then_some(Self { version, register: Some(register) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn both() -> Register {
        Register::first(&node("a")).joined(&node("a"), &node("b")).unwrap()
    }

    #[test]
    fn a_copy_that_is_not_current_never_takes() {
        let first = Register::first(&node("a"));
        assert_eq!(first.taken(&node("b")), Err(Unfit::NotCurrent));
        assert_eq!(first.given(&node("a"), &node("b")), Err(Unfit::NotCurrent));
        assert_eq!(both().alone(&node("a")).unwrap().taken(&node("b")), Err(Unfit::NotCurrent));
        let taken = both().taken(&node("b")).unwrap();
        assert!(taken.stands(&node("b"), 2) && !taken.stands(&node("a"), 1));
    }

    #[test]
    fn only_the_owner_says_which_copies_are_current() {
        let taken = both().taken(&node("b")).unwrap();
        assert_eq!(taken.alone(&node("a")), Err(Unfit::NotOwner));
        assert_eq!(taken.joined(&node("a"), &node("a")), Err(Unfit::NotOwner));
        assert_eq!(taken.given(&node("a"), &node("a")), Err(Unfit::NotOwner));
        let alone = taken.alone(&node("b")).unwrap();
        assert_eq!(alone.copies, BTreeSet::from([node("b")]));
        assert_eq!(alone.term, 2);
    }

    #[test]
    fn a_swap_against_another_version_changes_nothing() {
        let none = Entry::default();
        let first = none.swapped(Version(0), both()).unwrap();
        assert_eq!(first.version, Version(1));
        assert_eq!(first.swapped(Version(0), both()), None);
        let second = first.swapped(Version(1), both().alone(&node("a")).unwrap()).unwrap();
        assert_eq!(second.version, Version(2));
    }

    #[test]
    fn its_bytes_are_read_back_and_unknown_ones_are_refused() {
        let text = serde_json::to_string(&both()).unwrap();
        assert_eq!(text, r#"{"owner":"a","term":1,"copies":["a","b"]}"#);
        assert_eq!(serde_json::from_str::<Register>(&text).unwrap(), both());
        assert!(serde_json::from_str::<Register>(&text.replace("term", "turn")).is_err());
    }
}
