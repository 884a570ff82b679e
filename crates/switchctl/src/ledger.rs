//! The proof that nothing is lost: `accepted + generated = delivered + bounced + expired + deleted + queued`, for each
//! queue over all its epochs and owners, and in sum. Read from disk; nothing is touched.

use daemon_kit::SystemClock;
use jiff::Timestamp;
use mail_model::{Clock, MessageId, QueueId, WallTime};
use queue_format::books::Books;
use queue_format::record::{Doubt, Totals, decode_envelope};
use queue_store::history::{self, Sums};
use queue_store::inspect::Depth;
use serde_json::{Value, json};

use crate::command::{Context, Outcome, say};
use crate::exit::Exit;
use crate::output::{Format, Listing, time};

const COLUMNS: &[&str] = &[
    "queue",
    "messages",
    "accepted",
    "generated",
    "delivered",
    "bounced",
    "expired",
    "deleted",
    "queued",
    "in_doubt",
    "balances",
];

/// What the rows of a queue count.
struct Counted {
    totals: Totals,
    queued: u64,
    /// Since when, and what was queued then.
    since: Option<(WallTime, u64)>,
    sound: bool,
}

/// Reads a point in time: `2h`, or `2026-03-01T12:00:00Z`.
pub(crate) fn since(text: &str) -> Result<WallTime, String> {
    let now = SystemClock.wall();
    if let Ok(span) = settings::parse_duration(text) {
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        return Ok(WallTime(now.0.saturating_sub(span)));
    }
    let at: Timestamp = text.parse().map_err(|_| {
        format!("'{text}' is no time; write how long ago (2h, 7d), or a moment: 2026-03-01T12:00:00Z")
    })?;
    Ok(WallTime(u64::try_from(at.as_millisecond()).unwrap_or(0)))
}

/// Verifies the books of every queue. Ends with 1 if one does not balance or is damaged, with 3 if one cannot be read. With `since`
/// only what was done since then is counted, and listed as doubtful.
pub(crate) fn verify(context: &Context, since: Option<WallTime>) -> Outcome {
    let mut columns = COLUMNS.to_vec();
    if since.is_some() {
        columns.extend(["since", "queued_then"]);
    }
    let mut listing = Listing::new("mailswitch.ledger.verify/1", &columns);
    let mut doubts = Listing::new(
        "mailswitch.ledger.doubts/1",
        &["message", "recipients", "next_hop", "started", "epoch", "attempt", "state"],
    );
    let mut faults: Vec<String> = Vec::new();
    let mut all = Counted { totals: Totals::default(), queued: 0, since: None, sound: true };
    for queue in context.queues() {
        let replay = match context.inspect(&queue, Depth::Books) {
            Ok(seen) => seen.replay,
            Err(error) => {
                listing.lacks(queue.to_string(), &error);
                continue;
            }
        };
        let balance = replay.books.balance();
        let sound = balance.holds && replay.faults.is_empty();
        faults.extend(replay.faults.iter().map(|fault| format!("queue {queue}: {fault}")));
        let mut counted = Counted { totals: balance.totals, queued: balance.queued, since: None, sound };
        if let Some(at) = since
            && let Err(error) = counted.only_since(context, &queue, at)
        {
            listing.lacks(queue.to_string(), &error);
            continue;
        }
        all.sound &= counted.sound;
        all.queued += counted.queued;
        add(&mut all.totals, &counted.totals);
        if let Some((_, then)) = counted.since {
            // Each queue has its own moment.
            all.since = Some((WallTime(0), all.since.map_or(0, |(_, sum)| sum) + then));
        }
        listing.row(line(queue.as_str(), &counted));
        let recent = |doubt: &&Doubt| counted.since.is_none_or(|(at, _)| doubt.started >= at);
        for doubt in replay.books.doubts().filter(recent) {
            doubts.row(doubtful(&replay.books, doubt, "in_doubt"));
        }
        for doubt in replay.books.open_attempts() {
            doubts.row(doubtful(&replay.books, doubt, "open"));
        }
    }
    all.sound &= all.balances();
    listing.row(line("all", &all));
    listing.with("in_doubt", json!(doubts.items()));
    listing.with("faults", json!(faults));
    let exit = context.show(&listing)?;
    if context.format == Format::Table {
        for fault in &faults {
            say(format_args!("fault: {fault}; run 'switchctl queue fsck'"))?;
        }
        if !doubts.is_empty() {
            say(
                "\nin doubt: each may have been delivered once more than is counted; 'open': under way, or in doubt if its owner died",
            )?;
            context.show(&doubts)?;
        }
        say(if all.sound { "the books balance" } else { "the books DO NOT balance" })?;
    }
    Ok(if all.sound { exit } else { Exit::Failed })
}

impl Counted {
    /// Leaves out what was done before. The error is for a person.
    fn only_since(&mut self, context: &Context, queue: &QueueId, at: WallTime) -> Result<(), String> {
        let dir = context.queue_dir(queue);
        let found = history::sums(&dir, at).map_err(|error| format!("{}: {error}", dir.display()))?;
        let Sums { at, totals: then } =
            found.ok_or_else(|| format!("no segment in {} tells its sums", dir.display()))?;
        let contradiction = || format!("the sums in {} go down; run 'switchctl queue fsck'", dir.display());
        let queued = then.queued().ok_or_else(contradiction)?;
        self.totals = less(&self.totals, &then).ok_or_else(contradiction)?;
        self.since = Some((at, queued));
        self.sound &= self.balances();
        Ok(())
    }

    /// What came and what was there is gone or there.
    fn balances(&self) -> bool {
        let t = &self.totals;
        let there = self.since.map_or(0, |(_, queued)| queued);
        let came = there.checked_add(t.accepted).and_then(|sum| sum.checked_add(t.generated));
        let gone = [t.delivered, t.bounced, t.expired, t.deleted, self.queued];
        came.is_some() && came == gone.iter().try_fold(0_u64, |sum, part| sum.checked_add(*part))
    }
}

fn line(queue: &str, counted: &Counted) -> Vec<Value> {
    let t = &counted.totals;
    let mut values = vec![
        json!(queue),
        json!(t.messages),
        json!(t.accepted),
        json!(t.generated),
        json!(t.delivered),
        json!(t.bounced),
        json!(t.expired),
        json!(t.deleted),
        json!(counted.queued),
        json!(t.in_doubt),
        json!(counted.sound),
    ];
    if let Some((at, then)) = counted.since {
        values.push(if at == WallTime(0) { Value::Null } else { time(at) });
        values.push(json!(then));
    }
    values
}

/// `None` if some sum would be less than nothing.
fn less(t: &Totals, then: &Totals) -> Option<Totals> {
    Some(Totals {
        messages: t.messages.checked_sub(then.messages)?,
        accepted: t.accepted.checked_sub(then.accepted)?,
        generated: t.generated.checked_sub(then.generated)?,
        delivered: t.delivered.checked_sub(then.delivered)?,
        bounced: t.bounced.checked_sub(then.bounced)?,
        expired: t.expired.checked_sub(then.expired)?,
        deleted: t.deleted.checked_sub(then.deleted)?,
        in_doubt: t.in_doubt.checked_sub(then.in_doubt)?,
    })
}

fn add(sum: &mut Totals, t: &Totals) {
    sum.messages += t.messages;
    sum.accepted += t.accepted;
    sum.generated += t.generated;
    sum.delivered += t.delivered;
    sum.bounced += t.bounced;
    sum.expired += t.expired;
    sum.deleted += t.deleted;
    sum.in_doubt += t.in_doubt;
}

fn doubtful(books: &Books, doubt: &Doubt, state: &str) -> Vec<Value> {
    let key = doubt.message;
    let id = MessageId { queue: books.queue().clone(), epoch: key.epoch, sequence: key.sequence };
    vec![
        json!(id),
        json!(recipients(books, doubt)),
        json!(doubt.next_hop),
        time(doubt.started),
        json!(doubt.epoch),
        json!(doubt.attempt),
        json!(state),
    ]
}

/// The addresses, as long as the message is in the queue; their positions after that.
fn recipients(books: &Books, doubt: &Doubt) -> Vec<String> {
    let envelope = books.message(doubt.message).and_then(|m| decode_envelope(&m.envelope).ok());
    let name = |index: &u16| {
        envelope
            .as_ref()
            .and_then(|e| e.recipients.get(usize::from(*index)))
            .map_or_else(|| format!("#{index}"), |r| r.address.to_string())
    };
    doubt.recipients.iter().map(name).collect()
}
