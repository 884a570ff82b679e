//! The queues, read from disk with the code that recovery uses. Nothing is touched; an owner at work may be one commit
//! ahead.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use mail_model::{Envelope, MessageId, QueueId};
use queue_format::books::{Message, Standing};
use queue_format::record::{Failure as Failed, MessageKey, RecipientState, decode_envelope};
use queue_store::inspect::{self, Depth, Inspection};
use serde_json::json;

use crate::command::{Context, Failure, Outcome, say, show as show_listing, unclaimed};
use crate::exit::Exit;
use crate::output::{Format, Listing, time};

/// Messages and recipients by queue and state.
pub(crate) fn summary(context: &Context) -> Outcome {
    let mut listing = Listing::new(
        "mailswitch.queue.summary/1",
        &["queue", "messages", "recipients", "held", "owed", "bytes", "oldest", "epoch", "owner"],
    );
    for (queue, seen) in readable(context, &mut listing) {
        let books = &seen.replay.books;
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut bytes, mut oldest) = (0, None);
        for (_, message) in books.messages() {
            bytes += message.size;
            oldest = Some(oldest.map_or(message.received, |o: mail_model::WallTime| o.min(message.received)));
            for standing in message.standings.iter().filter(|s| !s.state.is_final()) {
                *counts.entry(state_word(standing.state)).or_default() += 1;
            }
        }
        let lease = inspect::top_lease(&context.queue_dir(&queue)).ok().flatten();
        listing.row(vec![
            json!(queue),
            json!(books.len()),
            json!(counts.values().sum::<u64>()),
            json!(counts.get("held").copied().unwrap_or(0)),
            json!(counts.get("owed").copied().unwrap_or(0)),
            json!(bytes),
            oldest.map_or(json!(null), time),
            json!(lease.as_ref().map(|(claim, _)| claim.epoch)),
            json!(lease.as_ref().map(|(claim, _)| claim.owner.clone())),
        ]);
    }
    context.show(&listing)
}

/// Every message, oldest first.
pub(crate) fn list(context: &Context) -> Outcome {
    let mut listing = Listing::new(
        "mailswitch.queue.list/1",
        &["id", "received", "size", "sender", "recipients", "state", "attempts", "due", "last_reply"],
    );
    for (queue, seen) in readable(context, &mut listing) {
        let mut messages: Vec<(MessageKey, &Message)> = seen.replay.books.messages().collect();
        messages.sort_by_key(|(key, message)| (message.received, *key));
        for (key, message) in messages {
            let envelope = envelope(message)?;
            let live = || message.standings.iter().filter(|s| !s.state.is_final());
            let states: Vec<&str> = live().map(|s| state_word(s.state)).collect();
            listing.row(vec![
                json!(id(&queue, key)),
                time(message.received),
                json!(message.size),
                json!(format!("<{}>", envelope.reverse_path)),
                json!(waiting(&envelope, message)),
                json!(uniform(&states)),
                json!(live().map(|s| s.attempts).max()),
                live().map(|s| s.due).min().map_or(json!(null), time),
                json!(live().find_map(|s| s.last_reply.as_ref()).map(ToString::to_string)),
            ]);
        }
    }
    context.show(&listing)
}

/// One message with every recipient's standing.
pub(crate) fn show(context: &Context, wanted: &MessageId) -> Outcome {
    let (seen, key) = find(context, wanted)?;
    let Some(message) = seen.replay.books.message(key) else { return Err(gone(wanted)) };
    let envelope = envelope(message)?;
    let mut listing =
        Listing::new("mailswitch.queue.show/1", &["recipient", "state", "attempts", "due", "last_reply"]);
    for (recipient, standing) in envelope.recipients.iter().zip(&message.standings) {
        listing.row(vec![
            json!(recipient.address.to_string()),
            json!(state_word(standing.state)),
            json!(standing.attempts),
            time(standing.due),
            json!(standing.last_reply.as_ref().map(ToString::to_string)),
        ]);
    }
    listing.with(
        "message",
        json!({
            "id": wanted, "sender": format!("<{}>", envelope.reverse_path), "size": message.size,
            "received": time(message.received)
        }),
    );
    if context.format == Format::Table {
        say(format_args!("{wanted}  from <{}>  {} bytes", envelope.reverse_path, message.size))?;
    }
    context.show(&listing)
}

/// One message's content.
pub(crate) fn cat(context: &Context, wanted: &MessageId) -> Outcome {
    let (seen, key) = find(context, wanted)?;
    let mut pieces = seen.content(key).ok_or_else(|| gone(wanted))?;
    let mut out = io::stdout().lock();
    while let Some(piece) = pieces.next_piece() {
        let piece = piece.map_err(Failure::failed)?;
        match out.write_all(&piece) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Ok),
            written => written?,
        }
    }
    Ok(Exit::Ok)
}

/// Who owns each queue.
pub(crate) fn owner(context: &Context) -> Outcome {
    let mut listing = Listing::new(
        "mailswitch.queue.owner/1",
        &["queue", "owner", "role", "epoch", "reason", "state", "claimed", "renewal"],
    );
    for queue in context.queues() {
        match inspect::top_lease(&context.queue_dir(&queue)) {
            Ok(Some((claim, renewal))) => listing.row(vec![
                json!(queue),
                json!(claim.owner),
                json!(claim.role),
                json!(claim.epoch),
                json!(claim.reason),
                json!(renewal.as_ref().map(|r| r.state)),
                time(claim.wall),
                json!(renewal.as_ref().map(|r| r.seq)),
            ]),
            Ok(None) => listing.lacks(queue.to_string(), &unclaimed(&context.queue_dir(&queue))),
            Err(error) => listing.lacks(queue.to_string(), &error),
        }
    }
    context.show(&listing)
}

/// Checks every queue of the configuration.
pub(crate) fn fsck_all(context: &Context) -> Outcome {
    let mut check = Check::new();
    for queue in context.queues() {
        check.queue(&queue, context.inspect(&queue, Depth::Everything));
    }
    check.end(context.format)
}

/// Checks the queue in one directory. Its lease says whose it is.
pub(crate) fn fsck_dir(format: Format, dir: &Path) -> Outcome {
    let lease = inspect::top_lease(dir).map_err(|error| {
        Failure::failed(format_args!("{}: {error}; is this a queue's directory?", dir.display()))
    })?;
    let Some((claim, _)) = lease else {
        return Err(Failure::not_found(format_args!(
            "{}: no queue was ever claimed here; name a directory like SPOOL/NODE",
            dir.display()
        )));
    };
    let mut check = Check::new();
    let seen = inspect::inspect(dir, &claim.cluster, &claim.queue, Depth::Everything);
    check.queue(&claim.queue, seen.map_err(|error| error.to_string()));
    check.end(format)
}

/// A check of queues, byte by byte.
struct Check {
    listing: Listing,
    faults: Vec<String>,
    sound: bool,
}

impl Check {
    fn new() -> Self {
        let columns = [
            "queue",
            "messages",
            "bytes",
            "faults",
            "late_frames",
            "leftovers",
            "orphans",
            "torn",
            "balances",
        ];
        Self { listing: Listing::new("mailswitch.queue.fsck/1", &columns), faults: Vec::new(), sound: true }
    }

    fn queue(&mut self, queue: &QueueId, seen: Result<Inspection, String>) {
        let replay = match seen {
            Ok(seen) => seen.replay,
            Err(error) => return self.listing.lacks(queue.to_string(), &error),
        };
        let balances = replay.books.balance().holds;
        self.sound &= replay.faults.is_empty() && balances;
        self.faults.extend(replay.faults.iter().map(|fault| format!("queue {queue}: {fault}")));
        self.listing.row(vec![
            json!(queue),
            json!(replay.books.len()),
            json!(replay.bytes),
            json!(replay.faults.len()),
            json!(replay.late_frames),
            json!(replay.leftovers.len()),
            json!(replay.orphans.len()),
            json!(replay.torn),
            json!(balances),
        ]);
    }

    fn end(mut self, format: Format) -> Outcome {
        self.listing.with("faults", json!(self.faults));
        let exit = show_listing(format, &self.listing)?;
        if format == Format::Table {
            for fault in &self.faults {
                say(format_args!("fault: {fault}"))?;
            }
            if !self.faults.is_empty() {
                say("nothing was changed; keep a copy of the directory: what is whole is still delivered")?;
            }
        }
        Ok(if self.sound { exit } else { Exit::Failed })
    }
}

fn readable(context: &Context, listing: &mut Listing) -> Vec<(QueueId, Inspection)> {
    let mut seen = Vec::new();
    for queue in context.queues() {
        match context.inspect(&queue, Depth::Books) {
            Ok(inspection) => seen.push((queue, inspection)),
            Err(error) => listing.lacks(queue.to_string(), &error),
        }
    }
    seen
}

fn find(context: &Context, wanted: &MessageId) -> Result<(Inspection, MessageKey), Failure> {
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

fn gone(wanted: &MessageId) -> Failure {
    Failure::not_found(format_args!(
        "{wanted} is not in the queue: it was delivered, bounced or deleted, or never was"
    ))
}

pub(crate) fn envelope(message: &Message) -> Result<Envelope, Failure> {
    decode_envelope(&message.envelope)
        .map_err(|error| Failure::failed(format_args!("unreadable envelope: {error}")))
}

pub(crate) fn id(queue: &QueueId, key: MessageKey) -> String {
    MessageId { queue: queue.clone(), epoch: key.epoch, sequence: key.sequence }.to_string()
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
        RecipientState::Owed(_) => "owed",
        RecipientState::Delivered => "delivered",
        RecipientState::Failed(Failed::Bounced) => "bounced",
        RecipientState::Failed(Failed::Expired) => "expired",
        RecipientState::Deleted => "deleted",
    }
}
