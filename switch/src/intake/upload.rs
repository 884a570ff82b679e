//! One message on its way into the queue: the Received field, then the content as it arrives.
//!
//! Up to [`INLINE_MAX`] bytes stay here and are written with the message's own record. What is larger goes out in pieces of
//! at most [`PIECE_MAX`] while it arrives, and the next bytes are not read before a piece is written: the client is slowed
//! down to what the disk takes, and memory does not follow message size.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use mail_model::{EnhancedStatus, Envelope, Reply, WallTime};
use message::{Completion, Excess, HopCount, ResultsFilter, Shape};
use queue_format::record::{
    ChunkRef, Content, Handover, MessageKey, MessageRecord, encode_envelope, mark_held,
};
use queue_store::{AppendError, Queue, Refusal};
use settings::LimitSettings;

/// Content up to this size is part of the message's own record.
const INLINE_MAX: usize = 64 << 10;
/// Room that is made at once for what a client announces.
const EXPECTED_MAX: usize = 16 << 10;
/// The largest piece of larger content.
const PIECE_MAX: usize = 256 << 10;

/// What the message's record will say beside its content.
#[derive(Debug)]
pub(crate) struct Heading {
    /// The message.
    pub(crate) key: MessageKey,
    /// When it began to arrive.
    pub(crate) received: WallTime,
    /// The sender, for the log.
    pub(crate) from: String,
    /// Recipients.
    pub(crate) recipients: usize,
    /// Which client sent it, for people.
    pub(crate) origin: String,
    /// The envelope, encoded.
    pub(crate) envelope: Vec<u8>,
    /// By what a repeat is recognised, if its client gave it a name.
    pub(crate) handover: Option<Box<Handover>>,
}

/// Bytes of all messages of this process together that are kept whole.
static WHOLE: AtomicU64 = AtomicU64::new(0);

/// A message's part of that, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    taken: u64,
    /// For all messages together.
    max: u64,
}

impl Room {
    fn new(limits: &LimitSettings) -> Self {
        Self { taken: 0, max: limits.inspection_memory }
    }

    /// Holds `size` bytes in all. False if there is no room.
    fn hold(&mut self, size: usize) -> bool {
        let more = (size as u64).saturating_sub(self.taken);
        self.taken += more;
        WHOLE.fetch_add(more, Ordering::Relaxed) + more <= self.max
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        WHOLE.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

/// The message so far.
#[derive(Debug)]
pub(crate) struct Upload {
    heading: Heading,
    /// The field that comes before all content.
    received_field: String,
    hops: HopCount,
    hops_max: u32,
    shape: Shape,
    /// What a submitted message lacks.
    completion: Option<Completion>,
    size: u64,
    held: BytesMut,
    pieces: Vec<ChunkRef>,
    /// Something of it is on disk, whether it is still wanted or not.
    written: bool,
    /// For who must see the content as a whole: the filter it passed, and the content.
    copy: Option<(ResultsFilter, BytesMut, Room)>,
    /// Why it will not be taken. Its content is dropped from then on.
    failure: Option<Reply>,
}

impl Upload {
    /// A message that begins with `received_field`, and must keep to `limits`. It will be about `size` bytes long, as far as is
    /// known.
    pub(crate) fn begin(heading: Heading, received_field: &str, limits: &LimitSettings, size: u64) -> Self {
        let expected = usize::try_from(size).unwrap_or(0).min(EXPECTED_MAX);
        let mut held = BytesMut::with_capacity(received_field.len() + expected);
        held.extend_from_slice(received_field.as_bytes());
        Self {
            heading,
            received_field: received_field.to_owned(),
            hops: HopCount::default(),
            hops_max: limits.hops,
            shape: Shape::new(limits.shape),
            completion: None,
            size: received_field.len() as u64,
            held,
            pieces: Vec::new(),
            written: false,
            copy: None,
            failure: None,
        }
    }

    /// The same, with what it lacks added.
    pub(crate) fn completed(self, completion: Completion) -> Self {
        Self { completion: Some(completion), ..self }
    }

    /// The content is kept at hand as a whole, and loses the results of authentication that are forged in our name.
    pub(crate) fn kept_whole(mut self, limits: &LimitSettings) -> Self {
        let filter = ResultsFilter::new(limits.session.hostname.as_str());
        self.copy = Some((filter, BytesMut::new(), Room::new(limits)));
        self
    }

    /// The content has ended. It is answered if it was kept whole and will be taken, with the room that it takes until that is
    /// dropped.
    pub(crate) async fn whole(&mut self, queue: &Queue) -> Option<(Bytes, Room)> {
        self.end(queue).await;
        let (_, content, room) = self.copy.take()?;
        Some((content.freeze(), room))
    }

    /// Other content, in place of all that came. What of that is on disk already is never named by the message.
    pub(crate) async fn replace(&mut self, queue: &Queue, content: &[u8]) {
        self.pieces.clear();
        self.held = BytesMut::from(self.received_field.as_bytes());
        self.size = self.received_field.len() as u64;
        self.add(queue, content).await;
    }

    /// Other recipients, as they are queued.
    pub(crate) fn send_to(&mut self, envelope: &Envelope) {
        self.heading.recipients = envelope.recipients.len();
        self.heading.envelope = encode_envelope(envelope);
    }

    /// Nobody gets it before an operator says so.
    pub(crate) fn hold(&mut self, why: &str) {
        mark_held(&mut self.heading.envelope);
        self.heading.origin.push_str("; held: ");
        self.heading.origin.push_str(why);
    }

    /// A repeat is recognised by this.
    pub(crate) fn name(&mut self, handover: Box<Handover>) {
        self.heading.handover = Some(handover);
    }

    /// What the message's record will say.
    pub(crate) fn heading(&self) -> &Heading {
        &self.heading
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes. Returns when they are held or written.
    pub(crate) async fn take(&mut self, queue: &Queue, bytes: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        if !self.hops.is_final() {
            self.hops.look(bytes);
            if self.hops.count() > self.hops_max {
                // RFC 5321 6.3: a message that was relayed so often goes round in a loop.
                let status = EnhancedStatus::new(5, 4, 6);
                self.fail(queue, Reply::local(554, status, "too many hops, this message is in a loop"));
                return;
            }
        }
        if let Some(excess) = self.shape.look(bytes) {
            self.fail(queue, misshapen(excess));
            return;
        }
        match self.completion.as_mut().filter(|completion| !completion.is_over()) {
            Some(completion) => {
                let completed = completion.pass(bytes);
                self.put(queue, &completed).await;
            }
            None => self.put(queue, bytes).await,
        }
    }

    /// Nothing more comes: what was held back until its end was known goes on.
    async fn end(&mut self, queue: &Queue) {
        if let Some(mut completion) = self.completion.take() {
            self.put(queue, &completion.end()).await;
        }
        let mut last = Vec::new();
        if let Some((filter, content, _)) = &mut self.copy {
            filter.finish(&mut last);
            content.extend_from_slice(&last);
        }
        self.add(queue, &last).await;
    }

    /// Takes out what is forged, and keeps a copy if one is wanted.
    async fn put(&mut self, queue: &Queue, bytes: &[u8]) {
        let Some((filter, content, room)) = &mut self.copy else { return self.add(queue, bytes).await };
        let mut kept = Vec::with_capacity(bytes.len());
        filter.push(bytes, &mut kept);
        content.extend_from_slice(&kept);
        if room.hold(content.len()) {
            self.add(queue, &kept).await;
        } else {
            let text = "too many messages are being inspected, try again later";
            self.fail(queue, Reply::local(452, EnhancedStatus::new(4, 3, 1), text));
        }
    }

    async fn add(&mut self, queue: &Queue, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() && self.failure.is_none() {
            let room = PIECE_MAX.saturating_sub(self.held.len());
            let (now, later) = rest.split_at(rest.len().min(room));
            self.held.extend_from_slice(now);
            rest = later;
            if self.held.len() >= PIECE_MAX {
                self.write_piece(queue).await;
            }
        }
    }

    async fn write_piece(&mut self, queue: &Queue) {
        let piece = std::mem::take(&mut self.held).freeze();
        match queue.append_chunk(self.heading.key, piece).await {
            Ok(written) => {
                self.written = true;
                self.pieces.push(written);
            }
            Err(refusal) => self.fail(queue, reply(&refusal)),
        }
    }

    fn fail(&mut self, queue: &Queue, reply: Reply) {
        self.failure = Some(reply);
        self.held = BytesMut::new();
        self.copy = None;
        self.abandon(queue);
    }

    /// The message will not be completed.
    pub(crate) fn abandon(&self, queue: &Queue) {
        if self.written {
            queue.abandon(self.heading.key);
        }
    }

    /// The content is whole, and `fields` come before everything. When this returns `Ok` the client may be told 250, and only
    /// then. Content that stayed here is handed back.
    pub(crate) async fn finish(mut self, queue: &Queue, fields: &str) -> Result<Bytes, NotStored> {
        self.end(queue).await;
        self.size += fields.len() as u64;
        if !fields.is_empty() && self.pieces.is_empty() && self.held.len() + fields.len() <= PIECE_MAX {
            let rest = std::mem::replace(&mut self.held, BytesMut::from(fields.as_bytes()));
            self.held.extend_from_slice(&rest);
        } else if !fields.is_empty() && self.failure.is_none() {
            // The content is on disk already; its pieces are read in the order in which the message names them.
            match queue.append_chunk(self.heading.key, Bytes::copy_from_slice(fields.as_bytes())).await {
                Ok(written) => {
                    self.written = true;
                    self.pieces.insert(0, written);
                }
                Err(refusal) => self.fail(queue, reply(&refusal)),
            }
        }
        let written = self.written;
        let large = !self.pieces.is_empty() || self.held.len() > INLINE_MAX;
        if large && !self.held.is_empty() {
            self.write_piece(queue).await;
        }
        if let Some(reply) = self.failure {
            return Err(NotStored::Refused(reply));
        }
        let (content, body) = if large {
            (Content::Chunks(self.pieces), Bytes::new())
        } else {
            (Content::Inline, self.held.freeze())
        };
        let key = self.heading.key;
        let record = MessageRecord {
            key,
            received: self.heading.received,
            size: self.size,
            origin: self.heading.origin,
            envelope: self.heading.envelope,
            content,
            settles: None,
            handover: self.heading.handover,
        };
        queue.accept(record, body.clone()).await.map(|()| body).map_err(|refusal| {
            if large || written {
                queue.abandon(key);
            }
            match refusal {
                Refusal::Append(AppendError::Fenced | AppendError::Sick(_)) => NotStored::Unsettled,
                Refusal::NotActive(_) | Refusal::LeaseStale | Refusal::Full | Refusal::Append(_) => {
                    NotStored::Refused(reply(&refusal))
                }
            }
        })
    }
}

/// RFC 3463 3.4 and 3.7: too big for the system, or media not supported.
fn misshapen(excess: Excess) -> Reply {
    let (code, status, text) = match excess {
        Excess::HeaderSize => (552, EnhancedStatus::new(5, 3, 4), "the header of the message is too long"),
        Excess::HeaderFields => {
            (552, EnhancedStatus::new(5, 3, 4), "the header of the message has too many fields")
        }
        Excess::MimeDepth => (554, EnhancedStatus::new(5, 6, 0), "the parts of the message nest too deep"),
    };
    Reply::local(code, status, text)
}

/// Why a message is not stored.
#[derive(Debug)]
pub(crate) enum NotStored {
    /// It is not in the queue, and the client is told so.
    Refused(Reply),
    /// It was on its way to the disk when this owner was fenced or its storage failed. The next owner may find it or not, so
    /// any reply could be a lie: the connection is closed without one, and the client knows that it does not know.
    Unsettled,
}

/// What a client is told when the queue says no: always temporary, and nothing of our inside.
pub(crate) fn reply(refusal: &Refusal) -> Reply {
    let (code, status, text) = match refusal {
        Refusal::Full | Refusal::Append(AppendError::Full) => {
            (452, EnhancedStatus::new(4, 3, 1), "not enough storage now, try again later")
        }
        Refusal::LeaseStale => {
            (451, EnhancedStatus::new(4, 3, 2), "no mail is taken at this moment, try again later")
        }
        Refusal::Append(AppendError::ContentGone) => {
            (451, EnhancedStatus::new(4, 3, 0), "local error, try again later")
        }
        Refusal::NotActive(_) | Refusal::Append(AppendError::Fenced | AppendError::Sick(_)) => {
            (421, EnhancedStatus::new(4, 3, 2), "service not available, try again later")
        }
    };
    Reply::local(code, status, text)
}

/// Why a message was refused, in the words of the metrics.
pub(crate) fn reason(reply: &Reply) -> &'static str {
    match reply.code {
        452 => "no_space",
        421 => "not_active",
        400..=499 => "not_now",
        554 if reply.enhanced == Some(EnhancedStatus::new(5, 4, 6)) => "loop",
        _ => "content",
    }
}
