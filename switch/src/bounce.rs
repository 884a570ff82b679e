//! Bounces: a sender learns once of those recipients of a message that failed.
//!
//! The bounce's own record settles what it reports, so a crash makes neither two nor none (`docs/decisions/0004`). It has
//! the null reverse-path and goes its way through the queue like any message.

use bytes::Bytes;
use mail_model::{
    BodyType, Domain, DsnReturn, Envelope, Mailbox, Recipient, RecipientIndex, Reply, ReversePath, WallTime,
};
use message::{FailedRecipient, Report, Returned};
use queue_format::record::{
    Content, Failure, MessageKey, MessageRecord, RecipientState, Settles, decode_envelope, encode_envelope,
};
use queue_store::{Queue, Refusal};

/// A header longer than this is cut.
const HEADER_MAX: usize = 64 * 1024;
/// A message longer than this is returned by its header only, whatever was asked: a bounce is one frame.
const FULL_MAX: u64 = 256 * 1024;
/// Recipients that one bounce reports: with the longest addresses and replies each takes 3.5 KiB, and the whole stays below
/// the 1 MiB of a frame. The others get the next one.
const REPORTED_MAX: usize = 200;

/// A bounce that is in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bounce {
    /// Its key.
    pub(crate) key: MessageKey,
    /// Those it reports on.
    pub(crate) recipients: Vec<RecipientIndex>,
}

/// What is known of a message somebody must be told about.
struct Case {
    envelope: Envelope,
    to: Mailbox,
    received: WallTime,
    size: u64,
    owed: Vec<(RecipientIndex, Failure, Option<Reply>)>,
}

/// Makes the bounce for those recipients of `about` whose failure is owed; `None` if there are none. `remote` knows which
/// host refused a recipient.
pub(crate) async fn make(
    queue: &Queue,
    host: &Domain,
    now: WallTime,
    about: MessageKey,
    remote: &(dyn Fn(RecipientIndex) -> Option<String> + Sync),
) -> Result<Option<Bounce>, Refusal> {
    let Some(case) = queue.books(|books| look_up(&books.message(about)?)).flatten() else { return Ok(None) };
    let key = queue.next_key();
    let returned = returned(queue, about, &case).await;
    let eight_bit = match &returned {
        Returned::Nothing => false,
        Returned::Headers(bytes) | Returned::Full(bytes) => !bytes.is_ascii(),
    };
    let recipients: Vec<RecipientIndex> = case.owed.iter().map(|(index, ..)| *index).collect();
    let settles = case.owed.iter().map(|(index, how, _)| (*index, *how)).collect();
    let mut envelope = Envelope::from_sender(ReversePath::Null);
    envelope.body = if eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit };
    envelope.smtputf8 = case.envelope.smtputf8 || case.to.is_international();
    envelope.recipients.push(Recipient::plain(case.to.clone()));
    let failed = case.owed.iter().filter_map(|(index, how, reply)| {
        let recipient = case.envelope.recipients.get(usize::from(*index))?;
        Some(FailedRecipient {
            address: recipient.address.clone(),
            original: recipient.original.clone(),
            reply: reply.clone(),
            remote: remote(*index),
            expired: *how == Failure::Expired,
        })
    });
    let report = Report {
        host: host.clone(),
        to: case.to.clone(),
        id: queue.message_id(key).to_string(),
        about: queue.message_id(about).to_string(),
        envid: case.envelope.envid.clone(),
        smtputf8: envelope.smtputf8,
        arrived: case.received,
        at: now,
        recipients: failed.collect(),
        returned,
    };
    let body = Bytes::from(report.to_bytes());
    let record = MessageRecord {
        key,
        received: now,
        size: body.len() as u64,
        origin: format!("bounce of {}", report.about),
        envelope: encode_envelope(&envelope),
        content: Content::Inline,
        settles: Some(Settles { message: about, recipients: settles }),
    };
    queue.accept(record, body).await?;
    let count = recipients.len();
    tracing::info!(event = "bounce.queued", id = %report.id, about = %report.about, to = %case.to, recipients = count);
    Ok(Some(Bounce { key, recipients }))
}

fn look_up(message: &queue_format::books::Message) -> Option<Case> {
    let owed = (0..).zip(&message.standings).filter_map(|(index, standing)| match standing.state {
        RecipientState::Owed(how) => Some((index, how, standing.last_reply.as_deref().cloned())),
        RecipientState::Queued
        | RecipientState::Held
        | RecipientState::Delivered
        | RecipientState::Failed(_)
        | RecipientState::Deleted => None,
    });
    let owed: Vec<_> = owed.take(REPORTED_MAX).collect();
    let envelope = decode_envelope(&message.envelope).ok()?;
    let to = match &envelope.reverse_path {
        ReversePath::Mailbox(to) => to.clone(),
        // RFC 5321 4.5.5: nothing is owed to nobody.
        ReversePath::Null => return None,
    };
    let (received, size) = (message.received, message.size);
    (!owed.is_empty()).then_some(Case { envelope, to, received, size, owed })
}

/// RFC 3461 4.3: the whole message if that was asked for, else its header. What cannot be read is not returned.
async fn returned(queue: &Queue, about: MessageKey, case: &Case) -> Returned {
    let full = case.envelope.ret == Some(DsnReturn::Full) && case.size <= FULL_MAX;
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
