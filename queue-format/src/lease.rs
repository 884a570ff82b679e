//! The lease file of one epoch: three sectors of 4 KiB, each written by another hand.
//!
//! | sector | written by | when |
//! |---|---|---|
//! | 0 claim | the claimer | before the file has its name; never again |
//! | 1 renewal | the owner of this epoch | every R |
//! | 2 fence | takers of later epochs | once each; any non-zero byte means *fenced* |
//!
//! A torn fence is still a fence. A torn claim cannot be: the file gets its name after it was synced. A torn renewal is
//! an unreadable one, which is *unknown*, never *dead*.

use mail_model::{BootId, Epoch, InstanceId, LeaseState, NodeId, QueueId, Reason, Role, SegmentId, WallTime};

use crate::wire::{DecodeError, Reader, Writer};

/// Bytes of a sector.
pub const SECTOR_LEN: usize = 4096;
/// Offset of the claim.
pub const CLAIM_OFFSET: u64 = 0;
/// Offset of the renewal.
pub const RENEW_OFFSET: u64 = SECTOR_LEN as u64;
/// Offset of the fence.
pub const FENCE_OFFSET: u64 = 2 * SECTOR_LEN as u64;
/// Bytes of a lease file.
pub const LEASE_LEN: u64 = 3 * SECTOR_LEN as u64;

/// One sector.
pub type Sector = [u8; SECTOR_LEN];

const CLAIM_MAGIC: [u8; 4] = *b"MSLC";
const RENEW_MAGIC: [u8; 4] = *b"MSLR";
const FENCE_MAGIC: [u8; 4] = *b"MSLF";

/// Who owns this epoch, and why. Immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The cluster.
    pub cluster: String,
    /// The queue.
    pub queue: QueueId,
    /// The epoch, which is also in the file's name.
    pub epoch: Epoch,
    /// The claimer's node.
    pub owner: NodeId,
    /// The claimer's run.
    pub instance: InstanceId,
    /// The claimer's boot.
    pub boot: BootId,
    /// At home or not.
    pub role: Role,
    /// The epoch before; 0 for the first.
    pub previous: Epoch,
    /// Why.
    pub reason: Reason,
    /// R of the owner, ms.
    pub renew_ms: u32,
    /// W of the owner, ms: takers obey this one, not their own.
    pub window_ms: u32,
    /// For people.
    pub wall: WallTime,
}

/// An owner's sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// Grows by one with each renewal, from 1.
    pub seq: u64,
    /// What the owner says of itself.
    pub state: LeaseState,
    /// True once the owner has sealed and works; a claim alone is not yet an owner at work.
    pub working: bool,
    /// p99.9 of renewals, µs.
    pub io_p999_us: u32,
    /// Up to where its frames are durable.
    pub committed: (SegmentId, u64),
    /// Recipients in the queue, for display.
    pub queued: u64,
    /// For people.
    pub wall: WallTime,
}

/// Who fenced an epoch. For people: any non-zero byte is a fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The taker's epoch.
    pub by_epoch: Epoch,
    /// The taker's node.
    pub by_node: NodeId,
}

fn sealed(magic: [u8; 4], fields: impl FnOnce(&mut Writer<'_>)) -> Box<Sector> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&[0; 4]);
    let mut w = Writer(&mut bytes);
    w.u16(crate::FORMAT_VERSION);
    fields(&mut w);
    let mut sector = Box::new([0; SECTOR_LEN]);
    for (slot, byte) in sector.iter_mut().zip(&bytes) {
        *slot = *byte;
    }
    // The crc covers the zero padding too, so a half-written sector never passes.
    let crc = crc32c::crc32c(sector.get(8..).unwrap_or_default()).to_le_bytes();
    for (slot, byte) in sector.iter_mut().skip(4).zip(crc) {
        *slot = byte;
    }
    sector
}

fn opened<'a>(magic: [u8; 4], sector: &'a [u8], what: &'static str) -> Result<Reader<'a>, DecodeError> {
    if sector.len() != SECTOR_LEN {
        return Err(DecodeError::Short(what));
    }
    let mut r = Reader(sector);
    if r.bytes(4, what)? != magic {
        return Err(DecodeError::Value(what));
    }
    let crc = r.u32(what)?;
    if crc32c::crc32c(r.0) != crc {
        return Err(DecodeError::Value("lease checksum"));
    }
    let version = r.u16("lease version")?;
    if version != crate::FORMAT_VERSION {
        return Err(DecodeError::Version { found: version, known: crate::FORMAT_VERSION });
    }
    Ok(r)
}

impl Claim {
    /// The sector.
    #[must_use]
    pub fn encode(&self) -> Box<Sector> {
        sealed(CLAIM_MAGIC, |w| {
            w.text(&self.cluster);
            w.text(self.queue.as_str());
            w.u64(self.epoch.0);
            w.text(self.owner.as_str());
            w.u128(self.instance.0);
            w.u128(self.boot.0);
            w.u8(self.role.code());
            w.u64(self.previous.0);
            w.u8(self.reason.code());
            w.u32(self.renew_ms);
            w.u32(self.window_ms);
            w.u64(self.wall.0);
        })
    }

    /// Reads a sector.
    pub fn decode(sector: &[u8]) -> Result<Self, DecodeError> {
        let mut r = opened(CLAIM_MAGIC, sector, "claim")?;
        Ok(Self {
            cluster: r.text("cluster")?.to_owned(),
            queue: r.text("queue")?.parse().map_err(|_| DecodeError::Value("queue"))?,
            epoch: Epoch(r.u64("epoch")?),
            owner: NodeId::new(r.text("owner")?).map_err(|_| DecodeError::Value("owner"))?,
            instance: InstanceId(r.u128("instance")?),
            boot: BootId(r.u128("boot")?),
            role: Role::from_code(r.u8("role")?).ok_or(DecodeError::Value("role"))?,
            previous: Epoch(r.u64("previous epoch")?),
            reason: Reason::from_code(r.u8("reason")?).ok_or(DecodeError::Value("reason"))?,
            renew_ms: r.u32("renew interval")?,
            window_ms: r.u32("window")?,
            wall: WallTime(r.u64("time of claim")?),
        })
    }
}

impl Renewal {
    /// The sector.
    #[must_use]
    pub fn encode(&self) -> Box<Sector> {
        sealed(RENEW_MAGIC, |w| {
            w.u64(self.seq);
            w.u8(self.state.code());
            w.u8(u8::from(self.working));
            w.u32(self.io_p999_us);
            w.u64(self.committed.0.epoch.0);
            w.u32(self.committed.0.number);
            w.u64(self.committed.1);
            w.u64(self.queued);
            w.u64(self.wall.0);
        })
    }

    /// Reads a sector. An all-zero one, before the first renewal, is `None`.
    pub fn decode(sector: &[u8]) -> Result<Option<Self>, DecodeError> {
        if sector.len() == SECTOR_LEN && sector.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let mut r = opened(RENEW_MAGIC, sector, "renewal")?;
        Ok(Some(Self {
            seq: r.u64("renewal number")?,
            state: LeaseState::from_code(r.u8("lease state")?).ok_or(DecodeError::Value("lease state"))?,
            working: r.u8("working")? != 0,
            io_p999_us: r.u32("io latency")?,
            committed: (
                SegmentId { epoch: Epoch(r.u64("committed epoch")?), number: r.u32("committed segment")? },
                r.u64("committed offset")?,
            ),
            queued: r.u64("queued")?,
            wall: WallTime(r.u64("time of renewal")?),
        }))
    }
}

impl Fence {
    /// The sector; never all zero.
    #[must_use]
    pub fn encode(&self) -> Box<Sector> {
        sealed(FENCE_MAGIC, |w| {
            w.u64(self.by_epoch.0);
            w.text(self.by_node.as_str());
        })
    }

    /// True if these bytes fence their epoch: any byte that is not zero, however torn.
    #[must_use]
    pub fn is_fenced(sector: &[u8]) -> bool {
        sector.iter().any(|b| *b != 0)
    }

    /// Who wrote it, if it can be read.
    pub fn decode(sector: &[u8]) -> Result<Self, DecodeError> {
        let mut r = opened(FENCE_MAGIC, sector, "fence")?;
        Ok(Self {
            by_epoch: Epoch(r.u64("fencing epoch")?),
            by_node: NodeId::new(r.text("fencing node")?).map_err(|_| DecodeError::Value("fencing node"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim {
        Claim {
            cluster: "demo".into(),
            queue: "a".parse().unwrap(),
            epoch: Epoch(7),
            owner: NodeId::new("b").unwrap(),
            instance: InstanceId(1 << 100),
            boot: BootId(3),
            role: Role::Secondary,
            previous: Epoch(6),
            reason: Reason::Expired,
            renew_ms: 300,
            window_ms: 2000,
            wall: WallTime(1_700_000_000_000),
        }
    }

    #[test]
    fn every_sector_reads_back() {
        assert_eq!(Claim::decode(&claim().encode()[..]).unwrap(), claim());
        let renewal = Renewal {
            seq: 412,
            state: LeaseState::Draining,
            working: true,
            io_p999_us: 900,
            committed: (SegmentId { epoch: Epoch(7), number: 2 }, 65_536),
            queued: 12,
            wall: WallTime(5),
        };
        assert_eq!(Renewal::decode(&renewal.encode()[..]).unwrap(), Some(renewal));
        assert_eq!(Renewal::decode(&[0; SECTOR_LEN]).unwrap(), None);
        let fence = Fence { by_epoch: Epoch(8), by_node: NodeId::new("b").unwrap() };
        assert_eq!(Fence::decode(&fence.encode()[..]).unwrap(), fence);
    }

    #[test]
    fn a_torn_fence_is_still_a_fence() {
        let fence = Fence { by_epoch: Epoch(8), by_node: NodeId::new("b").unwrap() }.encode();
        let mut torn = [0; SECTOR_LEN];
        torn[..2].copy_from_slice(&fence[..2]);
        assert!(Fence::is_fenced(&torn));
        assert!(!Fence::is_fenced(&[0; SECTOR_LEN]));
    }

    #[test]
    fn a_torn_renewal_is_unreadable_not_old() {
        let mut sector = claim().encode();
        sector[100] ^= 1;
        assert!(Claim::decode(&sector[..]).is_err());
        assert!(Renewal::decode(&sector[..]).is_err());
    }
}
