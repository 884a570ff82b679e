//! How messages and recipients are named and told.

use mail_model::{Envelope, MessageId, QueueId};
use queue_format::books::{Message, Standing};
use queue_format::record::{Failure as Failed, MessageKey, RecipientState, decode_envelope};

use crate::command::Failure;

pub(crate) fn envelope(message: &Message) -> Result<Envelope, Failure> {
    decode_envelope(&message.envelope)
        .map_err(|error| Failure::failed(format_args!("unreadable envelope: {error}")))
}

pub(crate) fn id(queue: &QueueId, key: MessageKey) -> MessageId {
    MessageId { queue: queue.clone(), epoch: key.epoch, sequence: key.sequence }
}

pub(crate) fn waiting(envelope: &Envelope, message: &Message) -> Vec<String> {
    let live = |standing: &Standing| !standing.state.is_final();
    envelope
        .recipients
        .iter()
        .zip(&message.standings)
        .filter(|(_, standing)| live(standing))
        .map(|(recipient, _)| recipient.address.to_string())
        .collect()
}

pub(crate) fn uniform(states: &[&'static str]) -> &'static str {
    match states.split_first() {
        None => "done",
        Some((first, rest)) if rest.iter().all(|s| s == first) => first,
        Some(_) => "mixed",
    }
}

pub(crate) fn state_word(state: RecipientState) -> &'static str {
    match state {
        RecipientState::Queued => "queued",
        RecipientState::Held => "held",
        RecipientState::Owed(_) | RecipientState::OwedSuccess => "owed",
        RecipientState::Delivered => "delivered",
        RecipientState::Failed(Failed::Bounced) => "bounced",
        RecipientState::Failed(Failed::Expired) => "expired",
        RecipientState::Deleted => "deleted",
    }
}
