//! What of the queues can be read.

use mail_model::{Envelope, MessageId, QueueId, WallTime};
use queue_format::books::Message;
use queue_format::record::MessageKey;
use queue_store::inspect::{Depth, Inspection};

use super::words::{envelope, id};
use crate::command::{Context, Failure};
use crate::filter::Filter;
use crate::output::Listing;

/// The queues that a filter can mean and that can be read; the others are missing in `listing`.
pub(crate) fn readable(
    context: &Context,
    filter: Filter<'_>,
    listing: &mut Listing,
) -> Vec<(QueueId, Inspection)> {
    let mut seen = Vec::new();
    for queue in context.queues().into_iter().filter(|queue| filter.reads(queue)) {
        match context.inspect(&queue, Depth::Books) {
            Ok(inspection) => seen.push((queue, inspection)),
            Err(error) => listing.lacks(queue.to_string(), &error),
        }
    }
    seen
}

/// The queue a message is in.
pub(super) fn find(context: &Context, wanted: &MessageId) -> Result<(Inspection, MessageKey), Failure> {
    let queue = &wanted.queue;
    let queues = context.queues();
    if !queues.contains(queue) {
        let known: Vec<&str> = queues.iter().map(QueueId::as_str).collect();
        return Err(Failure::not_found(format_args!(
            "'{wanted}' is of queue '{queue}', and there is none; the queues are {}",
            known.join(", ")
        )));
    }
    let seen = context
        .inspect(queue, Depth::Books)
        .map_err(|error| Failure::failed(format_args!("queue '{queue}': {error}")))?;
    Ok((seen, MessageKey { epoch: wanted.epoch, sequence: wanted.sequence }))
}

pub(super) fn gone(wanted: &MessageId) -> Failure {
    Failure::not_found(format_args!(
        "{wanted} is not in the queue: it was delivered, bounced or deleted, or never was"
    ))
}

/// A message that a filter means.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: MessageId,
    pub(crate) envelope: Envelope,
    pub(crate) message: Message,
}

/// Hands out the messages of a queue that a filter means, in no order, so that a million need not be held at once.
pub(super) fn each(
    queue: &QueueId,
    seen: &Inspection,
    filter: Filter<'_>,
    now: WallTime,
    mut take: impl FnMut(Found),
) -> Result<(), Failure> {
    for (key, message) in filter.candidates(queue, &seen.replay.books) {
        let envelope = envelope(&message)?;
        if filter.matches(queue, &envelope, &message, now, |state| !state.is_final()) {
            take(Found { id: id(queue, key), envelope, message });
        }
    }
    Ok(())
}

/// The messages of a queue that a filter means, oldest first.
pub(crate) fn chosen(
    queue: &QueueId,
    seen: &Inspection,
    filter: Filter<'_>,
    now: WallTime,
) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    each(queue, seen, filter, now, |one| found.push(one))?;
    found.sort_by(|a, b| (a.message.received, &a.id).cmp(&(b.message.received, &b.id)));
    Ok(found)
}
