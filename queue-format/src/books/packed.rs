//! A live message in as few bytes as it takes: one piece of memory, numbers as short as they are.
//!
//! ```text
//! received | recipients | for each: state and flags, attempts?, due?, reply? | place | frame length | size | body | envelope
//! ```
//!
//! Made and read here only; nothing of it ever reaches a disk. A million messages must fit, and most have one recipient that
//! was never tried: that takes two bytes.

use mail_model::{EnhancedStatus, Epoch, Reply, SegmentId, WallTime};

use super::message::{BodyPlace, Message, Standing};
use crate::record::{ChunkRef, Failure, RecipientState};
use crate::scan::Place;

/// The low bits of a recipient's first byte are its state.
const STATE: u8 = 0x0f;
/// A number of attempts follows; none is 0.
const TRIED: u8 = 0x10;
/// A due time follows; none is that of arrival.
const DUE: u8 = 0x20;
/// A reply follows.
const REPLIED: u8 = 0x40;
/// More is known: flags, crashes, and a redirection if there is one.
const MORE: u8 = 0x80;

/// Of those flags: its sender was told that it is late.
const WARNED: u8 = 1;
/// Its last attempt ended in doubt.
const DOUBTFUL: u8 = 2;
/// A redirection follows.
const REDIRECTED: u8 = 4;

const QUEUED: u8 = 0;
const HELD: u8 = 1;
const DELIVERED: u8 = 2;
const DELETED: u8 = 3;
const OWED_BOUNCED: u8 = 4;
const OWED_EXPIRED: u8 = 5;
const FAILED_BOUNCED: u8 = 6;
const FAILED_EXPIRED: u8 = 7;
const OWED_SUCCESS: u8 = 8;

/// What a body begins with.
const INLINE: u64 = 0;

/// A message.
#[derive(Debug, Clone)]
pub(super) struct Packed(Box<[u8]>);

/// What can be seen of a recipient without unpacking its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Glance {
    pub(super) state: RecipientState,
    pub(super) due: WallTime,
}

impl Packed {
    /// `message` in short. `scratch` is any buffer, whose content is lost.
    pub(super) fn of(message: &Message, scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        put(scratch, message.received.0);
        put(scratch, message.standings.len() as u64);
        for standing in &message.standings {
            put_standing(scratch, standing, message.received);
        }
        let Message { place, frame_len, size, .. } = *message;
        put_rest(scratch, &Rest { place, frame_len, size, body: &message.body, envelope: &message.envelope });
        // A piece that was shrunk would leave a hole behind it, a million of them.
        Self(scratch.as_slice().into())
    }

    /// A message whose recipients, so many, were never tried. The same as [`Self::of`] makes of it.
    pub(super) fn fresh(
        (received, recipients, held): (WallTime, u16, bool),
        rest: &Rest<'_>,
        scratch: &mut Vec<u8>,
    ) -> Self {
        scratch.clear();
        put(scratch, received.0);
        put(scratch, u64::from(recipients));
        let state = if held { HELD } else { QUEUED };
        scratch.extend(std::iter::repeat_n(state, usize::from(recipients)));
        put_rest(scratch, rest);
        Self(scratch.as_slice().into())
    }

    /// The whole of it. `None` never comes of what [`Self::of`] made.
    pub(super) fn open(&self) -> Option<Message> {
        let mut bytes = Bytes(&self.0);
        let received = WallTime(bytes.number()?);
        let count = usize::try_from(bytes.number()?).ok()?;
        let standings = (0..count).map(|_| bytes.standing(received)).collect::<Option<_>>()?;
        let place = Place { segment: bytes.segment()?, offset: bytes.number()? };
        let (frame_len, size) = (bytes.number()?, bytes.number()?);
        let body = match bytes.number()? {
            INLINE => BodyPlace::Inline {
                offset: place.offset.wrapping_add(bytes.number()?),
                len: bytes.short()?,
                crc: bytes.crc()?,
            },
            more => BodyPlace::Chunks((1..more).map(|_| bytes.chunk()).collect::<Option<_>>()?),
        };
        Some(Message { place, frame_len, body, received, size, envelope: bytes.0.into(), standings })
    }

    /// When it was accepted.
    pub(super) fn received(&self) -> WallTime {
        WallTime(Bytes(&self.0).number().unwrap_or(0))
    }

    /// Its recipients, in order.
    pub(super) fn glance(&self) -> impl Iterator<Item = Glance> {
        let mut bytes = Bytes(&self.0);
        let received = WallTime(bytes.number().unwrap_or(0));
        let count = bytes.number().unwrap_or(0);
        (0..count).map_while(move |_| bytes.glance(received))
    }

    /// What comes behind its recipients.
    fn rest(&self) -> Option<Bytes<'_>> {
        let mut bytes = Bytes(&self.0);
        let received = WallTime(bytes.number()?);
        for _ in 0..bytes.number()? {
            bytes.glance(received)?;
        }
        Some(bytes)
    }

    /// Bytes of its content.
    pub(super) fn size(&self) -> u64 {
        let look = || {
            let mut bytes = self.rest()?;
            for _ in 0..4 {
                bytes.number()?;
            }
            bytes.number()
        };
        look().unwrap_or(0)
    }

    /// True if its frame or a piece of its content is in `segment`.
    pub(super) fn lies_in(&self, segment: SegmentId) -> bool {
        let look = || {
            let mut bytes = self.rest()?;
            if bytes.segment()? == segment {
                return Some(true);
            }
            for _ in 0..3 {
                bytes.number()?;
            }
            // An inline body is where the frame is.
            let pieces = bytes.number()?.saturating_sub(1);
            Some((0..pieces).map_while(|_| bytes.chunk()).any(|chunk| chunk.segment == segment))
        };
        look().unwrap_or(false)
    }
}

/// What comes behind the recipients.
#[derive(Debug)]
pub(super) struct Rest<'a> {
    pub(super) place: Place,
    pub(super) frame_len: u64,
    pub(super) size: u64,
    pub(super) body: &'a BodyPlace,
    pub(super) envelope: &'a [u8],
}

fn put_rest(out: &mut Vec<u8>, rest: &Rest<'_>) {
    put(out, rest.place.segment.epoch.0);
    put(out, u64::from(rest.place.segment.number));
    put(out, rest.place.offset);
    put(out, rest.frame_len);
    put(out, rest.size);
    match rest.body {
        BodyPlace::Inline { offset, len, crc } => {
            put(out, INLINE);
            put(out, offset.wrapping_sub(rest.place.offset));
            put(out, u64::from(*len));
            out.extend_from_slice(&crc.to_le_bytes());
        }
        BodyPlace::Chunks(chunks) => {
            put(out, chunks.len() as u64 + 1);
            for chunk in chunks {
                put(out, chunk.segment.epoch.0);
                put(out, u64::from(chunk.segment.number));
                put(out, chunk.offset);
                put(out, u64::from(chunk.len));
                out.extend_from_slice(&chunk.crc.to_le_bytes());
            }
        }
    }
    out.extend_from_slice(rest.envelope);
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn put(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

fn put_standing(out: &mut Vec<u8>, standing: &Standing, received: WallTime) {
    let state = match standing.state {
        RecipientState::Queued => QUEUED,
        RecipientState::Held => HELD,
        RecipientState::Delivered => DELIVERED,
        RecipientState::Deleted => DELETED,
        RecipientState::Owed(Failure::Bounced) => OWED_BOUNCED,
        RecipientState::Owed(Failure::Expired) => OWED_EXPIRED,
        RecipientState::Failed(Failure::Bounced) => FAILED_BOUNCED,
        RecipientState::Failed(Failure::Expired) => FAILED_EXPIRED,
        RecipientState::OwedSuccess => OWED_SUCCESS,
    };
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    let later = standing.due != received;
    let more = flag(standing.warned, WARNED)
        | flag(standing.doubtful, DOUBTFUL)
        | flag(standing.redirect.is_some(), REDIRECTED);
    let has_more = more != 0 || standing.crashes > 0;
    let flags = flag(standing.attempts > 0, TRIED)
        | flag(later, DUE)
        | flag(standing.last_reply.is_some(), REPLIED)
        | flag(has_more, MORE);
    out.push(state | flags);
    if standing.attempts > 0 {
        put(out, u64::from(standing.attempts));
    }
    if later {
        put(out, standing.due.0);
    }
    if let Some(reply) = &standing.last_reply {
        put(out, u64::from(reply.code));
        let status = reply.enhanced.map_or([0; 3], |s| [u16::from(s.class), s.subject, s.detail]);
        for number in status {
            put(out, u64::from(number));
        }
        put(out, reply.text.len() as u64);
        out.extend_from_slice(reply.text.as_bytes());
    }
    if has_more {
        out.extend_from_slice(&[more, standing.crashes]);
    }
    if let Some(redirect) = &standing.redirect {
        put(out, redirect.len() as u64);
        out.extend_from_slice(redirect.as_bytes());
    }
}

/// What is left to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn short(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn word(&mut self) -> Option<u16> {
        self.number()?.try_into().ok()
    }

    fn crc(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn segment(&mut self) -> Option<SegmentId> {
        Some(SegmentId { epoch: Epoch(self.number()?), number: self.short()? })
    }

    fn chunk(&mut self) -> Option<ChunkRef> {
        let segment = self.segment()?;
        Some(ChunkRef { segment, offset: self.number()?, len: self.short()?, crc: self.crc()? })
    }

    fn state(&mut self) -> Option<(RecipientState, u8)> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        let state = match byte & STATE {
            QUEUED => RecipientState::Queued,
            HELD => RecipientState::Held,
            DELIVERED => RecipientState::Delivered,
            DELETED => RecipientState::Deleted,
            OWED_BOUNCED => RecipientState::Owed(Failure::Bounced),
            OWED_EXPIRED => RecipientState::Owed(Failure::Expired),
            FAILED_BOUNCED => RecipientState::Failed(Failure::Bounced),
            FAILED_EXPIRED => RecipientState::Failed(Failure::Expired),
            OWED_SUCCESS => RecipientState::OwedSuccess,
            _ => return None,
        };
        Some((state, *byte))
    }

    fn attempts(&mut self, flags: u8) -> Option<u16> {
        if flags & TRIED == 0 { Some(0) } else { self.word() }
    }

    fn due(&mut self, flags: u8, received: WallTime) -> Option<WallTime> {
        if flags & DUE == 0 { Some(received) } else { Some(WallTime(self.number()?)) }
    }

    fn glance(&mut self, received: WallTime) -> Option<Glance> {
        let (state, flags) = self.state()?;
        self.attempts(flags)?;
        let due = self.due(flags, received)?;
        if flags & REPLIED != 0 {
            self.skip_reply()?;
        }
        self.more(flags)?;
        Some(Glance { state, due })
    }

    fn skip_reply(&mut self) -> Option<()> {
        for _ in 0..4 {
            self.number()?;
        }
        let len = usize::try_from(self.number()?).ok()?;
        self.take(len).map(|_| ())
    }

    fn reply(&mut self) -> Option<Reply> {
        let code = self.word()?;
        let class = u8::try_from(self.number()?).ok()?;
        let status = EnhancedStatus::new(class, self.word()?, self.word()?);
        let len = usize::try_from(self.number()?).ok()?;
        let text = std::str::from_utf8(self.take(len)?).ok()?.to_owned();
        // No class is 0: RFC 3463 2 knows 2, 4 and 5.
        Some(Reply { code, enhanced: (class > 0).then_some(status), text })
    }

    fn standing(&mut self, received: WallTime) -> Option<Standing> {
        let (state, flags) = self.state()?;
        let (attempts, due) = (self.attempts(flags)?, self.due(flags, received)?);
        let last_reply = if flags & REPLIED == 0 { None } else { Some(Box::new(self.reply()?)) };
        let (more, crashes, redirect) = self.more(flags)?;
        let redirect = redirect.map(Into::into);
        let (warned, doubtful) = (more & WARNED != 0, more & DOUBTFUL != 0);
        Some(Standing { state, attempts, due, last_reply, warned, doubtful, crashes, redirect })
    }

    /// Flags, crashes and a redirection.
    fn more(&mut self, flags: u8) -> Option<(u8, u8, Option<&'a str>)> {
        if flags & MORE == 0 {
            return Some((0, 0, None));
        }
        let [more, crashes] = self.take(2)?.try_into().ok()?;
        if more & REDIRECTED == 0 {
            return Some((more, crashes, None));
        }
        let len = usize::try_from(self.number()?).ok()?;
        Some((more, crashes, Some(std::str::from_utf8(self.take(len)?).ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fresh(state: RecipientState, received: WallTime) -> Standing {
        Standing {
            state,
            attempts: 0,
            due: received,
            last_reply: None,
            warned: false,
            doubtful: false,
            crashes: 0,
            redirect: None,
        }
    }

    fn state() -> impl Strategy<Value = RecipientState> {
        let how = || prop_oneof![Just(Failure::Bounced), Just(Failure::Expired)];
        prop_oneof![
            Just(RecipientState::Queued),
            Just(RecipientState::Held),
            Just(RecipientState::Delivered),
            Just(RecipientState::Deleted),
            Just(RecipientState::OwedSuccess),
            how().prop_map(RecipientState::Owed),
            how().prop_map(RecipientState::Failed),
        ]
    }

    fn reply() -> impl Strategy<Value = Box<Reply>> {
        let status = (prop_oneof![Just(2u8), Just(4), Just(5)], 0..1000u16, 0..1000u16);
        let status = proptest::option::of(status.prop_map(|(c, s, d)| EnhancedStatus::new(c, s, d)));
        (200..600u16, status, ".{0,40}")
            .prop_map(|(code, enhanced, text)| Box::new(Reply { code, enhanced, text }))
    }

    fn standing() -> impl Strategy<Value = Standing> {
        let due = prop_oneof![Just(77), any::<u64>()].prop_map(WallTime);
        let redirect = proptest::option::of(".{0,20}");
        let more = (any::<bool>(), any::<bool>(), any::<u8>(), redirect);
        (state(), any::<u16>(), due, proptest::option::of(reply()), more).prop_map(
            |(state, attempts, due, last_reply, (warned, doubtful, crashes, redirect))| {
                let redirect = redirect.map(String::into_boxed_str);
                Standing { state, attempts, due, last_reply, warned, doubtful, crashes, redirect }
            },
        )
    }

    fn segment() -> impl Strategy<Value = SegmentId> {
        (1..=u64::MAX, any::<u32>()).prop_map(|(epoch, number)| SegmentId { epoch: Epoch(epoch), number })
    }

    fn body() -> impl Strategy<Value = BodyPlace> {
        let chunk = (segment(), any::<u64>(), any::<u32>(), any::<u32>())
            .prop_map(|(segment, offset, len, crc)| ChunkRef { segment, offset, len, crc });
        prop_oneof![
            (any::<u64>(), any::<u32>(), any::<u32>()).prop_map(|(offset, len, crc)| BodyPlace::Inline {
                offset,
                len,
                crc
            }),
            proptest::collection::vec(chunk, 0..4).prop_map(|chunks| BodyPlace::Chunks(chunks.into())),
        ]
    }

    fn message() -> impl Strategy<Value = Message> {
        let place = (segment(), any::<u64>()).prop_map(|(segment, offset)| Place { segment, offset });
        let standings = proptest::collection::vec(standing(), 0..5);
        let envelope = proptest::collection::vec(any::<u8>(), 0..80);
        let received = prop_oneof![Just(77), any::<u64>()];
        (place, any::<u64>(), body(), received, any::<u64>(), envelope, standings).prop_map(
            |(place, frame_len, body, received, size, envelope, standings)| Message {
                place,
                frame_len,
                body,
                received: WallTime(received),
                size,
                envelope: envelope.into(),
                standings: standings.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked_as_it_was(message in message()) {
            let packed = Packed::of(&message, &mut Vec::new());
            prop_assert_eq!((packed.received(), packed.size()), (message.received, message.size));
            let glances: Vec<Glance> = packed.glance().collect();
            let wanted: Vec<Glance> =
                message.standings.iter().map(|s| Glance { state: s.state, due: s.due }).collect();
            prop_assert_eq!(glances, wanted);
            let mut segments = vec![message.place.segment];
            if let BodyPlace::Chunks(chunks) = &message.body {
                segments.extend(chunks.iter().map(|chunk| chunk.segment));
            }
            prop_assert!(segments.into_iter().all(|segment| packed.lies_in(segment)));
            let nowhere = SegmentId { epoch: Epoch(0), number: 0 };
            prop_assert!(!packed.lies_in(nowhere));
            prop_assert_eq!(packed.open(), Some(message));
        }

        #[test]
        fn a_fresh_message_is_packed_as_one_whose_recipients_wait(
            mut message in message(), count in 0..4u16, held in any::<bool>(),
        ) {
            let state = if held { RecipientState::Held } else { RecipientState::Queued };
            message.standings = vec![fresh(state, message.received); usize::from(count)].into();
            let Message { place, frame_len, size, .. } = message;
            let rest = Rest { place, frame_len, size, body: &message.body, envelope: &message.envelope };
            let packed = Packed::fresh((message.received, count, held), &rest, &mut b"other".to_vec());
            prop_assert_eq!(packed.open(), Some(message));
        }
    }

    #[test]
    fn a_message_with_one_recipient_takes_forty_bytes_beside_its_envelope() {
        let place = Place { segment: SegmentId { epoch: Epoch(12), number: 300 }, offset: 60 << 20 };
        let received = WallTime(1_800_000_000_000);
        let fresh = fresh(RecipientState::Queued, received);
        let message = Message {
            place,
            frame_len: 4_400,
            body: BodyPlace::Inline { offset: place.offset + 170, len: 4_200, crc: u32::MAX },
            received,
            size: 4_200,
            envelope: vec![0; 45].into(),
            standings: [fresh].into(),
        };
        let len = Packed::of(&message, &mut Vec::new()).0.len();
        assert!(len <= 40 + 45, "{len}");
    }
}
