//! Records to bytes and back.

use mail_model::{
    AttemptNumber, EnhancedStatus, Epoch, InstanceId, NodeId, QueueId, RecipientIndex, Reply, SegmentId,
    WallTime,
};

use super::{
    AttemptRecord, CarryRecord, ChunkRef, Content, Doubt, Failure, Handover, Kind, MessageKey, MessageRecord,
    MessageView, OperateRecord, OutcomeGroup, OutcomeRecord, RecipientStanding, RecipientState, Record,
    SealEntry, SegmentRecord, Settles, Taken, TakenRecord, Told, Totals, Verb, Verdict,
};
use crate::wire::{DecodeError, Reader, Writer};

type Decoded<T> = Result<T, DecodeError>;

impl Record {
    /// Appends the meta bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(self, out);
    }

    /// Reads the meta of a frame of this kind. A kind that this version does not know is an error: it is never skipped,
    /// since it may bind its reader.
    pub fn decode(kind: u8, meta: &[u8]) -> Result<Self, DecodeError> {
        decode(kind, meta)
    }
}

fn encode(record: &Record, out: &mut Vec<u8>) {
    let mut w = Writer(out);
    match record {
        Record::Segment(r) => put_segment_record(&mut w, r),
        Record::Seal(entries) => {
            w.count(entries.len());
            for entry in entries {
                put_segment(&mut w, entry.segment);
                w.u64(entry.len);
                w.u64(entry.number);
                w.u32(entry.chain);
            }
        }
        Record::Chunk { message } => put_key(&mut w, *message),
        Record::Message(message) => put_message(&mut w, message),
        Record::Carry(carry) => {
            put_message(&mut w, &carry.message);
            w.count(carry.recipients.len());
            for standing in &carry.recipients {
                put_standing(&mut w, standing);
            }
        }
        Record::Attempt(r) => {
            w.u64(r.number.0);
            put_key(&mut w, r.message);
            put_indexes(&mut w, &r.recipients);
            w.text(&r.next_hop);
            w.u64(r.started.0);
        }
        Record::Outcome(r) => put_outcome(&mut w, r),
        Record::Operate(r) => {
            put_key(&mut w, r.message);
            w.u8(match r.verb {
                Verb::Hold => 1,
                Verb::Release => 2,
                Verb::Delete => 3,
                Verb::Retry => 4,
                Verb::Redirect => 5,
            });
            put_indexes(&mut w, &r.recipients);
            w.u64(r.at.0);
            w.text(&r.by);
            if r.verb == Verb::Redirect {
                w.text(r.to.as_deref().unwrap_or_default());
            }
        }
        Record::Next { segment } => put_segment(&mut w, *segment),
        Record::Retire { first_live } => put_segment(&mut w, *first_live),
        Record::Replied(keys) => put_keys(&mut w, keys),
        Record::Clean { totals } => put_totals(&mut w, totals),
        Record::Taken(r) => put_taken(&mut w, r),
    }
}

fn decode(kind: u8, meta: &[u8]) -> Decoded<Record> {
    let mut r = Reader(meta);
    let r = &mut r;
    let record = match kind {
        k if k == Kind::Segment as u8 => Record::Segment(take_segment_record(r)?),
        k if k == Kind::Seal as u8 => {
            let count = r.count(32, "seals")?;
            Record::Seal((0..count).map(|_| take_seal(r)).collect::<Result<_, _>>()?)
        }
        k if k == Kind::Chunk as u8 => Record::Chunk { message: take_key(r)? },
        k if k == Kind::Message as u8 => Record::Message(take_message(r)?),
        k if k == Kind::Carry as u8 => {
            let message = take_message(r)?;
            let count = r.count(12, "recipient standings")?;
            let recipients = (0..count).map(|_| take_standing(r)).collect::<Result<_, _>>()?;
            Record::Carry(CarryRecord { message, recipients })
        }
        k if k == Kind::Attempt as u8 => Record::Attempt(AttemptRecord {
            number: AttemptNumber(r.u64("attempt number")?),
            message: take_key(r)?,
            recipients: take_indexes(r)?,
            next_hop: r.text("next hop")?.to_owned(),
            started: WallTime(r.u64("start of attempt")?),
        }),
        k if k == Kind::Outcome as u8 => Record::Outcome(take_outcome(r)?),
        k if k == Kind::Operate as u8 => Record::Operate(take_operate(r)?),
        k if k == Kind::Next as u8 => Record::Next { segment: take_segment(r)? },
        k if k == Kind::Retire as u8 => Record::Retire { first_live: take_segment(r)? },
        k if k == Kind::Replied as u8 => Record::Replied(take_keys(r, "replied messages")?),
        k if k == Kind::Clean as u8 => Record::Clean { totals: take_totals(r)? },
        k if k == Kind::Taken as u8 => Record::Taken(take_taken(r)?),
        _ => return Err(DecodeError::Value("kind")),
    };
    r.end()?;
    Ok(record)
}

fn take_operate(r: &mut Reader<'_>) -> Decoded<OperateRecord> {
    let message = take_key(r)?;
    let verb = match r.u8("verb")? {
        1 => Verb::Hold,
        2 => Verb::Release,
        3 => Verb::Delete,
        4 => Verb::Retry,
        5 => Verb::Redirect,
        _ => return Err(DecodeError::Value("verb")),
    };
    let recipients = take_indexes(r)?;
    let at = WallTime(r.u64("time of operation")?);
    let by = r.text("operator")?.to_owned();
    let to = if verb == Verb::Redirect { some_text(r.text("redirection")?) } else { None };
    Ok(OperateRecord { message, verb, recipients, at, by, to })
}

fn some_text(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}

fn put_key(w: &mut Writer<'_>, key: MessageKey) {
    w.u64(key.epoch.0);
    w.u64(key.sequence);
}

fn take_key(r: &mut Reader<'_>) -> Decoded<MessageKey> {
    Ok(MessageKey { epoch: Epoch(r.u64("message epoch")?), sequence: r.u64("message sequence")? })
}

fn put_keys(w: &mut Writer<'_>, keys: &[MessageKey]) {
    w.count(keys.len());
    for key in keys {
        put_key(w, *key);
    }
}

fn take_keys(r: &mut Reader<'_>, field: &'static str) -> Decoded<Vec<MessageKey>> {
    let count = r.count(16, field)?;
    (0..count).map(|_| take_key(r)).collect()
}

fn put_taken(w: &mut Writer<'_>, r: &TakenRecord) {
    w.count(r.remembered.len());
    for taken in &r.remembered {
        put_key(w, taken.message);
        w.u64(taken.received.0);
        taken.handover.put(w);
    }
    put_keys(w, &r.forgotten);
}

fn take_taken(r: &mut Reader<'_>) -> Decoded<TakenRecord> {
    let count = r.count(44, "hand-overs")?;
    let taken = |_| {
        let (message, received) = (take_key(r)?, WallTime(r.u64("time of receipt")?));
        Ok(Taken { message, received, handover: Handover::read(r)? })
    };
    let remembered = (0..count).map(taken).collect::<Decoded<_>>()?;
    Ok(TakenRecord { remembered, forgotten: take_keys(r, "forgotten hand-overs")? })
}

fn put_segment(w: &mut Writer<'_>, segment: SegmentId) {
    w.u64(segment.epoch.0);
    w.u32(segment.number);
}

fn take_segment(r: &mut Reader<'_>) -> Decoded<SegmentId> {
    Ok(SegmentId { epoch: Epoch(r.u64("segment epoch")?), number: r.u32("segment number")? })
}

fn take_seal(r: &mut Reader<'_>) -> Decoded<SealEntry> {
    Ok(SealEntry {
        segment: take_segment(r)?,
        len: r.u64("sealed length")?,
        number: r.u64("sealed frame number")?,
        chain: r.u32("sealed chain")?,
    })
}

fn put_indexes(w: &mut Writer<'_>, indexes: &[RecipientIndex]) {
    w.count(indexes.len());
    for index in indexes {
        w.u16(*index);
    }
}

fn take_indexes(r: &mut Reader<'_>) -> Decoded<Vec<RecipientIndex>> {
    let count = r.count(2, "recipient indexes")?;
    (0..count).map(|_| r.u16("recipient index")).collect()
}

fn put_totals(w: &mut Writer<'_>, t: &Totals) {
    for value in
        [t.messages, t.accepted, t.generated, t.delivered, t.bounced, t.expired, t.deleted, t.in_doubt]
    {
        w.u64(value);
    }
}

fn take_totals(r: &mut Reader<'_>) -> Decoded<Totals> {
    Ok(Totals {
        messages: r.u64("messages")?,
        accepted: r.u64("accepted")?,
        generated: r.u64("generated")?,
        delivered: r.u64("delivered")?,
        bounced: r.u64("bounced")?,
        expired: r.u64("expired")?,
        deleted: r.u64("deleted")?,
        in_doubt: r.u64("in doubt")?,
    })
}

fn put_segment_record(w: &mut Writer<'_>, s: &SegmentRecord) {
    w.u16(s.version);
    w.text(&s.cluster);
    w.text(s.queue.as_str());
    w.text(s.owner.as_str());
    w.u128(s.instance.0);
    w.u64(s.opened.0);
    put_segment(w, s.first_live);
    put_totals(w, &s.totals);
    w.count(s.doubts.len());
    for doubt in &s.doubts {
        put_key(w, doubt.message);
        w.u64(doubt.epoch.0);
        w.u64(doubt.attempt.0);
        put_indexes(w, &doubt.recipients);
        w.text(&doubt.next_hop);
        w.u64(doubt.started.0);
    }
}

fn take_segment_record(r: &mut Reader<'_>) -> Decoded<SegmentRecord> {
    let version = r.u16("format version")?;
    if version != crate::FORMAT_VERSION {
        return Err(DecodeError::Version { found: version, known: crate::FORMAT_VERSION });
    }
    let cluster = r.text("cluster")?.to_owned();
    let queue: QueueId = r.text("queue")?.parse().map_err(|_| DecodeError::Value("queue"))?;
    let owner = NodeId::new(r.text("owner")?).map_err(|_| DecodeError::Value("owner"))?;
    let instance = InstanceId(r.u128("instance")?);
    let opened = WallTime(r.u64("time of opening")?);
    let first_live = take_segment(r)?;
    let totals = take_totals(r)?;
    let count = r.count(46, "doubts")?;
    let doubts = (0..count).map(|_| take_doubt(r)).collect::<Result<_, _>>()?;
    Ok(SegmentRecord { version, cluster, queue, owner, instance, opened, first_live, totals, doubts })
}

fn take_doubt(r: &mut Reader<'_>) -> Decoded<Doubt> {
    Ok(Doubt {
        message: take_key(r)?,
        epoch: Epoch(r.u64("doubt epoch")?),
        attempt: AttemptNumber(r.u64("doubt attempt")?),
        recipients: take_indexes(r)?,
        next_hop: r.text("next hop")?.to_owned(),
        started: WallTime(r.u64("start of attempt")?),
    })
}

fn put_message(w: &mut Writer<'_>, m: &MessageRecord) {
    put_key(w, m.key);
    w.u64(m.received.0);
    w.u64(m.size);
    w.text(&m.origin);
    w.count(m.envelope.len());
    w.0.extend_from_slice(&m.envelope);
    match &m.content {
        Content::Inline => w.u8(0),
        Content::Chunks(chunks) => {
            w.u8(1);
            w.count(chunks.len());
            for chunk in chunks {
                put_segment(w, chunk.segment);
                w.u64(chunk.offset);
                w.u32(chunk.len);
                w.u32(chunk.crc);
            }
        }
    }
    match (&m.settles, &m.handover) {
        (None, None) => w.u8(0),
        (None, Some(handover)) => {
            w.u8(2);
            handover.put(w);
        }
        (Some(settles), _) => {
            w.u8(1);
            put_key(w, settles.message);
            w.count(settles.recipients.len());
            for (index, how) in &settles.recipients {
                w.u16(*index);
                w.u8(told_code(*how));
            }
        }
    }
}

impl<'a> MessageView<'a> {
    /// Reads the meta of a MESSAGE.
    pub(crate) fn decode(meta: &'a [u8]) -> Decoded<Self> {
        let mut r = Reader(meta);
        let view = take_view(&mut r)?;
        r.end()?;
        Ok(view)
    }
}

fn take_message(r: &mut Reader<'_>) -> Decoded<MessageRecord> {
    let MessageView { key, received, size, origin, envelope, content, settles, handover } = take_view(r)?;
    let (origin, envelope) = (origin.to_owned(), envelope.to_vec());
    Ok(MessageRecord { key, received, size, origin, envelope, content, settles, handover })
}

fn take_view<'a>(r: &mut Reader<'a>) -> Decoded<MessageView<'a>> {
    let key = take_key(r)?;
    let received = WallTime(r.u64("time of receipt")?);
    let size = r.u64("size")?;
    let origin = r.text("origin")?;
    let len = r.count(1, "envelope")?;
    let envelope = r.bytes(len, "envelope")?;
    let content = match r.u8("content")? {
        0 => Content::Inline,
        1 => {
            let count = r.count(28, "chunks")?;
            Content::Chunks((0..count).map(|_| take_chunk(r)).collect::<Result<_, _>>()?)
        }
        _ => return Err(DecodeError::Value("content")),
    };
    let (settles, handover) = match r.u8("settles")? {
        0 => (None, None),
        2 => (None, Some(Handover::read(r)?)),
        1 => {
            let message = take_key(r)?;
            let count = r.count(3, "settled recipients")?;
            let recipients = (0..count)
                .map(|_| Ok((r.u16("settled recipient")?, take_told(r)?)))
                .collect::<Decoded<_>>()?;
            (Some(Settles { message, recipients }), None)
        }
        _ => return Err(DecodeError::Value("settles")),
    };
    Ok(MessageView { key, received, size, origin, envelope, content, settles, handover })
}

fn take_chunk(r: &mut Reader<'_>) -> Decoded<ChunkRef> {
    Ok(ChunkRef {
        segment: take_segment(r)?,
        offset: r.u64("chunk offset")?,
        len: r.u32("chunk length")?,
        crc: r.u32("chunk crc")?,
    })
}

fn failure_code(how: Failure) -> u8 {
    match how {
        Failure::Bounced => 1,
        Failure::Expired => 2,
    }
}

fn told_code(told: Told) -> u8 {
    match told {
        Told::Failed(how) => failure_code(how),
        Told::Delivered => 3,
        Told::Late => 4,
    }
}

fn take_told(r: &mut Reader<'_>) -> Decoded<Told> {
    match r.u8("what was told")? {
        1 => Ok(Told::Failed(Failure::Bounced)),
        2 => Ok(Told::Failed(Failure::Expired)),
        3 => Ok(Told::Delivered),
        4 => Ok(Told::Late),
        _ => Err(DecodeError::Value("what was told")),
    }
}

/// In the octet of a state: its sender knows that it is late.
const WARNED: u8 = 0x40;
/// There: more follows behind the reply.
const MORE: u8 = 0x80;
/// In the octet that follows then: its last attempt ended in doubt.
const DOUBTFUL: u8 = 1;

fn put_standing(w: &mut Writer<'_>, s: &RecipientStanding) {
    let warned = if s.warned { WARNED } else { 0 };
    let state = match s.state {
        RecipientState::Queued => 0,
        RecipientState::Held => 1,
        RecipientState::Delivered => 2,
        RecipientState::Deleted => 3,
        RecipientState::OwedSuccess => 4,
        RecipientState::Owed(how) => 0x10 | failure_code(how),
        RecipientState::Failed(how) => 0x20 | failure_code(how),
    };
    let has_more = s.doubtful || s.crashes > 0 || s.redirect.is_some();
    let more = if has_more { MORE } else { 0 };
    w.u8(state | warned | more);
    w.u16(s.attempts);
    w.u64(s.due.0);
    put_reply(w, s.last_reply.as_ref());
    if has_more {
        w.u8(if s.doubtful { DOUBTFUL } else { 0 });
        w.u8(s.crashes);
        w.text(s.redirect.as_deref().unwrap_or_default());
    }
}

fn take_standing(r: &mut Reader<'_>) -> Decoded<RecipientStanding> {
    let octet = r.u8("recipient state")?;
    let state = match octet & !(WARNED | MORE) {
        0 => RecipientState::Queued,
        1 => RecipientState::Held,
        2 => RecipientState::Delivered,
        3 => RecipientState::Deleted,
        4 => RecipientState::OwedSuccess,
        0x11 => RecipientState::Owed(Failure::Bounced),
        0x12 => RecipientState::Owed(Failure::Expired),
        0x21 => RecipientState::Failed(Failure::Bounced),
        0x22 => RecipientState::Failed(Failure::Expired),
        _ => return Err(DecodeError::Value("recipient state")),
    };
    let attempts = r.u16("attempts")?;
    let due = WallTime(r.u64("due time")?);
    let last_reply = take_reply(r)?;
    let (doubtful, crashes, redirect) = if octet & MORE == 0 {
        (false, 0, None)
    } else {
        let flags = r.u8("recipient flags")?;
        (flags & DOUBTFUL != 0, r.u8("crashes")?, some_text(r.text("redirection")?))
    };
    let warned = octet & WARNED != 0;
    Ok(RecipientStanding { state, attempts, due, last_reply, warned, doubtful, crashes, redirect })
}

fn put_reply(w: &mut Writer<'_>, reply: Option<&Reply>) {
    let Some(reply) = reply else {
        w.u8(0);
        return;
    };
    w.u8(if reply.enhanced.is_some() { 2 } else { 1 });
    w.u16(reply.code);
    if let Some(enhanced) = reply.enhanced {
        w.u8(enhanced.class);
        w.u16(enhanced.subject);
        w.u16(enhanced.detail);
    }
    w.text(&reply.text);
}

fn take_reply(r: &mut Reader<'_>) -> Decoded<Option<Reply>> {
    let shape = r.u8("reply")?;
    if shape == 0 {
        return Ok(None);
    }
    if shape > 2 {
        return Err(DecodeError::Value("reply"));
    }
    let code = r.u16("reply code")?;
    let enhanced = if shape == 2 {
        Some(EnhancedStatus::new(r.u8("status class")?, r.u16("status subject")?, r.u16("status detail")?))
    } else {
        None
    };
    Ok(Some(Reply { code, enhanced, text: r.text("reply text")?.to_owned() }))
}

fn put_outcome(w: &mut Writer<'_>, o: &OutcomeRecord) {
    put_key(w, o.message);
    match o.attempt {
        None => w.u8(0),
        Some((epoch, number)) => {
            w.u8(1);
            w.u64(epoch.0);
            w.u64(number.0);
        }
    }
    w.u64(o.at.0);
    w.count(o.groups.len());
    for group in &o.groups {
        let (code, due) = match group.verdict {
            Verdict::Delivered => (1, WallTime(0)),
            Verdict::Deferred { due } => (2, due),
            Verdict::Failed { how, owed: true } => (0x10 | failure_code(how), WallTime(0)),
            Verdict::Failed { how, owed: false } => (0x20 | failure_code(how), WallTime(0)),
            Verdict::InDoubt { due } => (3, due),
            Verdict::InDoubtHeld => (4, WallTime(0)),
            Verdict::DeliveredOwed => (5, WallTime(0)),
        };
        w.u8(code);
        w.u64(due.0);
        put_reply(w, group.reply.as_ref());
        put_indexes(w, &group.recipients);
    }
}

fn take_outcome(r: &mut Reader<'_>) -> Decoded<OutcomeRecord> {
    let message = take_key(r)?;
    let attempt = match r.u8("attempt")? {
        0 => None,
        1 => Some((Epoch(r.u64("attempt epoch")?), AttemptNumber(r.u64("attempt number")?))),
        _ => return Err(DecodeError::Value("attempt")),
    };
    let at = WallTime(r.u64("time of outcome")?);
    let count = r.count(14, "outcome groups")?;
    let groups = (0..count).map(|_| take_group(r)).collect::<Result<_, _>>()?;
    Ok(OutcomeRecord { message, attempt, at, groups })
}

fn take_group(r: &mut Reader<'_>) -> Decoded<OutcomeGroup> {
    let code = r.u8("verdict")?;
    let due = WallTime(r.u64("due time")?);
    let verdict = match code {
        1 => Verdict::Delivered,
        2 => Verdict::Deferred { due },
        3 => Verdict::InDoubt { due },
        4 => Verdict::InDoubtHeld,
        5 => Verdict::DeliveredOwed,
        0x11 => Verdict::Failed { how: Failure::Bounced, owed: true },
        0x12 => Verdict::Failed { how: Failure::Expired, owed: true },
        0x21 => Verdict::Failed { how: Failure::Bounced, owed: false },
        0x22 => Verdict::Failed { how: Failure::Expired, owed: false },
        _ => return Err(DecodeError::Value("verdict")),
    };
    Ok(OutcomeGroup { verdict, reply: take_reply(r)?, recipients: take_indexes(r)? })
}
