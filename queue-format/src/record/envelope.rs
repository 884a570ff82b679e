//! The envelope as stored. Small: most messages have one recipient and no wishes.

use mail_model::{BodyType, DsnReturn, Envelope, Mailbox, Notify, OriginalRecipient, Recipient, ReversePath};

use crate::wire::{DecodeError, Reader, Writer};

const EIGHT_BIT: u8 = 1;
const SMTPUTF8: u8 = 2;
const RET_FULL: u8 = 4;
const RET_HEADERS: u8 = 8;
const ENVID: u8 = 16;
const REQUIRE_TLS: u8 = 32;
/// Not of the envelope itself: every recipient is held when the message comes into being.
const HELD: u8 = 128;

const NOTIFY: u8 = 1;
const ON_SUCCESS: u8 = 2;
const ON_FAILURE: u8 = 4;
const ON_DELAY: u8 = 8;
const ORIGINAL: u8 = 16;
// Who does not know it tells of the success of that one address instead.
const EXPANDED: u8 = 32;

fn flag(on: bool, bit: u8) -> u8 {
    if on { bit } else { 0 }
}

/// The bytes of an envelope.
#[must_use]
pub fn encode_envelope(envelope: &Envelope) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let mut w = Writer(&mut out);
    let flags = flag(envelope.body == BodyType::EightBitMime, EIGHT_BIT)
        | flag(envelope.smtputf8, SMTPUTF8)
        | flag(envelope.ret == Some(DsnReturn::Full), RET_FULL)
        | flag(envelope.ret == Some(DsnReturn::Headers), RET_HEADERS)
        | flag(envelope.envid.is_some(), ENVID)
        | flag(envelope.require_tls, REQUIRE_TLS);
    w.u8(flags);
    w.text(&envelope.reverse_path.to_string());
    if let Some(envid) = &envelope.envid {
        w.text(envid);
    }
    w.count(envelope.recipients.len());
    for recipient in &envelope.recipients {
        let notify = recipient.notify.unwrap_or_default();
        let flags = flag(recipient.notify.is_some(), NOTIFY)
            | flag(notify.success, ON_SUCCESS)
            | flag(notify.failure, ON_FAILURE)
            | flag(notify.delay, ON_DELAY)
            | flag(recipient.original.is_some(), ORIGINAL)
            | flag(recipient.expanded, EXPANDED);
        w.u8(flags);
        w.text(&recipient.address.to_string());
        if let Some(original) = &recipient.original {
            w.text(&original.address_type);
            w.text(&original.address);
        }
    }
    out
}

/// Marks the bytes of an envelope: the message is held from its first moment, until somebody releases it.
pub fn mark_held(envelope: &mut [u8]) {
    if let Some(flags) = envelope.first_mut() {
        *flags |= HELD;
    }
}

/// True if [`mark_held`] marked it.
#[must_use]
pub fn is_marked_held(envelope: &[u8]) -> bool {
    envelope.first().is_some_and(|flags| flags & HELD != 0)
}

/// Reads what [`encode_envelope`] wrote.
pub fn decode_envelope(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    let mut r = Reader(bytes);
    let flags = r.u8("envelope flags")?;
    let path = r.text("reverse path")?;
    let reverse_path = if path.is_empty() {
        ReversePath::Null
    } else {
        ReversePath::Mailbox(Mailbox::parse_stored(path).map_err(|_| DecodeError::Value("reverse path"))?)
    };
    let envid = if flags & ENVID == 0 { None } else { Some(r.text("envelope id")?.into()) };
    let count = r.count(3, "recipients")?;
    if count > usize::from(u16::MAX) {
        return Err(DecodeError::Value("recipients"));
    }
    let recipients = (0..count).map(|_| decode_recipient(&mut r)).collect::<Result<_, _>>()?;
    r.end()?;
    let ret = match flags & (RET_FULL | RET_HEADERS) {
        0 => None,
        RET_FULL => Some(DsnReturn::Full),
        RET_HEADERS => Some(DsnReturn::Headers),
        _ => return Err(DecodeError::Value("envelope flags")),
    };
    let body = if flags & EIGHT_BIT == 0 { BodyType::SevenBit } else { BodyType::EightBitMime };
    let (smtputf8, require_tls) = (flags & SMTPUTF8 != 0, flags & REQUIRE_TLS != 0);
    Ok(Envelope { reverse_path, body, smtputf8, require_tls, ret, envid, recipients })
}

/// How many recipients an envelope has that [`decode_envelope`] reads. Makes nothing: a million of them are counted at a
/// start.
pub fn count_recipients(bytes: &[u8]) -> Result<u16, DecodeError> {
    let mut r = Reader(bytes);
    let flags = r.u8("envelope flags")?;
    let path = r.text("reverse path")?;
    if !path.is_empty() {
        Mailbox::check_stored(path).map_err(|_| DecodeError::Value("reverse path"))?;
    }
    if flags & ENVID != 0 {
        r.text("envelope id")?;
    }
    let count = u16::try_from(r.count(3, "recipients")?).map_err(|_| DecodeError::Value("recipients"))?;
    for _ in 0..count {
        let flags = r.u8("recipient flags")?;
        Mailbox::check_stored(r.text("recipient")?).map_err(|_| DecodeError::Value("recipient"))?;
        if flags & ORIGINAL != 0 {
            r.text("original recipient type")?;
            r.text("original recipient")?;
        }
    }
    r.end()?;
    match flags & (RET_FULL | RET_HEADERS) {
        0 | RET_FULL | RET_HEADERS => Ok(count),
        _ => Err(DecodeError::Value("envelope flags")),
    }
}

fn decode_recipient(r: &mut Reader<'_>) -> Result<Recipient, DecodeError> {
    let flags = r.u8("recipient flags")?;
    let address = Mailbox::parse_stored(r.text("recipient")?).map_err(|_| DecodeError::Value("recipient"))?;
    let original = if flags & ORIGINAL == 0 {
        None
    } else {
        Some(OriginalRecipient {
            address_type: r.text("original recipient type")?.into(),
            address: r.text("original recipient")?.into(),
        })
    };
    let notify = (flags & NOTIFY != 0).then_some(Notify {
        success: flags & ON_SUCCESS != 0,
        failure: flags & ON_FAILURE != 0,
        delay: flags & ON_DELAY != 0,
    });
    Ok(Recipient { address, notify, original, expanded: flags & EXPANDED != 0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let words =
            vec!["", "a@b", "postmaster", "a@b@c", "A@b.test", " @x", "a@", "@b", "x", "\u{e9}@\u{e9}.test"];
        proptest::sample::select(words).prop_map(|word| {
            let mut bytes = Vec::new();
            Writer(&mut bytes).text(word);
            bytes
        })
    }

    #[test]
    fn the_mark_of_who_tells_for_several_is_one_bit_that_older_readers_pass_over() {
        let mut envelope = Envelope::from_sender(ReversePath::Null);
        envelope.recipients.push(Recipient::plain(Mailbox::parse_stored("a@b.test").unwrap()));
        let plain = encode_envelope(&envelope);
        if let Some(recipient) = envelope.recipients.first_mut() {
            recipient.expanded = true;
        }
        let marked = encode_envelope(&envelope);
        assert_eq!(decode_envelope(&marked).unwrap(), envelope);
        let differs: Vec<u8> =
            plain.iter().zip(&marked).map(|(a, b)| a ^ b).filter(|bits| *bits != 0).collect();
        assert_eq!((plain.len(), differs), (marked.len(), vec![EXPANDED]));
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_is_read_and_what_is_refused_is_refused_by_both(
            flags in any::<u8>(),
            texts in proptest::collection::vec((any::<u8>(), text(), text(), text()), 0..4),
            path in text(),
            cut in 0..6usize,
        ) {
            let mut bytes = vec![flags];
            bytes.extend_from_slice(&path);
            if flags & ENVID != 0 {
                bytes.extend_from_slice(&path);
            }
            Writer(&mut bytes).count(texts.len());
            for (flags, address, kind, original) in &texts {
                bytes.push(*flags);
                bytes.extend_from_slice(address);
                if flags & ORIGINAL != 0 {
                    bytes.extend_from_slice(kind);
                    bytes.extend_from_slice(original);
                }
            }
            bytes.truncate(bytes.len() - usize::from(cut == 5));
            let read = decode_envelope(&bytes).map(|envelope| envelope.recipients.len());
            let counted = count_recipients(&bytes).map(usize::from);
            prop_assert_eq!(counted, read);
        }
    }
}
