//! Recipients given up by an operator: as if their next hop had refused them for good, so that the sender is told.

use mail_model::{RecipientIndex, Reply};
use queue_format::record::{MessageKey, OutcomeRecord, RecipientState, decode_envelope};
use queue_store::Refusal;
use settings::DoubleBounce;
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
            | RecipientState::OwedSuccess
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
    let settings = context.settings.load_full();
    let (now, policy) = (context.clock.wall(), settings.retry);
    let mut bounces = settings.bounces.clone();
    if bounces.double == DoubleBounce::Hold {
        // The person who would look at it says what becomes of it.
        bounces.double = DoubleBounce::Discard;
    }
    let judge = Judge {
        envelope: &envelope,
        received,
        now,
        policy,
        delay: policy.first,
        dsn_passed_on: false,
        bounces: &bounces,
    };
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
