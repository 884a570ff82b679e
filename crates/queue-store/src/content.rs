//! Reading a message's content back. Every piece is checked before a byte of it is handed out: a wrong byte is an error,
//! never mail.

use std::sync::Arc;

use bytes::Bytes;
use mail_model::SegmentId;
use queue_format::books::{BodyPlace, Message};
use queue_format::frame;
use queue_format::record::ChunkRef;

use crate::files::QueueFiles;

/// Why content cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The bytes are not those that were written.
    #[error("segment {segment} offset {offset}: the content is damaged")]
    Damaged {
        /// The segment.
        segment: SegmentId,
        /// Where the piece starts.
        offset: u64,
    },
    /// The file cannot be read now.
    #[error("segment {segment}: {what}")]
    Unreadable {
        /// The segment.
        segment: SegmentId,
        /// What the storage says.
        what: String,
    },
}

/// Larger pieces are not read on the way: copying them takes long, too.
const IN_MEMORY_MAX: u32 = 256 << 10;

/// Hands out a message's content piece by piece; at most one piece is in memory.
#[derive(Debug)]
pub struct ContentReader {
    files: Arc<QueueFiles>,
    pieces: std::vec::IntoIter<ChunkRef>,
    len: u64,
}

impl ContentReader {
    pub(crate) fn new(files: Arc<QueueFiles>, message: &Message) -> Self {
        let pieces = match &message.body {
            BodyPlace::Inline { offset, len, crc } => {
                vec![ChunkRef { segment: message.place.segment, offset: *offset, len: *len, crc: *crc }]
            }
            BodyPlace::Chunks(chunks) => chunks.to_vec(),
        };
        let len = pieces.iter().map(|p| u64::from(p.len)).sum();
        Self { files, pieces: pieces.into_iter(), len }
    }

    /// Bytes in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.len
    }

    /// True after the last piece.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.pieces.as_slice().is_empty()
    }

    /// The next piece if it lies in memory and is small, so that nobody waits for a disk. `None` says nothing: ask
    /// [`Self::next_piece`].
    pub fn piece_in_memory(&mut self) -> Option<Bytes> {
        let piece = *self.pieces.as_slice().first()?;
        if piece.len > IN_MEMORY_MAX {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(piece.len).ok()?];
        let file = self.files.reader(piece.segment).ok()?;
        let whole = file.read_cached(piece.offset, &mut bytes) && frame::body_crc(&bytes) == piece.crc;
        whole.then(|| self.pieces.next())?;
        Some(Bytes::from(bytes))
    }

    /// The next piece, at most 1 MiB; `None` after the last. Reads the disk: milliseconds when it is busy.
    pub fn next_piece(&mut self) -> Option<Result<Bytes, ContentError>> {
        let piece = self.pieces.next()?;
        Some(read_piece(&self.files, piece))
    }
}

/// Reads one piece and checks it.
pub(crate) fn read_piece(files: &QueueFiles, piece: ChunkRef) -> Result<Bytes, ContentError> {
    let damaged = ContentError::Damaged { segment: piece.segment, offset: piece.offset };
    // The length comes from disk: it is checked before it sizes anything.
    if piece.len > frame::BODY_LEN_MAX {
        return Err(damaged);
    }
    let unreadable =
        |error: std::io::Error| ContentError::Unreadable { segment: piece.segment, what: error.to_string() };
    let mut bytes = vec![0; piece.len as usize];
    let file = files.storage.open(&files.segment(piece.segment)).map_err(unreadable)?;
    let read = file.read_at(piece.offset, &mut bytes).map_err(unreadable)?;
    if read == bytes.len() && frame::body_crc(&bytes) == piece.crc {
        Ok(Bytes::from(bytes))
    } else {
        Err(damaged)
    }
}
