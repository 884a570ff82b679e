//! The cluster's heartbeat key, and the key of one run of one sender made from it.

use std::fmt;

use mail_model::{InstanceId, NodeId};

const CONTEXT: &str = "mailswitch 2026 heartbeat v1";
const CONTROL: &str = "mailswitch 2026 control v1";

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster key is not 64 hexadecimal digits and a newline; make one with: switchctl cluster keygen"
)]
pub struct KeyError;

/// The secret all nodes share. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey([u8; 32]);

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(redacted)")
    }
}

impl ClusterKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of one run of one sender in one cluster: so a counter that starts again never meets the same key.
    pub(crate) fn derive(&self, cluster: &str, sender: &NodeId, incarnation: InstanceId) -> [u8; 32] {
        let run = incarnation.0.to_be_bytes();
        blake3::derive_key(CONTEXT, &self.material(&run, cluster, sender))
    }

    /// The 32 octets from which a node makes the key pair (Ed25519) by which others know it on control connections.
    #[must_use]
    pub fn control_seed(&self, cluster: &str, node: &NodeId) -> [u8; 32] {
        blake3::derive_key(CONTROL, &self.material(&[], cluster, node))
    }

    fn material(&self, run: &[u8], cluster: &str, node: &NodeId) -> Vec<u8> {
        let mut material = Vec::with_capacity(128);
        material.extend_from_slice(&self.0);
        material.extend_from_slice(run);
        // Lengths first, so that no two pairs of names give the same bytes.
        for name in [cluster, node.as_str()] {
            material.extend_from_slice(&u64::try_from(name.len()).unwrap_or(u64::MAX).to_be_bytes());
            material.extend_from_slice(name.as_bytes());
        }
        material
    }
}

/// Reads the text of a key file: 64 hexadecimal digits and an optional newline.
pub fn parse_key(text: &str) -> Result<ClusterKey, KeyError> {
    let digits = text.strip_suffix('\n').unwrap_or(text);
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(KeyError);
    }
    let mut bytes = [0; 32];
    for (slot, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        let pair = digits.get(at..at + 2).ok_or(KeyError)?;
        *slot = u8::from_str_radix(pair, 16).map_err(|_| KeyError)?;
    }
    Ok(ClusterKey(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sixty_four_digits_and_is_never_shown() {
        let key = parse_key(&format!("{}\n", "0f".repeat(32))).unwrap();
        assert_eq!(key, ClusterKey::new([15; 32]));
        assert_eq!(format!("{key:?}"), "ClusterKey(redacted)");
        for bad in [String::new(), "0f".repeat(31), "0g".repeat(32), "+f".repeat(32), "é".repeat(32)] {
            assert!(parse_key(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_run_of_each_sender_of_each_cluster_has_its_own_key() {
        let key = ClusterKey::new([1; 32]);
        let node = |name: &str| NodeId::new(name).unwrap();
        let first = key.derive("demo", &node("a"), InstanceId(1));
        assert_ne!(first, key.derive("demo", &node("a"), InstanceId(2)));
        assert_ne!(first, key.derive("demo", &node("b"), InstanceId(1)));
        assert_ne!(first, key.derive("dem", &node("oa"), InstanceId(1)));
    }
}
