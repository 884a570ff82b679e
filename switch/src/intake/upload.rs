//! One message on its way into the queue: the Received field, then the content as it arrives.
//!
//! Up to [`INLINE_MAX`] bytes stay here and are written with the message's own record. What is larger goes out in pieces of
//! at most [`PIECE_MAX`] while it arrives, and the next bytes are not read before a piece is written: the client is slowed
//! down to what the disk takes, and memory does not follow message size.

use bytes::{Bytes, BytesMut};
use mail_model::{EnhancedStatus, Reply, WallTime};
use message::{Completion, HopCount};
use queue_format::record::{ChunkRef, Content, MessageKey, MessageRecord};
use queue_store::{AppendError, Queue, Refusal};

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
}

/// The message so far.
#[derive(Debug)]
pub(crate) struct Upload {
    heading: Heading,
    hops: HopCount,
    hops_max: u32,
    /// What a submitted message lacks.
    completion: Option<Completion>,
    size: u64,
    held: BytesMut,
    pieces: Vec<ChunkRef>,
    /// Why it will not be taken. Its content is dropped from then on.
    failure: Option<Reply>,
}

impl Upload {
    /// A message that begins with `received_field`; more than `hops_max` such fields below it mean a loop. It will be about
    /// `size` bytes long, as far as is known.
    pub(crate) fn begin(heading: Heading, received_field: &str, hops_max: u32, size: u64) -> Self {
        let expected = usize::try_from(size).unwrap_or(0).min(EXPECTED_MAX);
        let mut held = BytesMut::with_capacity(received_field.len() + expected);
        held.extend_from_slice(received_field.as_bytes());
        Self {
            heading,
            hops: HopCount::default(),
            hops_max,
            completion: None,
            size: received_field.len() as u64,
            held,
            pieces: Vec::new(),
            failure: None,
        }
    }

    /// The same, with what it lacks added.
    pub(crate) fn completed(self, completion: Completion) -> Self {
        Self { completion: Some(completion), ..self }
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
        match self.completion.as_mut().filter(|completion| !completion.is_over()) {
            Some(completion) => {
                let completed = completion.pass(bytes);
                self.put(queue, &completed).await;
            }
            None => self.put(queue, bytes).await,
        }
    }

    async fn put(&mut self, queue: &Queue, bytes: &[u8]) {
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
            Ok(written) => self.pieces.push(written),
            Err(refusal) => self.fail(queue, reply(&refusal)),
        }
    }

    fn fail(&mut self, queue: &Queue, reply: Reply) {
        self.failure = Some(reply);
        self.held = BytesMut::new();
        self.abandon(queue);
    }

    /// The message will not be completed.
    pub(crate) fn abandon(&self, queue: &Queue) {
        if !self.pieces.is_empty() {
            queue.abandon(self.heading.key);
        }
    }

    /// The content is whole. When this returns `Ok` the client may be told 250, and only then. Content that stayed here is
    /// handed back.
    pub(crate) async fn finish(mut self, queue: &Queue) -> Result<Bytes, NotStored> {
        if let Some(mut completion) = self.completion.take() {
            self.put(queue, &completion.end()).await;
        }
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
        };
        queue.accept(record, body.clone()).await.map(|()| body).map_err(|refusal| {
            if large {
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
        554 => "loop",
        _ => "content",
    }
}
