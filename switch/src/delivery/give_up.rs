//! Recipients given up by an operator: as if their next hop had refused them for good, so that the sender is told.

use mail_model::{RecipientIndex, Reply};
use queue_format::record::{MessageKey, OutcomeRecord, RecipientState, decode_envelope};
use queue_store::Refusal;
use smtp::transaction::RecipientResult;

use super::context::Context;
use super::verdict::Judge;

/// Gives up those recipients of `key` that wait or are held, and are in nobody's hands. Durable when it returns: how many they
/// were; `None` if the message is not in the queue.
pub(crate) async fn give_up(
    context: &Context,
    key: MessageKey,
    reply: &Reply,
) -> Result<Option<u64>, Refusal> {
    let found = context.queue.books(|books| {
        let message = books.message(key)?;
        let waits = (0..).zip(&message.standings).filter(|(_, standing)| match standing.state {
            RecipientState::Queued | RecipientState::Held => true,
            RecipientState::Owed(_)
            | RecipientState::Delivered
            | RecipientState::Failed(_)
            | RecipientState::Deleted => false,
        });
        let recipients: Vec<RecipientIndex> = context.claims.take(key, waits.map(|(index, _)| index));
        // An envelope that cannot be decoded never came into the books.
        Some((decode_envelope(&message.envelope).ok()?, message.received, recipients))
    });
    let Some((envelope, received, recipients)) = found.flatten() else { return Ok(None) };
    if recipients.is_empty() {
        return Ok(Some(0));
    }
    let (now, policy) = (context.clock.wall(), context.settings.load().retry);
    let judge = Judge { envelope: &envelope, received, now, policy, delay: policy.first };
    let results = recipients.iter().map(|index| (*index, RecipientResult::Failed(reply.clone()))).collect();
    let sentence = judge.pass(results);
    let outcome = OutcomeRecord { message: key, attempt: None, at: now, groups: sentence.groups };
    let settled = context.queue.settle(outcome).await;
    context.claims.release(key, &recipients);
    settled?;
    context.counters.bounced.add(sentence.failed);
    context.notice(key);
    Ok(Some(sentence.failed))
}
