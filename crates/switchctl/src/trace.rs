//! The story of one message: when it came, who tried what, what was said, who owned the queue meanwhile, and how it ended.
//!
//! It is read from the segments. What ended so long ago that its segment was removed is in the log only.

pub(crate) mod live;

use mail_model::{Epoch, MessageId, RecipientIndex, WallTime};
use queue_format::record::{
    Failure as How, MessageKey, MessageRecord, OutcomeGroup, Record, Verb, Verdict, decode_envelope,
};
use queue_store::history::{History, history};
use serde_json::json;

use crate::command::{Context, Failure, Outcome};
use crate::output::{Listing, time};

/// One line of the story.
struct Line {
    at: Option<WallTime>,
    epoch: Epoch,
    event: &'static str,
    text: String,
}

/// Tells the story.
pub(crate) fn message(context: &Context, id: &MessageId) -> Outcome {
    if !context.queues().contains(&id.queue) {
        return Err(Failure::not_found(format_args!("there is no queue '{}'", id.queue)));
    }
    let key = MessageKey { epoch: id.epoch, sequence: id.sequence };
    let dir = context.queue_dir(&id.queue);
    let found =
        history(&dir, key).map_err(|error| Failure::failed(format_args!("{}: {error}", dir.display())))?;
    if found.entries.is_empty() {
        return Err(Failure::not_found(format_args!(
            "{id}: no segment of the queue names it any more, or it never was; search the logs of all nodes for it"
        )));
    }
    let mut listing = Listing::new("mailswitch.trace.message/1", &["at", "epoch", "node", "event", "text"]);
    listing.with("id", json!(id));
    for line in story(id, key, &found) {
        let node = found.owners.get(&line.epoch).map(|owner| owner.node.clone());
        listing.row(vec![
            line.at.map_or(json!(null), time),
            json!(line.epoch),
            json!(node),
            json!(line.event),
            json!(line.text),
        ]);
    }
    context.show(&listing)
}

fn story(id: &MessageId, key: MessageKey, found: &History) -> Vec<Line> {
    let mut recipients: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    let mut epoch = None;
    for entry in &found.entries {
        // A queue that changed hands while the message was in it is part of its story.
        if let Some(before) = epoch.replace(entry.epoch)
            && before != entry.epoch
        {
            let owner = found.owners.get(&entry.epoch);
            lines.push(Line {
                at: owner.map(|owner| owner.since),
                epoch: entry.epoch,
                event: "owner",
                text: format!("queue {} has a new owner; the one before had epoch {}", id.queue, before.0),
            });
        }
        let line = |at, event, text| Line { at, epoch: entry.epoch, event, text };
        let who = |indices: &[RecipientIndex]| {
            let name =
                |index: &RecipientIndex| recipients.get(usize::from(*index)).cloned().unwrap_or_default();
            indices.iter().map(name).collect::<Vec<_>>().join(", ")
        };
        match &entry.record {
            Record::Message(message) if message.key == key => {
                recipients = addresses(message);
                lines.push(line(Some(message.received), "accepted", accepted(message, &recipients)));
            }
            Record::Message(bounce) => {
                let told = MessageId {
                    queue: id.queue.clone(),
                    epoch: bounce.key.epoch,
                    sequence: bounce.key.sequence,
                };
                let settled = bounce.settles.as_ref().map(|settles| &settles.recipients);
                let about: Vec<_> = settled.into_iter().flatten().map(|(index, _)| *index).collect();
                let text = format!("{told} tells the sender about {}", who(&about));
                lines.push(line(Some(bounce.received), "notification", text));
            }
            Record::Carry(carry) if recipients.is_empty() => {
                // Its first record is gone with its segment.
                recipients = addresses(&carry.message);
                let at = Some(carry.message.received);
                lines.push(line(at, "accepted", accepted(&carry.message, &recipients)));
            }
            Record::Attempt(attempt) => {
                let text = format!("to {} for {}", attempt.next_hop, who(&attempt.recipients));
                lines.push(line(Some(attempt.started), "attempt", text));
            }
            Record::Outcome(outcome) => {
                for group in &outcome.groups {
                    let (event, why) = verdict(group);
                    lines.push(line(Some(outcome.at), event, format!("{}{why}", who(&group.recipients))));
                }
            }
            Record::Operate(operate) => {
                let to = operate.to.as_deref().map(|to| format!(" to {to}")).unwrap_or_default();
                let text = format!("{}{to} by {}", who(&operate.recipients), operate.by);
                lines.push(line(Some(operate.at), verb(operate.verb), text));
            }
            Record::Replied(_) => lines.push(line(None, "replied", "the client has its 250".to_owned())),
            Record::Carry(_)
            | Record::Segment(_)
            | Record::Seal(_)
            | Record::Chunk { .. }
            | Record::Next { .. }
            | Record::Retire { .. }
            | Record::Clean { .. }
            | Record::Taken(_) => {}
        }
    }
    lines
}

fn addresses(message: &MessageRecord) -> Vec<String> {
    // An envelope that cannot be decoded never came into the books.
    let envelope = decode_envelope(&message.envelope).ok();
    let recipients = envelope.into_iter().flat_map(|envelope| envelope.recipients);
    recipients.map(|recipient| recipient.address.to_string()).collect()
}

fn accepted(message: &MessageRecord, recipients: &[String]) -> String {
    let from = decode_envelope(&message.envelope).map(|e| e.reverse_path.to_string()).unwrap_or_default();
    format!("from <{from}> for {}, {} bytes, {}", recipients.join(", "), message.size, message.origin)
}

fn verdict(group: &OutcomeGroup) -> (&'static str, String) {
    let said = group.reply.as_ref().map(|reply| format!(": {reply}")).unwrap_or_default();
    match group.verdict {
        Verdict::Delivered | Verdict::DeliveredOwed => ("delivered", said),
        Verdict::Deferred { .. } => ("deferred", said),
        Verdict::InDoubt { .. } | Verdict::InDoubtHeld => ("in doubt", said),
        Verdict::Failed { how: How::Bounced, .. } => ("failed", said),
        Verdict::Failed { how: How::Expired, .. } => ("expired", said),
    }
}

fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Hold => "hold",
        Verb::Release => "release",
        Verb::Retry => "retry",
        Verb::Delete => "delete",
        Verb::Redirect => "redirect",
    }
}
