//! Messages taken in or written out, as a job: how far it is while it goes on, what became of each, and counts at the end.

use std::path::Path;

use control::maildrop::{self, Letter, Wishes};
use mail_model::{Mailbox, ReversePath};
use serde_json::json;

use crate::command::{Context, Outcome, complain, say};
use crate::exit::Exit;
use crate::output::{Format, Listing};
use crate::text::with_crlf;

/// A line on the way after so many messages. What is done at once needs no word.
const STEP: usize = 1_000;
/// The most messages that a person is shown, beside those with a fault.
const TABLE_ROWS_MAX: usize = 50;

/// Who a message is from, for whom, and what is wished of reports.
#[derive(Debug)]
pub(super) struct Addressed {
    pub(super) from: ReversePath,
    pub(super) to: Vec<Mailbox>,
    pub(super) wishes: Wishes,
}

/// Tells how far a job is.
#[derive(Debug)]
pub(super) struct Progress {
    what: String,
    of: usize,
    done: usize,
}

impl Progress {
    pub(super) fn new(what: String, of: usize) -> Self {
        Self { what, of, done: 0 }
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if self.of > STEP && (self.done.is_multiple_of(STEP) || self.done == self.of) {
            // Standard error is the last resort: if it is gone there is nobody to tell.
            complain(format_args!("{}: {} of {} messages", self.what, self.done, self.of)).ok();
        }
    }
}

/// Messages that are left in the maildrop of this node, whose switch takes them into its queue.
#[derive(Debug)]
pub(super) struct Job<'a> {
    context: &'a Context,
    dry_run: bool,
    progress: Progress,
    listing: Listing,
    messages: usize,
    recipients: usize,
    failed: usize,
}

impl<'a> Job<'a> {
    /// For so many messages. With `dry_run` nothing is left there.
    pub(super) fn new(context: &'a Context, verb: &str, of: usize, dry_run: bool) -> Self {
        let listing = Listing::new("mailswitch.queue.import/1", &["file", "from", "recipients", "fault"]);
        let progress = Progress::new(verb.to_owned(), of);
        Self { context, dry_run, progress, listing, messages: 0, recipients: 0, failed: 0 }
    }

    /// Takes one in under a name, or notes why not. True if it is taken.
    pub(super) fn take(
        &mut self,
        slot: &str,
        name: &str,
        found: Result<(Addressed, Vec<u8>), String>,
    ) -> bool {
        let taken = found.and_then(|(addressed, raw)| {
            if addressed.to.is_empty() {
                return Err("it has no recipient; write them into NAME.json".to_owned());
            }
            self.leave(slot, &addressed, &raw)?;
            Ok((addressed.from.to_string(), addressed.to.len()))
        });
        let is_taken = taken.is_ok();
        self.progress.step();
        match taken {
            Ok((from, recipients)) => {
                self.messages += 1;
                self.recipients += recipients;
                if self.context.format != Format::Table || self.messages <= TABLE_ROWS_MAX {
                    let from = format!("<{from}>");
                    self.listing.row(vec![json!(name), json!(from), json!(recipients), json!(null)]);
                }
            }
            Err(fault) => {
                self.failed += 1;
                self.listing.row(vec![json!(name), json!(null), json!(0), json!(fault)]);
            }
        }
        is_taken
    }

    fn leave(&self, slot: &str, addressed: &Addressed, raw: &[u8]) -> Result<(), String> {
        let settings = &self.context.settings;
        let text = with_crlf(raw);
        let limit = settings.limits.session.limits.message_size;
        if text.len() as u64 > limit {
            return Err(format!("more than {limit} bytes (limits.message_size)"));
        }
        if self.dry_run {
            return Ok(());
        }
        let Addressed { from, to, wishes } = addressed;
        let letter = Letter::new(from, to, !text.is_ascii()).wishing(wishes.clone());
        let directory = maildrop::directory(&settings.node.state_dir);
        let left = maildrop::leave(&directory, slot, &letter, &text);
        left.map(drop).map_err(|error| format!("cannot leave it in {}: {error}", directory.display()))
    }

    /// True if every message was taken.
    pub(super) fn is_whole(&self) -> bool {
        self.failed == 0
    }

    /// What was taken, the counts, and how the command ends.
    pub(super) fn end(mut self) -> Outcome {
        let Self { messages, recipients, failed, dry_run, .. } = self;
        self.listing.with("messages", json!(messages));
        self.listing.with("recipients", json!(recipients));
        self.listing.with("failed", json!(failed));
        self.listing.with("dry_run", json!(dry_run));
        self.context.show(&self.listing)?;
        if self.context.format == Format::Table {
            if let Some(more) = messages.checked_sub(TABLE_ROWS_MAX).filter(|more| *more > 0) {
                say(format_args!("... and {more} more; -o tsv shows all"))?;
            }
            let done = if dry_run { "could be taken" } else { "taken" };
            say(format_args!("{messages} messages {done}, {recipients} recipients; {failed} failed"))?;
        }
        if dry_run {
            complain("dry run: nothing was changed")?;
        }
        Ok(match (messages, failed) {
            (_, 0) => Exit::Ok,
            (0, _) => Exit::Failed,
            _ => Exit::Partial,
        })
    }
}

/// What was written below `folder` is on its disk: whoever deletes the messages next can rely on the files.
pub(super) fn make_durable(folder: &Path) -> std::io::Result<()> {
    Ok(nix::unistd::syncfs(std::fs::File::open(folder)?)?)
}
