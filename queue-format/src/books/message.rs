//! A live message, as the books hand it out.

use mail_model::{Reply, WallTime};

use crate::frame::FrameHeader;
use crate::record::{ChunkRef, Content, RecipientState};
use crate::scan::Place;

/// One recipient's standing, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub state: RecipientState,
    /// Attempts that ended.
    pub attempts: u16,
    /// Not before.
    pub due: WallTime,
    /// The last thing that was said about it.
    pub last_reply: Option<Box<Reply>>,
    /// Its sender was told that it is late.
    pub warned: bool,
    /// Its last attempt ended in doubt.
    pub doubtful: bool,
    /// Attempts, without one that ended in between, that were open when their owner died.
    pub crashes: u8,
    /// Where it goes whatever its route says, if an operator said so.
    pub redirect: Option<Box<str>>,
}

/// Where a message's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyPlace {
    /// The body of its own frame.
    Inline {
        /// Where it starts in the segment of [`Message::place`].
        offset: u64,
        /// Bytes.
        len: u32,
        /// Crc32c.
        crc: u32,
    },
    /// Pieces, in order.
    Chunks(Box<[ChunkRef]>),
}

impl BodyPlace {
    /// Where the content of a message is whose frame stands at `place`.
    pub(super) fn of(place: Place, header: &FrameHeader, content: Content) -> Self {
        match content {
            Content::Inline => Self::Inline {
                offset: place.offset + header.body_offset(),
                len: header.body_len,
                crc: header.body_crc,
            },
            Content::Chunks(chunks) => Self::Chunks(chunks.into_boxed_slice()),
        }
    }
}

/// A live message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its newest MESSAGE or CARRY frame.
    pub place: Place,
    /// Bytes of that frame.
    pub frame_len: u64,
    /// Its content.
    pub body: BodyPlace,
    /// When it was accepted.
    pub received: WallTime,
    /// Bytes of content.
    pub size: u64,
    /// See [`crate::record::decode_envelope`].
    pub envelope: Box<[u8]>,
    /// One for each recipient.
    pub standings: Box<[Standing]>,
}

impl Message {
    /// True if nothing will ever happen to any of its recipients again.
    pub(super) fn is_done(&self) -> bool {
        self.standings.iter().all(|s| s.state.is_final())
    }
}
