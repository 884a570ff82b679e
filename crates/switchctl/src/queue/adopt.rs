//! The messages of a queue directory that is no queue of this cluster (of a node that was given up, or restored from a backup)
//! taken into this node's own queue, by way of its maildrop.
//!
//! The directory gets another name first, and a last one when all of it was taken, so that it is not adopted twice. Messages
//! keep sender and recipients, those on hold included; their ids are new.
//!
//! Never: a queue of this cluster, which is taken over, not adopted; a queue whose owner shows signs of life.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mail_model::{LeaseState, RecipientIndex};
use queue_format::record::{MessageKey, RecipientState};
use queue_store::inspect::{self, Depth, Inspection};

use super::job::{Addressed, Job};
use super::words::envelope;
use crate::command::{Context, Failure, Outcome, unclaimed};
use crate::exit::Exit;

/// How its name ends while it is adopted, and afterwards.
const ADOPTING: &str = "adopting";
const ADOPTED: &str = "adopted";

/// Adopts the queue in `dir`. With `dry_run` it only looks.
pub(crate) fn adopt(context: &Context, dir: &Path, dry_run: bool) -> Outcome {
    let failed = |error: std::io::Error| Failure::failed(format_args!("{}: {error}", dir.display()));
    let dir = dir.canonicalize().map_err(failed)?;
    for queue in context.queues() {
        if context.queue_dir(&queue).canonicalize().is_ok_and(|own| own == dir) {
            return Err(refused(format!(
                "{} is queue '{queue}' of this cluster; 'switchctl ha takeover {queue}' has it delivered",
                dir.display()
            )));
        }
    }
    let (claim, renewal) =
        inspect::top_lease(&dir).map_err(failed)?.ok_or_else(|| Failure::failed(unclaimed(&dir)))?;
    if renewal.as_ref().is_none_or(|renewal| renewal.state != LeaseState::Released) {
        // An owner renews several times in a window.
        std::thread::sleep(Duration::from_millis(u64::from(claim.window_ms) * 2));
        let again = inspect::top_lease(&dir).map_err(failed)?;
        let seq = |found: Option<&queue_format::lease::Renewal>| found.map(|renewal| renewal.seq);
        let lives = again.is_none_or(|(next, last)| {
            next.epoch != claim.epoch || seq(last.as_ref()) != seq(renewal.as_ref())
        });
        if lives {
            return Err(refused(format!(
                "{}: its owner, node {}, is at work; stop it first",
                dir.display(),
                claim.owner
            )));
        }
    }
    let dir = if dry_run { dir } else { renamed(&dir, ADOPTING)? };
    let seen = inspect::inspect(&dir, &claim.cluster, &claim.queue, Depth::Books)
        .map_err(|error| Failure::failed(format_args!("{}: {error}", dir.display())))?;
    let mut keys: Vec<MessageKey> = seen.replay.books.messages().map(|(key, _)| key).collect();
    keys.sort_unstable();
    let mut job = Job::new(context, "adopt", keys.len(), dry_run);
    for key in keys {
        let name = format!("{}-{:x}-{:x}", claim.queue, key.epoch.0, key.sequence);
        if let Some(found) = read(&seen, key).transpose() {
            job.take(&format!("adopt-{name}"), &name, found);
        }
    }
    if job.is_whole() && !dry_run {
        renamed(&dir, ADOPTED)?;
    }
    job.end()
}

fn refused(why: String) -> Failure {
    Failure::new(Exit::Unsafe, why)
}

/// The directory under its name and an ending, instead of the one it may have.
#[expect(
    clippy::disallowed_methods,
    reason = "the name of a directory that no program uses: it says what was done, and nothing rests on it"
)]
fn renamed(dir: &Path, ending: &str) -> Result<PathBuf, Failure> {
    let plain =
        if dir.extension().is_some_and(|end| end == ADOPTING) { dir.with_extension("") } else { dir.into() };
    let mut name = plain.clone().into_os_string();
    name.push(format!(".{ending}"));
    let next = PathBuf::from(name);
    if next != dir {
        std::fs::rename(dir, &next).map_err(|error| {
            Failure::failed(format_args!("{} cannot become {}: {error}", dir.display(), next.display()))
        })?;
    }
    Ok(next)
}

/// `None` if nobody of it waits.
fn read(seen: &Inspection, key: MessageKey) -> Result<Option<(Addressed, Vec<u8>)>, String> {
    let Some(message) = seen.replay.books.message(key) else { return Ok(None) };
    let envelope = envelope(&message).map_err(|failure| failure.message)?;
    let waits = |state| match state {
        RecipientState::Queued | RecipientState::Held | RecipientState::Owed(_) => true,
        RecipientState::OwedSuccess
        | RecipientState::Delivered
        | RecipientState::Failed(_)
        | RecipientState::Deleted => false,
    };
    let indexes: Vec<RecipientIndex> =
        (0..).zip(&message.standings).filter(|(_, s)| waits(s.state)).map(|(index, _)| index).collect();
    let to: Vec<_> = indexes
        .iter()
        .filter_map(|index| Some(envelope.recipients.get(usize::from(*index))?.address.clone()))
        .collect();
    if to.is_empty() {
        return Ok(None);
    }
    let mut body = Vec::new();
    let mut pieces = seen.content(key).ok_or("its content is gone")?;
    while let Some(piece) = pieces.next_piece() {
        body.extend_from_slice(&piece.map_err(|error| error.to_string())?);
    }
    Ok(Some(((envelope.reverse_path, to), body)))
}
