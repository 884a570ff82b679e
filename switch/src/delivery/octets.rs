//! Whether a message needs what its envelope asks for. Clients say BODY=8BITMIME and SMTPUTF8 for nearly everything; only where
//! a next hop does not offer them the content is read to see. RFC 6152 3, RFC 6531 3.2.

use std::borrow::Cow;

use mail_model::{BodyType, Envelope, RecipientIndex, ReversePath};
use queue_format::record::MessageKey;
use queue_store::Queue;
use smtp::transaction::PeerExtensions;

/// What content holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Octets {
    header_is_ascii: bool,
    body_is_ascii: bool,
}

/// Reads content piece by piece.
#[derive(Debug)]
struct Reading {
    found: Octets,
    in_body: bool,
    /// How much of the line that ends the header was met: `CR LF CR LF`.
    ending: usize,
}

impl Reading {
    fn new() -> Self {
        // Content that begins with an empty line has no header.
        Self { found: Octets { header_is_ascii: true, body_is_ascii: true }, in_body: false, ending: 2 }
    }

    fn pass(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !self.in_body {
            let Some((byte, more)) = rest.split_first() else { return };
            rest = more;
            self.found.header_is_ascii &= byte.is_ascii();
            self.ending = match (byte, self.ending) {
                (b'\r', 0 | 2) | (b'\n', 1 | 3) => self.ending + 1,
                (b'\r', _) => 1,
                _ => 0,
            };
            self.in_body = self.ending == 4;
        }
        self.found.body_is_ascii &= rest.is_ascii();
    }
}

/// The envelope of `key` for a host that offers `peer`: without what the message does not need. What cannot be read now is
/// left as it is.
pub(crate) async fn fitting<'a>(
    queue: &Queue,
    key: MessageKey,
    envelope: &'a Envelope,
    recipients: &[RecipientIndex],
    peer: &PeerExtensions,
) -> Cow<'a, Envelope> {
    let lacks_8bit = envelope.body == BodyType::EightBitMime && !peer.eight_bit_mime && !peer.takes_eight_bit;
    let lacks_utf8 = envelope.smtputf8 && !peer.smtputf8 && !has_international_address(envelope, recipients);
    if !lacks_8bit && !lacks_utf8 {
        return Cow::Borrowed(envelope);
    }
    let Some(octets) = read(queue, key).await else { return Cow::Borrowed(envelope) };
    let mut fitting = envelope.clone();
    if lacks_8bit && octets.header_is_ascii && octets.body_is_ascii {
        fitting.body = BodyType::SevenBit;
    }
    if lacks_utf8 && octets.header_is_ascii {
        fitting.smtputf8 = false;
    }
    Cow::Owned(fitting)
}

fn has_international_address(envelope: &Envelope, recipients: &[RecipientIndex]) -> bool {
    let sender =
        matches!(&envelope.reverse_path, ReversePath::Mailbox(mailbox) if mailbox.is_international());
    let recipient = |index: &RecipientIndex| {
        envelope.recipients.get(usize::from(*index)).is_some_and(|r| r.address.is_international())
    };
    sender || recipients.iter().any(recipient)
}

async fn read(queue: &Queue, key: MessageKey) -> Option<Octets> {
    let mut reader = queue.content(key)?;
    let read = tokio::task::spawn_blocking(move || {
        let mut reading = Reading::new();
        while let Some(piece) = reader.next_piece() {
            reading.pass(&piece.ok()?);
        }
        Some(reading.found)
    });
    read.await.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_body_are_told_apart_however_they_arrive() {
        for (content, header_is_ascii, body_is_ascii) in [
            ("Subject: x\r\n\r\nbody\r\n", true, true),
            ("Subject: \u{fc}\r\n\r\nbody\r\n", false, true),
            ("Subject: x\r\n\r\nb\u{fc}dy\r\n", true, false),
            ("\r\nb\u{fc}dy\r\n", true, false),
            ("Subject: x\r\n y\r\n\r\n\r\n\u{fc}", true, false),
        ] {
            for size in 1..content.len() {
                let mut reading = Reading::new();
                content.as_bytes().chunks(size).for_each(|piece| reading.pass(piece));
                assert_eq!(reading.found, Octets { header_is_ascii, body_is_ascii }, "{content:?} by {size}");
            }
        }
    }
}
