//! What of a record still has an effect when it is written.
//!
//! An operator deletes a message whose delivery runs; the next hop refuses while a bounce is made: the later record speaks
//! of recipients that are gone. Replay may meet it after the message's own frames were retired, and must be able to count
//! it blindly. So a record about recipients is reduced to those it still moves, before it is written.

use queue_format::books::{Books, Message};
use queue_format::record::{MessageKey, RecipientState, Record, Told, Verb};

/// The message whose recipients `record` moves, and whether records about it in one batch must be seen one by one.
pub(crate) fn moves(record: &Record) -> Option<(MessageKey, bool)> {
    match record {
        Record::Outcome(outcome) => Some((outcome.message, false)),
        Record::Operate(operate) => Some((operate.message, true)),
        Record::Message(message) => message.settles.as_ref().map(|settles| (settles.message, true)),
        Record::Segment(_)
        | Record::Seal(_)
        | Record::Chunk { .. }
        | Record::Carry(_)
        | Record::Attempt(_)
        | Record::Next { .. }
        | Record::Retire { .. }
        | Record::Replied(_)
        | Record::Clean { .. }
        | Record::Taken(_) => None,
    }
}

/// Reduces `record` to what it still moves. False if that is nothing at all: then it need not be written.
pub(crate) fn reduce(books: &Books, record: &mut Record) -> bool {
    match record {
        Record::Outcome(outcome) => {
            let message = books.message(outcome.message);
            for group in &mut outcome.groups {
                group
                    .recipients
                    .retain(|index| state(message.as_ref(), *index).is_some_and(|s| !s.is_final()));
            }
            outcome.groups.retain(|group| !group.recipients.is_empty());
            // An attempt without recipients left has ended all the same.
            outcome.attempt.is_some() || !outcome.groups.is_empty()
        }
        Record::Operate(operate) => {
            let message = books.message(operate.message);
            let verb = operate.verb;
            operate
                .recipients
                .retain(|index| state(message.as_ref(), *index).is_some_and(|s| applies(verb, s)));
            !operate.recipients.is_empty()
        }
        Record::Message(record) => {
            if let Some(settles) = &mut record.settles {
                let message = books.message(settles.message);
                settles.recipients.retain(|(index, told)| {
                    let state = state(message.as_ref(), *index);
                    state.is_some_and(|state| match told {
                        Told::Failed(_) => matches!(state, RecipientState::Owed(_)),
                        Told::Delivered => state == RecipientState::OwedSuccess,
                        Told::Late => !state.is_final(),
                    })
                });
            }
            true
        }
        Record::Segment(_)
        | Record::Seal(_)
        | Record::Chunk { .. }
        | Record::Carry(_)
        | Record::Attempt(_)
        | Record::Next { .. }
        | Record::Retire { .. }
        | Record::Replied(_)
        | Record::Clean { .. }
        | Record::Taken(_) => true,
    }
}

fn state(message: Option<&Message>, index: mail_model::RecipientIndex) -> Option<RecipientState> {
    Some(message?.standings.get(usize::from(index))?.state)
}

fn applies(verb: Verb, state: RecipientState) -> bool {
    match verb {
        Verb::Hold | Verb::Retry => state == RecipientState::Queued,
        Verb::Release => state == RecipientState::Held,
        Verb::Redirect => matches!(state, RecipientState::Queued | RecipientState::Held),
        // What was delivered cannot be deleted; only its sender does not know yet.
        Verb::Delete => !state.is_final() && state != RecipientState::OwedSuccess,
    }
}
