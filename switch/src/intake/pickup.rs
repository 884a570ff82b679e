//! Mail that programs of this machine left in the maildrop, taken into the queue.
//!
//! A file is marked before its message is written and removed after it is durable. If the switch ends between the two, the
//! next one finds the mark: the message may be in the queue already, so it may go out twice. It is taken again, and said so in the
//! log by name, rather than lost.
//!
//! Never: a file removed whose message is not durable.

use std::io::Read;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use control::maildrop::{self, Left, Slot};
use mail_model::{BodyType, Envelope, Recipient};
use message::Posted;
use queue_format::record::encode_envelope;

use super::inspection::Exhibit;
use super::outcome::{self, Remaining};
use super::parts::{Parts, Phase};
use super::recipients;
use super::upload::{Heading, NotStored, Upload};

/// How often the maildrop is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How much of a file is read at once.
const PIECE: usize = 64 << 10;

/// What became of a file.
enum Fate {
    /// It is in the queue.
    Stored,
    /// Not now.
    Later,
    /// Nobody can understand it, or it may not go out.
    Refused(String),
    /// This owner does not know: the next one will.
    Unsettled,
}

/// Looks at the maildrop until sessions are to end.
pub(super) async fn run(parts: Arc<Parts>, directory: PathBuf) {
    let mut phase = parts.phase.clone();
    loop {
        tokio::select! {
            _ = phase.wait_for(|phase| *phase != Phase::Open) => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        if !parts.gate.is_open() {
            continue;
        }
        let slots = match maildrop::slots(&directory) {
            Ok(slots) => slots,
            Err(error) => {
                tracing::warn!(event = "maildrop.unreadable", directory = %directory.display(), %error);
                continue;
            }
        };
        for slot in slots {
            if *phase.borrow() != Phase::Open || !take(&parts, slot).await {
                break;
            }
        }
    }
}

/// Takes one file. False if no other should be tried now.
async fn take(parts: &Parts, mut slot: Slot) -> bool {
    let name = slot.name();
    if slot.in_doubt {
        tracing::warn!(event = "maildrop.in_doubt", name);
    }
    let fate = match slot.open() {
        // A file that goes while it is looked at was not meant for us.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return true,
        Err(error) => Fate::Refused(error.to_string()),
        Ok(left) => match slot.take() {
            Ok(()) => store(parts, left, &name).await,
            Err(_) => Fate::Later,
        },
    };
    let (more, done) = match fate {
        Fate::Stored => (true, slot.remove()),
        Fate::Later => (false, slot.put_back()),
        Fate::Unsettled => (false, Ok(())),
        Fate::Refused(why) => {
            tracing::error!(event = "maildrop.refused", name, why);
            (true, slot.refuse())
        }
    };
    if let Err(error) = done {
        tracing::warn!(event = "maildrop.not_marked", name, %error);
    }
    more
}

async fn store(parts: &Parts, left: Left, name: &str) -> Fate {
    let settings = parts.settings.load_full();
    let limits = &settings.limits.session.limits;
    if left.size > limits.message_size {
        return Fate::Refused(format!("{} bytes are more than limits.message_size", left.size));
    }
    let (from, to) = match left.letter.addresses() {
        Ok(addresses) => addresses,
        Err(why) => return Fate::Refused(why),
    };
    if parts.queue.admit(left.size).is_err() {
        return Fate::Later;
    }
    let mut envelope = Envelope::from_sender(from);
    envelope.body = if left.letter.eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit };
    envelope.smtputf8 = to.iter().any(mail_model::Mailbox::is_international);
    envelope.recipients.extend(to.into_iter().map(Recipient::plain));
    if let Err(why) = left.letter.wishes().apply(&mut envelope) {
        return Fate::Refused(why);
    }
    // The tables are out of reach or mistaken for now, whatever it is.
    let Ok(envelope) = recipients::rewritten(&settings, &envelope) else { return Fate::Later };
    let (key, at, uid) = (parts.queue.next_key(), parts.clock.wall(), left.uid);
    let id = parts.queue.message_id(key).to_string();
    let field = Posted { uid, by: &settings.limits.session.hostname, id: &id, at }.to_string();
    let from = envelope.reverse_path.to_string();
    let heading = Heading {
        key,
        received: at,
        from: from.clone(),
        recipients: envelope.recipients.len(),
        origin: format!("maildrop {name} uid {uid}"),
        envelope: encode_envelope(&envelope),
        handover: None,
    };
    let inspection = parts.inspection.load_full();
    let upload = Upload::begin(heading, &field, &settings.limits, left.size);
    let hostname = settings.limits.session.hostname.as_str();
    let mut upload = if inspection.looks_at(0, true) { upload.kept_whole(&settings.limits) } else { upload };
    let mut content = left.content;
    loop {
        // Pieces are small and come from the page cache.
        let mut piece = vec![0; PIECE];
        match content.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => upload.take(&parts.queue, piece.get(..read).unwrap_or_default()).await,
            Err(error) => {
                upload.abandon(&parts.queue);
                return Fate::Refused(error.to_string());
            }
        }
    }
    let mut remaining = Remaining::default();
    if let Some((content, room)) = upload.whole(&parts.queue).await {
        let exhibit = Exhibit {
            id: id.clone(),
            client: Ipv4Addr::LOCALHOST.into(),
            client_name: None,
            user: None,
            trusted: true,
            helo: hostname.to_owned(),
            envelope,
            content,
        };
        match outcome::inspected(parts, &settings, (&*inspection, 0), exhibit, room, &mut upload).await {
            Ok(found) => remaining = found,
            Err(reply) => {
                upload.abandon(&parts.queue);
                return if reply.code >= 500 { Fate::Refused(reply.to_string()) } else { Fate::Later };
            }
        }
    }
    let (size, recipients) = (upload.size(), upload.heading().recipients);
    match upload.finish(&parts.queue, &remaining.fields).await {
        Ok(content) => {
            remaining.follow(parts, key, recipients).await;
            (parts.notice)(key, content);
            parts.counters.accepted.add(1);
            parts.queue.replied(key);
            tracing::info!(event = "maildrop.accepted", id, name, uid, from, recipients, size);
            Fate::Stored
        }
        Err(NotStored::Unsettled) => Fate::Unsettled,
        Err(NotStored::Refused(reply)) if reply.code >= 500 => Fate::Refused(reply.to_string()),
        Err(NotStored::Refused(_)) => Fate::Later,
    }
}
