//! Whom a message that another switch hands over was taken for before is answered 250 and gets no second copy: `docs/ONCE.md`.
//!
//! Never: a 250 for a message that is not durable here; a repeat judged anew by filters, which may change their mind.

use std::collections::HashSet;

use queue_format::record::MessageKey;
use smtp::session::Storage;

use super::Conversation;
use crate::intake::named::Named;
use crate::intake::recipients;
use crate::intake::turns::Turn;
use crate::intake::upload::Upload;

impl Conversation {
    /// Waits for its turn and takes out of `upload` whoever has the message. An answer if nothing is left to do.
    pub(super) async fn recognise(&mut self, named: Named, upload: &mut Upload) -> Result<Turn, Storage> {
        let (mut handover, mut envelope) = named.whole();
        let turn = self.parts.turns.of(&handover.id).await;
        let (name, client) = (handover.id.clone(), self.visitor.client);
        let queue = &self.parts.queue;
        let mut before: Option<MessageKey> = None;
        let mut had: HashSet<Box<str>> = HashSet::new();
        queue.books(|books| {
            for (key, known) in books.handed_over(&name) {
                if handover.is_repeat_of(known) {
                    before.get_or_insert(key);
                    had.extend(known.recipients.iter().cloned());
                } else {
                    let id = queue.message_id(key);
                    tracing::warn!(event = "handover.differs", %id, %client, %name);
                }
            }
        });
        let Some(key) = before else {
            upload.name(Box::new(handover));
            return Ok(turn);
        };
        let id = queue.message_id(key).to_string();
        let said = envelope.recipients.len();
        envelope.recipients.retain(|to| !had.contains(to.address.to_string().as_str()));
        let recipients = said - envelope.recipients.len();
        if recipients > 0 {
            self.parts.counters.repeated.add(1);
            tracing::info!(event = "message.repeated", %id, %client, %name, recipients);
        }
        if envelope.recipients.is_empty() {
            self.inspected = None;
            upload.abandon(queue);
            return Err(Storage::Repeated(id));
        }
        match recipients::rewritten(&self.parts.settings.load(), &envelope) {
            Ok(rewritten) => upload.send_to(&rewritten),
            Err(reply) => {
                upload.abandon(queue);
                return Err(Storage::Refused(reply));
            }
        }
        handover.recipients = envelope.recipients.iter().map(|to| to.address.to_string().into()).collect();
        upload.name(Box::new(handover));
        if let Some(inspected) = &mut self.inspected {
            inspected.envelope = envelope;
        }
        Ok(turn)
    }
}
