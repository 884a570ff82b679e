//! Notifications: a sender learns once of those recipients of a message that failed, of those that were delivered if it asked
//! for that, and of those that wait for long. RFC 3461.
//!
//! A notification's own record settles what it reports, so a crash makes neither two nor none (`docs/decisions/0004`). It has
//! the null reverse-path and goes its way through the queue like any message, in a line of its own.

use std::time::Duration;

use bytes::Bytes;
use mail_model::{
    BodyType, Domain, DsnReturn, Envelope, Mailbox, Recipient, RecipientIndex, Reply, ReversePath, WallTime,
};
use message::{Action, Report, ReportedRecipient, Returned};
use queue_format::books::{Message, Standing};
use queue_format::record::{
    Content, Failure, MessageKey, MessageRecord, RecipientState, Settles, Told, decode_envelope,
    encode_envelope,
};
use queue_store::{Queue, Refusal};
use settings::BounceSettings;

/// A header longer than this is cut.
const HEADER_MAX: usize = 64 * 1024;
/// A message longer than this is returned by its header only, whatever was asked: a notification is one frame.
const FULL_MAX: u64 = 256 * 1024;
/// Recipients that one notification reports: with the longest addresses and replies each takes 3.5 KiB, and the whole stays below
/// the 1 MiB of a frame. The others get the next one.
const REPORTED_MAX: usize = 200;

/// A notification that is in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notification {
    /// Its key.
    pub(crate) key: MessageKey,
    /// What it is: `failure`, `success` or `delay`.
    pub(crate) kind: &'static str,
    /// Those it reports on.
    pub(crate) recipients: Vec<RecipientIndex>,
}

/// What is asked besides the books.
pub(crate) struct Desk<'a> {
    /// The queue.
    pub(crate) queue: &'a Queue,
    /// The host that reports.
    pub(crate) host: &'a Domain,
    /// What senders are told.
    pub(crate) settings: &'a BounceSettings,
    /// How long a message is tried.
    pub(crate) lifetime: Duration,
    /// When.
    pub(crate) now: WallTime,
    /// Which host refused a recipient.
    pub(crate) remote: &'a (dyn Fn(RecipientIndex) -> Option<String> + Sync),
    /// True if an address is delivered to its mailbox by our next hop, not relayed.
    pub(crate) is_final: &'a (dyn Fn(&Mailbox) -> bool + Sync),
}

/// What is known of a message somebody must be told about.
struct Case {
    envelope: Envelope,
    to: Mailbox,
    received: WallTime,
    size: u64,
    owed: Vec<(RecipientIndex, Told, Option<Reply>)>,
}

impl Desk<'_> {
    /// Makes one notification that is due about `about`; `None` if there is none. Failures come first.
    pub(crate) async fn notify(&self, about: MessageKey) -> Result<Option<Notification>, Refusal> {
        let queue = self.queue;
        let look_up = |books: &queue_format::books::Books| self.look_up(&books.message(about)?);
        let Some(case) = queue.books(look_up).flatten() else { return Ok(None) };
        let key = queue.next_key();
        let returned = returned(queue, about, &case).await;
        let eight_bit = match &returned {
            Returned::Nothing => false,
            Returned::Headers(bytes) | Returned::Full(bytes) => !bytes.is_ascii(),
        };
        let mut envelope = Envelope::from_sender(ReversePath::Null);
        envelope.body = if eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit };
        envelope.smtputf8 = case.envelope.smtputf8 || case.to.is_international();
        envelope.recipients.push(Recipient::plain(case.to.clone()));
        let report = self.report(&case, key, about, returned, envelope.smtputf8);
        let body = Bytes::from(report.to_bytes());
        let kind = case.kind();
        let (about_id, count) = (report.about, case.owed.len());
        let record = MessageRecord {
            key,
            received: self.now,
            size: body.len() as u64,
            origin: format!("notification ({kind}) about {about_id}"),
            envelope: encode_envelope(&envelope),
            content: Content::Inline,
            settles: Some(Settles {
                message: about,
                recipients: case.owed.iter().map(|(index, told, _)| (*index, *told)).collect(),
            }),
            handover: None,
        };
        queue.accept(record, body).await?;
        tracing::info!(
            event = "bounce.queued", id = %report.id, about = %about_id, to = %case.to, kind, recipients = count
        );
        Ok(Some(Notification { key, kind, recipients: case.owed.iter().map(|(index, ..)| *index).collect() }))
    }

    fn report(
        &self,
        case: &Case,
        key: MessageKey,
        about: MessageKey,
        returned: Returned,
        smtputf8: bool,
    ) -> Report {
        let reported = case.owed.iter().filter_map(|(index, told, reply)| {
            let recipient = case.envelope.recipients.get(usize::from(*index))?;
            let expanded = recipient.expanded && *told == Told::Delivered;
            Some(ReportedRecipient {
                address: if expanded { as_written(recipient) } else { recipient.address.clone() },
                original: recipient.original.clone(),
                reply: reply.clone(),
                remote: (self.remote)(*index),
                action: match told {
                    Told::Failed(Failure::Bounced) => Action::Failed,
                    Told::Failed(Failure::Expired) => Action::Expired,
                    Told::Late => Action::Late { until: case.received + self.lifetime },
                    Told::Delivered if expanded => Action::Expanded,
                    Told::Delivered if (self.is_final)(&recipient.address) => Action::Delivered,
                    Told::Delivered => Action::Relayed,
                },
            })
        });
        Report {
            host: self.host.clone(),
            to: case.to.clone(),
            id: self.queue.message_id(key).to_string(),
            about: self.queue.message_id(about).to_string(),
            envid: case.envelope.envid.clone(),
            smtputf8,
            arrived: case.received,
            at: self.now,
            recipients: reported.collect(),
            returned,
        }
    }

    fn look_up(&self, message: &Message) -> Option<Case> {
        let envelope = decode_envelope(&message.envelope).ok()?;
        let standings = || (0..).zip(&message.standings);
        let told = |(index, standing): (RecipientIndex, &Standing), told| {
            (index, told, standing.last_reply.as_deref().cloned())
        };
        let failed = standings().filter_map(|item| match item.1.state {
            RecipientState::Owed(how) => Some(told(item, Told::Failed(how))),
            RecipientState::OwedSuccess
            | RecipientState::Queued
            | RecipientState::Held
            | RecipientState::Delivered
            | RecipientState::Failed(_)
            | RecipientState::Deleted => None,
        });
        let mut owed: Vec<_> = failed.take(REPORTED_MAX).collect();
        if owed.is_empty() {
            let done = standings().filter(|(_, standing)| standing.state == RecipientState::OwedSuccess);
            owed.extend(done.map(|item| told(item, Told::Delivered)).take(REPORTED_MAX));
        }
        if owed.is_empty() && is_late(self.settings, message.received, self.now) {
            let late = standings().filter(|(index, standing)| may_warn(&envelope, *index, standing));
            owed.extend(late.map(|item| told(item, Told::Late)).take(REPORTED_MAX));
        }
        let to = match &envelope.reverse_path {
            ReversePath::Mailbox(to) => to.clone(),
            // RFC 5321 4.5.5: nothing is owed to nobody. The postmaster may want to know.
            ReversePath::Null => self.settings.postmaster.clone(),
        };
        let (received, size) = (message.received, message.size);
        (!owed.is_empty()).then_some(Case { envelope, to, received, size, owed })
    }
}

impl Case {
    fn kind(&self) -> &'static str {
        match self.owed.first() {
            None | Some((_, Told::Failed(_), _)) => "failure",
            Some((_, Told::Delivered, _)) => "success",
            Some((_, Told::Late, _)) => "delay",
        }
    }
}

/// Of an address that stands for others its sender hears by its own name.
fn as_written(recipient: &Recipient) -> Mailbox {
    let written = recipient.original.as_ref().and_then(|said| Mailbox::parse_stored(&said.address).ok());
    written.unwrap_or_else(|| recipient.address.clone())
}

/// True if the sender of a message that came then may hear that it is late.
pub(crate) fn is_late(settings: &BounceSettings, received: WallTime, now: WallTime) -> bool {
    settings.warn.is_some_and(|warn| now.since(received) >= warn)
}

/// True if a late recipient's sender is to be told.
pub(crate) fn may_warn(envelope: &Envelope, index: RecipientIndex, standing: &Standing) -> bool {
    let recipient = envelope.recipients.get(usize::from(index));
    standing.state == RecipientState::Queued
        && !standing.warned
        && envelope.reverse_path != ReversePath::Null
        && recipient.is_some_and(Recipient::wants_delay)
}

/// RFC 3461 4.3: of a message that failed the whole if that was asked for, else its header. What cannot be read is not returned.
async fn returned(queue: &Queue, about: MessageKey, case: &Case) -> Returned {
    let failed = case.owed.iter().any(|(_, told, _)| matches!(told, Told::Failed(_)));
    let full = failed && case.envelope.ret == Some(DsnReturn::Full) && case.size <= FULL_MAX;
    if case.envelope.require_tls {
        // RFC 8689 5: without its content the notification need not ask for TLS itself, and reaches more senders.
        return Returned::Nothing;
    }
    let Some(mut reader) = queue.content(about) else { return Returned::Nothing };
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes: Vec<u8> = Vec::new();
        while let Some(piece) = reader.next_piece() {
            bytes.extend_from_slice(&piece.ok()?);
            if !full && (bytes.len() >= HEADER_MAX || header_end(&bytes).is_some()) {
                break;
            }
        }
        Some(bytes)
    });
    match read.await {
        Ok(Some(bytes)) if full => Returned::Full(bytes),
        Ok(Some(mut bytes)) => {
            bytes.truncate(header_end(&bytes).unwrap_or(bytes.len()));
            cut(&mut bytes, HEADER_MAX);
            Returned::Headers(bytes)
        }
        Ok(None) | Err(_) => Returned::Nothing,
    }
}

/// Where the header ends, its last CRLF included.
fn header_end(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(0);
    }
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 2)
}

/// Cuts after the last whole line within `max` octets.
fn cut(bytes: &mut Vec<u8>, max: usize) {
    if bytes.len() > max {
        let kept = bytes.get(..max).unwrap_or_default();
        let end = kept.windows(2).rposition(|two| two == b"\r\n").map_or(0, |at| at + 2);
        bytes.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_before_the_empty_line_and_is_cut_at_a_line() {
        assert_eq!(header_end(b"a: b\r\nc: d\r\n\r\nbody\r\n\r\n"), Some(12));
        assert_eq!(header_end(b"\r\nbody\r\n"), Some(0));
        assert_eq!(header_end(b"a: b\r\n"), None);
        let mut bytes = b"a: b\r\nc: d\r\ne: f\r\n".to_vec();
        cut(&mut bytes, 13);
        assert_eq!(bytes, b"a: b\r\nc: d\r\n");
    }
}
