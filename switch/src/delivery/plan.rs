//! From the books to what is to be done: which destinations a message has, and who goes along to one of them.

use std::time::Duration;

use mail_model::{Envelope, Moment, RecipientIndex, Reply, WallTime};
use queue_format::books::Message;
use queue_format::record::{MessageKey, RecipientState, decode_envelope};
use schedule::RetryPolicy;
use settings::Settings;

use super::care::Care;
use super::context::{Context, Times};
use super::destination::{Destination, Lane, Way};

/// What becomes of recipients of one message within this time is reported in one notification.
const BOUNCE_COLLECTS: Duration = Duration::from_millis(500);

/// An item for the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) destination: Destination,
    pub(crate) key: MessageKey,
    pub(crate) due: Moment,
    pub(crate) expires: Moment,
}

/// Probe mail of a drill is tried again soon, and is gone soon after the drill.
const PROBE_POLICY: RetryPolicy = RetryPolicy {
    first: Duration::from_millis(500),
    max: Duration::from_secs(2),
    lifetime: Duration::from_mins(10),
};

/// When this mail is tried again, and for how long.
pub(crate) fn policy(envelope: &Envelope, retry: RetryPolicy) -> RetryPolicy {
    let probe = envelope.recipients.first().is_some_and(|to| routing::is_drill(&to.address));
    if probe { PROBE_POLICY } else { retry }
}

/// Where those recipients of `keys` go that wait and are in nobody's hands.
pub(crate) fn scatter(context: &Context, keys: &[MessageKey]) -> Vec<Item> {
    let settings = context.settings.load();
    let times = Times::now(context, settings.retry);
    let mut items = Vec::new();
    context.queue.books(|books| {
        for key in keys {
            if let Some(message) = books.message(*key) {
                scatter_one(context, &settings, times, *key, &message, &mut items);
            }
        }
    });
    items
}

fn scatter_one(
    context: &Context,
    settings: &Settings,
    times: Times,
    key: MessageKey,
    message: &Message,
    items: &mut Vec<Item>,
) {
    // An envelope that cannot be decoded never came into the books.
    let Ok(envelope) = decode_envelope(&message.envelope) else { return };
    let times = times.under(policy(&envelope, settings.retry));
    let expires = times.expiry(message.received);
    let lane = Lane::of(&envelope);
    let first = items.len();
    for ((index, recipient), standing) in (0..).zip(&envelope.recipients).zip(&message.standings) {
        let (destination, due) = match standing.state {
            RecipientState::Queued if context.claims.is_taken(key, index) => continue,
            RecipientState::Queued => {
                let redirect = standing.redirect.as_deref();
                let way = Way { settings, lane, address: &recipient.address, redirect };
                let due = times.due(standing.due);
                let until = context.suspended.until(&recipient.address, times.wall);
                (
                    way.destination(),
                    until.map_or(due, |until| due.max(times.moment + until.since(times.wall))),
                )
            }
            RecipientState::Owed(_) | RecipientState::OwedSuccess => {
                (Destination::Bounce, times.moment + BOUNCE_COLLECTS)
            }
            RecipientState::Held
            | RecipientState::Delivered
            | RecipientState::Failed(_)
            | RecipientState::Deleted => continue,
        };
        // A message has few destinations, whatever the number of its recipients.
        let known =
            items.get_mut(first..).and_then(|own| own.iter_mut().find(|i| i.destination == destination));
        match known {
            Some(item) => item.due = item.due.min(due),
            None => items.push(Item { destination, key, due, expires }),
        }
    }
}

/// One message at one destination: what is needed to try it. Its recipients are claimed.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) key: MessageKey,
    pub(crate) envelope: Envelope,
    pub(crate) received: WallTime,
    pub(crate) recipients: Vec<RecipientIndex>,
    /// Attempts that ended before, of the recipient with the most.
    pub(crate) attempts: u32,
    /// The last thing that was said about the first of them.
    pub(crate) last_reply: Option<Reply>,
    /// Others of this message wait for the same destination, or another.
    pub(crate) others: bool,
    /// What is done with all of them.
    pub(crate) care: Care,
}

/// Claims those recipients of `key` that are due at `destination` and need the same care. `None` if there are none.
pub(crate) fn claim(context: &Context, key: MessageKey, destination: &Destination) -> Option<Work> {
    let settings = context.settings.load();
    let times = Times::now(context, settings.retry);
    context.queue.books(|books| {
        let message = books.message(key)?;
        let envelope = decode_envelope(&message.envelope).ok()?;
        let times = times.under(policy(&envelope, settings.retry));
        let standing = |index: RecipientIndex| message.standings.get(usize::from(index));
        let waits =
            |index: RecipientIndex| standing(index).is_some_and(|s| s.state == RecipientState::Queued);
        let lane = Lane::of(&envelope);
        let due = |(index, recipient): &(RecipientIndex, &mail_model::Recipient)| {
            let Some(standing) = standing(*index).filter(|s| times.is_due(s.due)) else { return false };
            let redirect = standing.redirect.as_deref();
            let way = Way { settings: &settings, lane, address: &recipient.address, redirect };
            waits(*index)
                && way.leads_to(destination)
                && context.suspended.until(&recipient.address, times.wall).is_none()
        };
        let free = |index: &RecipientIndex| !context.claims.is_taken(key, *index);
        let wanted = || (0..).zip(&envelope.recipients).filter(due).map(|(index, _)| index).filter(free);
        let care_of = |index: RecipientIndex| {
            standing(index).map_or(Care::Usual, |standing| Care::of(&settings, destination, standing))
        };
        let care = wanted().next().map_or(Care::Usual, care_of);
        let recipients = context.claims.take(key, wanted().filter(|index| care_of(*index) == care));
        let first = standing(*recipients.first()?)?;
        let attempts = recipients.iter().filter_map(|index| standing(*index)).map(|s| u32::from(s.attempts));
        let attempts = attempts.max().unwrap_or(0);
        let last_reply = first.last_reply.as_deref().cloned();
        let waiting = (0..).zip(&message.standings).filter(|(index, _)| waits(*index)).count();
        let others = waiting > recipients.len();
        let received = message.received;
        Some(Work { key, envelope, received, recipients, attempts, last_reply, others, care })
    })?
}
