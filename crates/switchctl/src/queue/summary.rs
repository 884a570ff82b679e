//! How much waits: by queue, or by domain and age.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon_kit::SystemClock;
use mail_model::{Clock, Mailbox, QueueId, ReversePath, WallTime};
use queue_format::books::{Books, Message, Tally};
use queue_store::inspect;
use serde_json::{Value, json};

use super::reading::{Found, each, readable};
use super::words::state_word;
use crate::command::{Context, Outcome};
use crate::filter::Filter;
use crate::output::{Listing, time};

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum By {
    /// A queue.
    #[default]
    Queue,
    /// The domain of recipients that wait, with how long they have: like qshape.
    Destination,
    /// The domain of senders, with how long their recipients have waited.
    Sender,
}

/// The ages that are told apart, in minutes, each as the name of its column; what is older has a column of its own.
const AGES: [(&str, u64); 9] = [
    ("5m", 5),
    ("10m", 10),
    ("20m", 20),
    ("40m", 40),
    ("80m", 80),
    ("160m", 160),
    ("320m", 320),
    ("640m", 640),
    ("1280m", 1_280),
];

/// Messages and recipients that wait.
pub(crate) fn summary(context: &Context, filter: Filter<'_>, by: By) -> Outcome {
    match by {
        By::Queue => by_queue(context, filter),
        By::Destination => by_domain(context, filter, "destination", |found| {
            let live = found.envelope.recipients.iter().zip(&found.message.standings);
            live.filter(|(_, standing)| !standing.state.is_final()).map(|(r, _)| domain(&r.address)).collect()
        }),
        By::Sender => by_domain(context, filter, "sender", |found| {
            let name = match &found.envelope.reverse_path {
                ReversePath::Null => "<>".to_owned(),
                ReversePath::Mailbox(mailbox) => domain(mailbox),
            };
            let live = found.message.standings.iter().filter(|standing| !standing.state.is_final());
            live.map(|_| name.clone()).collect()
        }),
    }
}

fn by_queue(context: &Context, filter: Filter<'_>) -> Outcome {
    let mut listing = Listing::new(
        "mailswitch.queue.summary/1",
        &["queue", "messages", "recipients", "held", "owed", "bytes", "oldest", "epoch", "owner"],
    );
    let now = SystemClock.wall();
    for (queue, seen) in readable(context, filter, &mut listing) {
        let sums = if filter.takes_all() {
            Sums::of(&seen.replay.books)
        } else {
            let mut sums = Sums::default();
            each(&queue, &seen, filter, now, |found| sums.add(&found.message))?;
            sums
        };
        listing.row(queue_row(context, &queue, &sums));
    }
    context.show(&listing)
}

/// What is counted of a queue.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    messages: u64,
    bytes: u64,
    oldest: Option<WallTime>,
    recipients: BTreeMap<&'static str, u64>,
}

impl Sums {
    /// Of all that there is. Opens no message.
    fn of(books: &Books) -> Self {
        let (Tally { queued, held, owed, bytes }, oldest) = (books.tally(), books.oldest());
        let recipients = [("queued", queued), ("held", held), ("owed", owed)];
        let recipients = recipients.into_iter().filter(|(_, count)| *count > 0).collect();
        Self { messages: books.len() as u64, bytes, oldest, recipients }
    }

    fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.bytes += message.size;
        self.oldest = Some(self.oldest.map_or(message.received, |oldest| oldest.min(message.received)));
        for standing in message.standings.iter().filter(|s| !s.state.is_final()) {
            *self.recipients.entry(state_word(standing.state)).or_default() += 1;
        }
    }
}

fn queue_row(context: &Context, queue: &QueueId, sums: &Sums) -> Vec<Value> {
    let of = |state| sums.recipients.get(state).copied().unwrap_or(0);
    let lease = inspect::top_lease(&context.queue_dir(queue)).ok().flatten();
    vec![
        json!(queue),
        json!(sums.messages),
        json!(sums.recipients.values().sum::<u64>()),
        json!(of("held")),
        json!(of("owed")),
        json!(sums.bytes),
        sums.oldest.map_or(json!(null), time),
        json!(lease.as_ref().map(|(claim, _)| claim.epoch)),
        json!(lease.as_ref().map(|(claim, _)| claim.owner.clone())),
    ]
}

/// `names` gives the name to count a recipient under, once for each that waits.
fn by_domain(
    context: &Context,
    filter: Filter<'_>,
    title: &'static str,
    names: impl Fn(&Found) -> Vec<String>,
) -> Outcome {
    let mut columns = vec![title, "recipients"];
    columns.extend(AGES.iter().map(|(name, _)| *name));
    columns.push("older");
    let mut listing = Listing::new("mailswitch.queue.ages/1", &columns);
    let now = SystemClock.wall();
    let mut counts: BTreeMap<String, [u64; AGES.len() + 1]> = BTreeMap::new();
    for (queue, seen) in readable(context, filter, &mut listing) {
        each(&queue, &seen, filter, now, |found| {
            let column = age_column(found.message.received, now);
            for name in names(&found) {
                let row = counts.entry(name).or_insert([0; AGES.len() + 1]);
                if let Some(count) = row.get_mut(column) {
                    *count += 1;
                }
            }
        })?;
    }
    let mut rows: Vec<(u64, String, [u64; AGES.len() + 1])> =
        counts.into_iter().map(|(name, row)| (row.iter().sum(), name, row)).collect();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    for (total, name, row) in rows {
        let mut values = vec![json!(name), json!(total)];
        values.extend(row.iter().map(|count| json!(count)));
        listing.row(values);
    }
    context.show(&listing)
}

fn age_column(received: WallTime, now: WallTime) -> usize {
    let age = now.since(received);
    AGES.iter().position(|(_, minutes)| age <= Duration::from_mins(*minutes)).unwrap_or(AGES.len())
}

fn domain(address: &Mailbox) -> String {
    address.domain().map_or_else(|| address.to_string(), |domain| domain.as_str().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_falls_into_the_first_column_that_holds_it() {
        let now = WallTime(10_000_000_000);
        let column = |minutes: u64| age_column(WallTime(now.0 - minutes * 60_000), now);
        assert_eq!([column(0), column(5), column(6), column(1_280), column(1_281)], [0, 0, 1, 8, 9]);
    }
}
