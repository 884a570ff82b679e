//! The digest of a closed segment: its frames without their bodies. The queue's checkpoint.
//!
//! ```text
//! "MSWD" | crc32c of all that follows | version u16 | segment | segment length u64 | next number u64 | chain u32
//! then for each frame: offset u64, the 64 header bytes, the meta
//! ```
//!
//! A digest is derived and immutable. If it is missing, bad, or ends elsewhere than the log says its segment ends, the
//! segment itself is read: a digest can never add to a queue.

use mail_model::{Epoch, SegmentId};

use crate::frame::{self, Chain, FrameHeader, HEADER_LEN};
use crate::scan::Place;
use crate::wire::{DecodeError, Reader, Writer};

const MAGIC: &[u8] = b"MSWD";

/// Collects a digest while its segment is written.
#[derive(Debug, Clone)]
pub struct DigestBuilder {
    frames: Vec<u8>,
}

impl Default for DigestBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl DigestBuilder {
    /// An empty digest.
    #[must_use]
    pub fn new() -> Self {
        Self { frames: Vec::new() }
    }

    /// Adds a frame: `frame` is its header and meta as written (more bytes behind them are ignored).
    pub fn add(&mut self, offset: u64, header: &FrameHeader, frame: &[u8]) {
        let len = HEADER_LEN + header.meta_len as usize;
        self.frames.extend_from_slice(&offset.to_le_bytes());
        self.frames.extend_from_slice(frame.get(..len).unwrap_or(frame));
    }

    /// How much was added so far, for [`Self::rewind`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.frames.len()
    }

    /// Forgets what was added since `mark`.
    pub fn rewind(&mut self, mark: usize) {
        self.frames.truncate(mark);
    }

    /// The digest of a segment that ends at `len` with `end` as the next frame's place in the chain.
    #[must_use]
    pub fn finish(self, segment: SegmentId, len: u64, end: Chain) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.frames.len() + 64);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; 4]);
        let mut w = Writer(&mut out);
        w.u16(crate::FORMAT_VERSION);
        w.u64(segment.epoch.0);
        w.u32(segment.number);
        w.u64(len);
        w.u64(end.number);
        w.u32(end.crc);
        out.extend_from_slice(&self.frames);
        let crc = crc32c::crc32c(out.get(8..).unwrap_or_default()).to_le_bytes();
        for (slot, byte) in out.iter_mut().skip(4).zip(crc) {
            *slot = byte;
        }
        out
    }
}

/// A digest that was read and is whole.
#[derive(Debug)]
pub struct Digest<'a> {
    /// Its segment.
    pub segment: SegmentId,
    /// Bytes of the segment that count.
    pub len: u64,
    /// The frame that would come next.
    pub end: Chain,
    frames: &'a [u8],
}

impl<'a> Digest<'a> {
    /// Reads a digest; any flaw is an error, and the caller reads the segment instead.
    pub fn open(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader(bytes);
        if r.bytes(4, "digest")? != MAGIC {
            return Err(DecodeError::Value("digest"));
        }
        if r.u32("digest checksum")? != crc32c::crc32c(r.0) {
            return Err(DecodeError::Value("digest checksum"));
        }
        if r.u16("digest version")? != crate::FORMAT_VERSION {
            return Err(DecodeError::Value("digest version"));
        }
        let segment = SegmentId { epoch: Epoch(r.u64("digest epoch")?), number: r.u32("digest segment")? };
        let len = r.u64("segment length")?;
        let end = Chain { segment, number: r.u64("next number")?, crc: r.u32("chain")?, cookie: 0 };
        Ok(Self { segment, len, end, frames: r.0 })
    }

    /// Every frame, in order, as a scan of the segment would hand it out. The first flaw is the last that is handed out: what
    /// was made of the frames before it is of no use then.
    #[must_use]
    pub fn frames(&self) -> Frames<'a> {
        Frames { segment: self.segment, rest: Reader(self.frames) }
    }
}

/// The frames of a digest, one after the other.
#[derive(Debug)]
pub struct Frames<'a> {
    segment: SegmentId,
    rest: Reader<'a>,
}

/// A frame without its body: where it stands, its header, and its meta.
pub type Frame<'a> = (Place, FrameHeader, &'a [u8]);

impl<'a> Frames<'a> {
    fn take(&mut self) -> Result<Frame<'a>, DecodeError> {
        let offset = self.rest.u64("frame offset")?;
        let header = frame::peek(self.rest.0).map_err(|_| DecodeError::Value("frame header"))?;
        self.rest.bytes(HEADER_LEN, "frame header")?;
        let meta = self.rest.bytes(header.meta_len as usize, "frame meta")?;
        Ok((Place { segment: self.segment, offset }, header, meta))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.0.is_empty() {
            return None;
        }
        let frame = self.take();
        if frame.is_err() {
            self.rest.0 = &[];
        }
        Some(frame)
    }
}
