//! What a verb would touch, read from the disk. The owner decides again when it is asked.

use std::collections::{BTreeMap, BTreeSet};

use control::switch::Verb;
use daemon_kit::SystemClock;
use mail_model::{Clock, MessageId, NodeId, QueueId};
use queue_format::books::Message;
use queue_format::record::{MessageKey, RecipientState};
use queue_store::inspect::{self, Depth};
use serde_json::json;

use super::choice::Choice;
use crate::command::{Context, Failure, say, unclaimed};
use crate::exit::Exit;
use crate::filter::Filter;
use crate::output::{Format, Listing, time};
use crate::queue::{envelope, state_word, uniform, waiting};

/// The most rows a person is shown.
const TABLE_ROWS_MAX: usize = 50;

/// What would be touched.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The messages of each queue, the oldest first, and the node that owns it.
    pub(crate) messages: BTreeMap<QueueId, (NodeId, Vec<MessageId>)>,
    /// Recipients it would move.
    pub(crate) recipients: usize,
    /// Queues that cannot be read from here, and why.
    pub(crate) missing: Vec<(QueueId, String)>,
    /// Named messages that are not there.
    pub(crate) absent: Vec<MessageId>,
    rows: Vec<Vec<serde_json::Value>>,
}

impl Plan {
    /// Reads what `choice` means for `verb`.
    pub(crate) fn make(context: &Context, verb: Verb, choice: &Choice) -> Result<Self, Failure> {
        let mut plan = Self::default();
        let (filter, queues) = (choice.filter(), context.queues());
        let unknown = filter.ids().into_iter().filter(|id| !queues.contains(&id.queue));
        plan.absent.extend(unknown.cloned());
        for queue in queues.into_iter().filter(|queue| filter.reads(queue)) {
            match plan.read(context, verb, filter, &queue)? {
                Ok(()) => {}
                Err(why) => plan.missing.push((queue, why)),
            }
        }
        Ok(plan)
    }

    fn read(
        &mut self,
        context: &Context,
        verb: Verb,
        filter: Filter<'_>,
        queue: &QueueId,
    ) -> Result<Result<(), String>, Failure> {
        let owner = match owner(context, queue) {
            Ok(owner) => owner,
            Err(why) => return Ok(Err(why)),
        };
        let seen = match context.inspect(queue, Depth::Books) {
            Ok(seen) => seen,
            Err(why) => return Ok(Err(why)),
        };
        let now = SystemClock.wall();
        let mut messages: Vec<(MessageKey, Message)> = filter.candidates(queue, &seen.replay.books).collect();
        messages.sort_by_key(|(key, message)| (message.received, *key));
        let named: BTreeSet<&MessageId> = filter.ids().into_iter().filter(|id| id.queue == *queue).collect();
        let (mut chosen, mut found) = (Vec::new(), BTreeSet::new());
        for (key, message) in messages {
            let id = MessageId { queue: queue.clone(), epoch: key.epoch, sequence: key.sequence };
            if !named.is_empty() {
                found.insert(id.clone());
            }
            let envelope = envelope(&message)?;
            // Who names a message means it, whether there is something to move or not.
            let counts = |state: RecipientState| !named.is_empty() || applies(verb, state);
            if !filter.matches(queue, &envelope, &message, now, counts) {
                continue;
            }
            let live: Vec<_> = message.standings.iter().filter(|s| !s.state.is_final()).collect();
            let moved = live.iter().filter(|s| applies(verb, s.state)).count();
            let states: Vec<&str> = live.iter().map(|s| state_word(s.state)).collect();
            self.recipients += moved;
            self.rows.push(vec![
                json!(id.to_string()),
                time(message.received),
                json!(format!("<{}>", envelope.reverse_path)),
                json!(waiting(&envelope, &message)),
                json!(uniform(&states)),
                json!(moved),
            ]);
            chosen.push(id);
        }
        self.absent.extend(named.into_iter().filter(|id| !found.contains(*id)).cloned());
        self.messages.insert(queue.clone(), (owner, chosen));
        Ok(Ok(()))
    }

    /// Messages it would touch.
    pub(crate) fn count(&self) -> usize {
        self.rows.len()
    }

    /// Shows it. How a command that does no more ends.
    pub(crate) fn show(&self, context: &Context, verb: Verb) -> Result<Exit, Failure> {
        let mut listing = Listing::new(
            "mailswitch.queue.plan/1",
            &["id", "received", "sender", "recipients", "state", "to_move"],
        );
        let table = context.format == Format::Table;
        let shown = if table { TABLE_ROWS_MAX } else { usize::MAX };
        for row in self.rows.iter().take(shown) {
            listing.row(row.clone());
        }
        for (queue, why) in &self.missing {
            listing.lacks(queue.to_string(), why);
        }
        listing.with("verb", json!(verb.as_str()));
        listing.with("messages", json!(self.count()));
        listing.with("recipients", json!(self.recipients));
        listing.with("absent", json!(self.absent));
        let exit = context.show(&listing)?;
        if table {
            if let Some(more) = self.count().checked_sub(shown).filter(|more| *more > 0) {
                say(format_args!("... and {more} more; -o tsv shows all"))?;
            }
            say(format_args!(
                "{}: {} messages, {} recipients to move",
                verb.as_str(),
                self.count(),
                self.recipients
            ))?;
        }
        Ok(exit)
    }
}

/// The node whose switch moves the messages of `queue`.
pub(crate) fn owner(context: &Context, queue: &QueueId) -> Result<NodeId, String> {
    let dir = context.queue_dir(queue);
    let lease = inspect::top_lease(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    lease.map(|(claim, _)| claim.owner).ok_or_else(|| unclaimed(&dir))
}

fn applies(verb: Verb, state: RecipientState) -> bool {
    match verb {
        Verb::Hold | Verb::Retry => state == RecipientState::Queued,
        Verb::Release => state == RecipientState::Held,
        Verb::Bounce | Verb::Redirect => matches!(state, RecipientState::Queued | RecipientState::Held),
        Verb::Delete => !state.is_final() && state != RecipientState::OwedSuccess,
    }
}
