//! What the inspectors say of a message, carried out on its upload, and on the queue once it is there.

use mail_model::{Envelope, Reply};
use queue_format::record::{MessageKey, OperateRecord, Verb};
use settings::Settings;

use super::inspection::{Exhibit, Inspection};
use super::parts::Parts;
use super::recipients;
use super::upload::{Room, Upload};

/// What remains to be done with a message that is taken.
#[derive(Debug, Default)]
pub(crate) struct Remaining {
    /// Comes on top of its content.
    pub(crate) fields: String,
    /// Why it is deleted once it is in the queue.
    discard: Option<String>,
}

/// Asks about a message, and makes its upload what they say. `Err` says why it is not taken.
pub(crate) async fn inspected(
    parts: &Parts,
    settings: &Settings,
    (inspection, listener): (&Inspection, usize),
    exhibit: Exhibit,
    room: Room,
    upload: &mut Upload,
) -> Result<Remaining, Reply> {
    let envelope = exhibit.envelope.clone();
    let changes = inspection.of(listener, exhibit).await?;
    if let Some(content) = &changes.content {
        upload.replace(&parts.queue, content).await;
    }
    if let Some(recipients) = changes.recipients {
        upload.send_to(&recipients::rewritten(settings, &Envelope { recipients, ..envelope })?);
    }
    // What is to be deleted must not be sent before that.
    if let Some(why) = changes.hold.as_ref().or(changes.discard.as_ref()) {
        upload.hold(why);
    }
    // The copies of its content go with this.
    drop(room);
    Ok(Remaining { fields: changes.top, discard: changes.discard })
}

impl Remaining {
    /// The message is in the queue. If it cannot be deleted now it stays there, held.
    pub(crate) async fn follow(&self, parts: &Parts, key: MessageKey, recipients: usize) {
        let Some(why) = &self.discard else { return };
        let operate = OperateRecord {
            message: key,
            verb: Verb::Delete,
            recipients: (0..u16::try_from(recipients).unwrap_or(u16::MAX)).collect(),
            at: parts.clock.wall(),
            by: format!("switch: {why}"),
            to: None,
        };
        if let Err(refusal) = parts.queue.operate(operate).await {
            let id = parts.queue.message_id(key);
            tracing::warn!(event = "filter.not_deleted", %id, why, ?refusal);
        }
    }
}
