//! A frame: the unit of a segment. A header of fixed size, a small *meta* part (a record), and an optional *body*
//! (message bytes) that recovery can step over without reading.
//!
//! ```text
//!  0 magic "MSWF"      16 body crc32c      40 durable: every frame of this epoch with a lower number was on stable
//!  4 crc32c of 8..56   20 segment number      storage when this frame was written
//!    and the meta      24 epoch            48 chain: header crc of the frame before, 0 for the first of an epoch
//!  8 meta length       32 frame number     52 kind   53..56 zero
//! 12 body length                           56 meta, then body
//! ```
//!
//! The header crc covers the body's crc and the chain, so one number vouches for the whole history of an epoch.
//! `durable` tells a torn tail from rot: a bad frame below the `durable` of a later good one had been on stable storage.

use mail_model::{Epoch, SegmentId};

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"MSWF";
/// Bytes before the meta.
pub const HEADER_LEN: usize = 64;
/// The longest meta. An envelope of 1,000 recipients takes about 100 KiB; 65,535 of the longest about 40 MiB.
pub const META_LEN_MAX: u32 = 48 << 20;
/// The longest body of one frame. Longer messages are written as several chunks.
pub const BODY_LEN_MAX: u32 = 1 << 20;

/// What a frame says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The segment it was written to.
    pub segment: SegmentId,
    /// Number within the epoch, from 0, over all its segments, without gaps.
    pub number: u64,
    /// Every frame of the epoch with a lower number was durable when this one was written.
    pub durable: u64,
    /// Header crc of the frame before; 0 for the first of the epoch.
    pub chain: u32,
    /// Crc32c of header and meta: the next frame's `chain`.
    pub crc: u32,
    /// Bytes of meta.
    pub meta_len: u32,
    /// Bytes of body.
    pub body_len: u32,
    /// Crc32c of the body.
    pub body_crc: u32,
    /// The kind of record, see [`crate::record::Kind`].
    pub kind: u8,
    /// Drawn by chance for its epoch.
    pub cookie: u64,
}

impl FrameHeader {
    /// Bytes of the whole frame.
    #[must_use]
    pub fn frame_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.meta_len) + u64::from(self.body_len)
    }

    /// Where the body starts, counted from the start of the frame.
    #[must_use]
    pub fn body_offset(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.meta_len)
    }
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than the frame needs.
    #[error("cut short")]
    Short,
    /// All zero: space that was set aside and never written.
    #[error("nothing written here")]
    Blank,
    /// Not the magic.
    #[error("no frame starts here")]
    Magic,
    /// A length beyond the limits.
    #[error("impossible length")]
    Length,
    /// Checksum of header and meta.
    #[error("header checksum")]
    Crc,
    /// Checksum of the body.
    #[error("body checksum")]
    BodyCrc,
}

/// Where the next frame of an epoch goes: the running end of its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// The segment being written.
    pub segment: SegmentId,
    /// Number of the next frame.
    pub number: u64,
    /// Crc of the last frame.
    pub crc: u32,
    /// What the epoch's frames bear. Of no meaning where frames are only read.
    pub cookie: u64,
}

impl Chain {
    /// The start of an epoch, to be compared with what was written.
    #[must_use]
    pub fn start(epoch: Epoch) -> Self {
        Self::begin(epoch, 0)
    }

    /// The start of an epoch whose frames will bear `cookie`.
    #[must_use]
    pub fn begin(epoch: Epoch, cookie: u64) -> Self {
        Self { segment: SegmentId { epoch, number: 0 }, number: 0, crc: 0, cookie }
    }

    /// True if `header` is the frame that comes next.
    #[must_use]
    pub fn is_next(&self, header: &FrameHeader) -> bool {
        header.segment == self.segment && header.number == self.number && header.chain == self.crc
    }

    /// Steps over `header`.
    pub fn advance(&mut self, header: &FrameHeader) {
        self.number = header.number + 1;
        self.crc = header.crc;
    }

    /// Appends a frame to `out` and steps over it. The body itself is *not* copied: the caller writes its bytes right
    /// after. `durable` is the lowest frame number that is not yet known to be on stable storage.
    pub fn encode(
        &mut self,
        kind: u8,
        meta: &[u8],
        body: &[u8],
        durable: u64,
        out: &mut Vec<u8>,
    ) -> FrameHeader {
        let mut header = FrameHeader {
            segment: self.segment,
            number: self.number,
            durable,
            chain: self.crc,
            crc: 0,
            meta_len: u32::try_from(meta.len()).unwrap_or(u32::MAX),
            body_len: u32::try_from(body.len()).unwrap_or(u32::MAX),
            body_crc: body_crc(body),
            kind,
            cookie: self.cookie,
        };
        let tail = tail_bytes(&header);
        header.crc = crc32c::crc32c_append(crc32c::crc32c(tail.as_flattened()), meta);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&header.crc.to_le_bytes());
        out.extend_from_slice(tail.as_flattened());
        out.extend_from_slice(meta);
        self.advance(&header);
        header
    }
}

/// Header bytes 8 to 64, which the crc covers.
fn tail_bytes(header: &FrameHeader) -> [[u8; 8]; 7] {
    let pair = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    let words = [
        pair(header.meta_len, header.body_len),
        pair(header.body_crc, header.segment.number),
        header.segment.epoch.0,
        header.number,
        header.durable,
        pair(header.chain, u32::from(header.kind)),
        header.cookie,
    ];
    words.map(u64::to_le_bytes)
}

/// Reads the header at the start of `bytes`, without checking its crc (which needs the meta). Lengths are within the limits.
pub fn peek(bytes: &[u8]) -> Result<FrameHeader, FrameError> {
    let head: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(FrameError::Short)?;
    if head.iter().all(|b| *b == 0) {
        return Err(FrameError::Blank);
    }
    let mut fields = crate::wire::Reader(head);
    let short = |_| FrameError::Short;
    if fields.bytes(4, "magic").map_err(short)? != MAGIC {
        return Err(FrameError::Magic);
    }
    let crc = fields.u32("crc").map_err(short)?;
    let meta_len = fields.u32("meta length").map_err(short)?;
    let body_len = fields.u32("body length").map_err(short)?;
    let body_crc = fields.u32("body crc").map_err(short)?;
    let number = fields.u32("segment").map_err(short)?;
    let epoch = Epoch(fields.u64("epoch").map_err(short)?);
    let header = FrameHeader {
        segment: SegmentId { epoch, number },
        number: fields.u64("number").map_err(short)?,
        durable: fields.u64("durable").map_err(short)?,
        chain: fields.u32("chain").map_err(short)?,
        crc,
        meta_len,
        body_len,
        body_crc,
        kind: fields.bytes(4, "kind").map_err(short)?.first().copied().unwrap_or(0),
        cookie: fields.u64("cookie").map_err(short)?,
    };
    if meta_len > META_LEN_MAX || body_len > BODY_LEN_MAX {
        return Err(FrameError::Length);
    }
    Ok(header)
}

/// Checks `meta` against the header it came with.
pub fn check_meta(header: &FrameHeader, meta: &[u8]) -> Result<(), FrameError> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(tail_bytes(header).as_flattened()), meta);
    if crc == header.crc { Ok(()) } else { Err(FrameError::Crc) }
}

/// The checksum of a body, crc32c.
#[must_use]
pub fn body_crc(body: &[u8]) -> u32 {
    crc32c::crc32c(body)
}

/// Checks `body` against the header it came with.
pub fn check_body(header: &FrameHeader, body: &[u8]) -> Result<(), FrameError> {
    if body.len() == header.body_len as usize && body_crc(body) == header.body_crc {
        Ok(())
    } else {
        Err(FrameError::BodyCrc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_frames() -> (Vec<u8>, FrameHeader, FrameHeader) {
        let mut chain = Chain::start(Epoch(7));
        let mut out = Vec::new();
        let first = chain.encode(1, b"meta", b"", 0, &mut out);
        let second = chain.encode(3, b"more", b"body", 1, &mut out);
        out.extend_from_slice(b"body");
        (out, first, second)
    }

    #[test]
    fn a_frame_reads_back_and_names_the_one_before() {
        let (bytes, first, second) = two_frames();
        let read = peek(&bytes).unwrap();
        assert_eq!(read, first);
        check_meta(&read, &bytes[HEADER_LEN..HEADER_LEN + 4]).unwrap();
        let rest = &bytes[usize::try_from(first.frame_len()).unwrap()..];
        let read = peek(rest).unwrap();
        assert_eq!(read, second);
        assert_eq!((read.chain, read.number, read.durable), (first.crc, 1, 1));
        check_body(&read, &rest[HEADER_LEN + 4..]).unwrap();
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (bytes, first, _) = two_frames();
        let len = usize::try_from(first.frame_len()).unwrap();
        for bit in 0..len * 8 {
            let mut bad = bytes[..len].to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            // The three padding bytes are not read back, so a flip there changes nothing that is used.
            let padding = (53..56).contains(&(bit / 8));
            let good = peek(&bad).is_ok_and(|h| {
                let end = HEADER_LEN + h.meta_len as usize;
                bad.get(HEADER_LEN..end).is_some_and(|meta| check_meta(&h, meta).is_ok())
            });
            assert_eq!(good, padding, "bit {bit}");
        }
    }
}
