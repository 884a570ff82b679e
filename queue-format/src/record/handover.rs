//! A message that another switch handed over under a name, so that a repeat of it is recognised: `docs/ONCE.md`.
//!
//! The name stands in the message's own record, so it is durable exactly when the message is. It outlives the message: a
//! `TAKEN` moves it to a younger segment when the message's own is retired.

use mail_model::Envelope;

use crate::wire::{DecodeError, Reader, Writer};

/// What a repeat of a hand-over is recognised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// The name that the client gave it: printable ASCII.
    pub id: Box<str>,
    /// The reverse path, as the client said it.
    pub sender: Box<str>,
    /// Octets of the content, as the client sent it.
    pub octets: u64,
    /// Their crc32c.
    pub crc: u32,
    /// For whom this message was taken, as the client said it.
    pub recipients: Box<[Box<str>]>,
}

impl Handover {
    /// True if `other` is the same message under the same name, for whomever.
    #[must_use]
    pub fn is_repeat_of(&self, other: &Self) -> bool {
        (&self.id, &self.sender, self.octets, self.crc) == (&other.id, &other.sender, other.octets, other.crc)
    }

    /// About how many bytes of memory it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = self.recipients.iter().map(|recipient| recipient.len() + 16).sum::<usize>();
        256 + 2 * self.id.len() + self.sender.len() + texts
    }
}

/// A hand-over whose content is arriving.
#[derive(Debug)]
pub struct Incoming(Handover);

impl Incoming {
    /// One under this name, of a message with this envelope.
    #[must_use]
    pub fn begin(id: Box<str>, envelope: &Envelope) -> Self {
        let recipients = envelope.recipients.iter().map(|to| to.address.to_string().into_boxed_str());
        Self(Handover {
            id,
            sender: envelope.reverse_path.to_string().into_boxed_str(),
            octets: 0,
            crc: 0,
            recipients: recipients.collect(),
        })
    }

    /// The next bytes of the content.
    pub fn take(&mut self, bytes: &[u8]) {
        self.0.octets += bytes.len() as u64;
        self.0.crc = crc32c::crc32c_append(self.0.crc, bytes);
    }

    /// The content is whole.
    #[must_use]
    pub fn whole(self) -> Handover {
        self.0
    }
}

impl Handover {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.text(&self.id);
        w.text(&self.sender);
        w.u64(self.octets);
        w.u32(self.crc);
        w.count(self.recipients.len());
        for recipient in &self.recipients {
            w.text(recipient);
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Box<Self>, DecodeError> {
        let id = r.text("hand-over id")?.into();
        let sender = r.text("hand-over sender")?.into();
        let octets = r.u64("hand-over octets")?;
        let crc = r.u32("hand-over crc")?;
        let count = r.count(2, "hand-over recipients")?;
        let recipients = (0..count)
            .map(|_| Ok(r.text("hand-over recipient")?.into()))
            .collect::<Result<_, DecodeError>>()?;
        Ok(Box::new(Self { id, sender, octets, crc, recipients }))
    }
}

#[cfg(test)]
mod tests {
    use mail_model::{Mailbox, Recipient, ReversePath};

    use super::*;

    fn whole(id: &str, to: &str, pieces: &[&[u8]]) -> Handover {
        let mut envelope = Envelope::from_sender(ReversePath::Null);
        envelope.recipients.push(Recipient::plain(Mailbox::parse_stored(to).unwrap()));
        let mut incoming = Incoming::begin(id.into(), &envelope);
        for piece in pieces {
            incoming.take(piece);
        }
        incoming.whole()
    }

    #[test]
    fn a_repeat_is_the_same_content_under_the_same_name_however_it_was_cut_and_for_whomever() {
        let first = whole("x", "a@b.test", &[b"one ", b"two"]);
        assert!(whole("x", "c@b.test", &[b"one two"]).is_repeat_of(&first));
        for other in [
            whole("y", "a@b.test", &[b"one two"]),
            whole("x", "a@b.test", &[b"one twO"]),
            whole("x", "a@b.test", &[b"one two "]),
            Handover { sender: "d@b.test".into(), ..first.clone() },
        ] {
            assert!(!other.is_repeat_of(&first), "{other:?}");
        }
    }
}
