//! The names of files in a queue directory. Fixed width, so that names sort as numbers do.
//!
//! ```text
//! Q/lease/epoch-0000000007            the lease of epoch 7: three sectors, never unlinked or renamed
//! Q/segments/0000000007-0000000003    the fourth segment that the owner of epoch 7 opened
//! Q/digests/0000000007-0000000003     what recovery needs of that segment, without the bodies
//! Q/evidence/…                        damaged or late bytes, set aside for people
//! Q/lock                              lock of the running instance; never trusted for safety
//! ```

use mail_model::{Epoch, SegmentId};

/// Directory of lease files.
pub const LEASE_DIR: &str = "lease";
/// Directory of segments.
pub const SEGMENT_DIR: &str = "segments";
/// Directory of digests (checkpoints of closed segments).
pub const DIGEST_DIR: &str = "digests";
/// Directory of bytes set aside.
pub const EVIDENCE_DIR: &str = "evidence";
/// Lock of the running instance.
pub const LOCK_FILE: &str = "lock";

/// `epoch-0000000007`.
#[must_use]
pub fn lease_file(epoch: Epoch) -> String {
    format!("epoch-{:010}", epoch.0)
}

/// The epoch in the name of a lease file; `None` for any other name.
#[must_use]
pub fn parse_lease_file(name: &str) -> Option<Epoch> {
    number(name.strip_prefix("epoch-")?).map(Epoch)
}

/// `0000000007-0000000003`: the name of a segment and of its digest.
#[must_use]
pub fn segment_file(segment: SegmentId) -> String {
    format!("{:010}-{:010}", segment.epoch.0, segment.number)
}

/// The segment in a file name; `None` for any other name.
#[must_use]
pub fn parse_segment_file(name: &str) -> Option<SegmentId> {
    let (epoch, part) = name.split_once('-')?;
    Some(SegmentId { epoch: Epoch(number(epoch)?), number: u32::try_from(number(part)?).ok()? })
}

fn number(digits: &str) -> Option<u64> {
    let plain = digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit());
    let value: u64 = plain.then(|| digits.parse().ok())??;
    // One number has one name.
    (format!("{value:010}") == digits).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_nothing_else_passes_for_one() {
        let segment = SegmentId { epoch: Epoch(7), number: 3 };
        assert_eq!(segment_file(segment), "0000000007-0000000003");
        assert_eq!(parse_segment_file("0000000007-0000000003"), Some(segment));
        assert_eq!(parse_lease_file(&lease_file(Epoch(12))), Some(Epoch(12)));
        for bad in ["epoch-7", "epoch-00000000070", "epoch-+000000007", ".tmp", "epoch-0000000007.tmp"] {
            assert_eq!(parse_lease_file(bad), None, "{bad}");
        }
    }
}
