//! The messages of a queue directory that is no queue of this cluster (of a node that was given up, or restored from a backup)
//! taken into this node's own queue, by way of its maildrop.
//!
//! The directory gets another name first, and a last one when all of it was taken. A list beside it names the messages that were
//! taken, each as soon as it was, so that none is taken twice however often the command runs. Messages keep sender, recipients,
//! those on hold included, and what is wished of reports; their ids are new.
//!
//! Never: a queue of this cluster, which is taken over, not adopted; a queue whose owner shows signs of life.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control::maildrop::Wishes;
use daemon_kit::SystemClock;
use mail_model::{Clock, Envelope, LeaseState, MessageId, Recipient};
use queue_format::lease::Claim;
use queue_format::record::{MessageKey, RecipientState};
use queue_store::inspect::{self, Depth, Inspection};

use super::job::{Addressed, Job};
use super::words::{envelope, id};
use crate::command::{Context, Failure, Outcome, complain, unclaimed};
use crate::exit::Exit;
use crate::filter::Filter;

/// How its name ends while it is adopted, and afterwards; and that of the list of what was taken.
const ADOPTING: &str = "adopting";
const ADOPTED: &str = "adopted";
const IDS: &str = "adopted-ids";

/// Adopts the messages of the queue in `dir` that the filter means. With `dry_run` it only looks.
pub(crate) fn adopt(context: &Context, dir: &Path, filter: Filter<'_>, dry_run: bool) -> Outcome {
    filter.is_about_one_queue().map_err(|why| Failure::new(Exit::Usage, why))?;
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
    let claim = at_rest(&dir)?;
    let dir = if dry_run { dir } else { renamed(&dir, ADOPTING)? };
    let seen = inspect::inspect(&dir, &claim.cluster, &claim.queue, Depth::Books)
        .map_err(|error| Failure::failed(format_args!("{}: {error}", dir.display())))?;
    let mut list = List::open(&dir)
        .map_err(|error| Failure::failed(format_args!("{}: {error}", List::path(&dir).display())))?;
    let (mut keys, mut left) = (Vec::new(), 0_usize);
    let now = SystemClock.wall();
    for (key, message) in seen.replay.books.messages() {
        let id = id(&claim.queue, key);
        if !message.standings.iter().any(|standing| waits(standing.state)) || list.has(&id) {
            continue;
        }
        // What cannot be read is chosen, so that it is told.
        let fits = |envelope: &Envelope| filter.matches(&claim.queue, envelope, &message, now, waits);
        let named = filter.ids();
        let is_named = named.is_empty() || named.contains(&id);
        if is_named && envelope(&message).as_ref().map_or(true, fits) {
            keys.push(key);
        } else {
            left += 1;
        }
    }
    keys.sort_unstable();
    let mut job = Job::new(context, "adopt", keys.len(), dry_run);
    for key in keys {
        let id = id(&claim.queue, key);
        let name = id.to_string();
        if job.take(&format!("adopt-{name}"), &name, read(&seen, key)) && !dry_run {
            list.add(&id)
                .map_err(|error| Failure::failed(format_args!("{}: {error}", List::path(&dir).display())))?;
        }
    }
    if left > 0 {
        complain(format_args!("{left} other messages stay in {}; adopt it again for them", dir.display()))?;
    } else if job.is_whole() && !dry_run {
        renamed(&dir, ADOPTED)?;
    }
    job.end()
}

/// The claim of the queue's last owner, which is not at work.
fn at_rest(dir: &Path) -> Result<Claim, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format_args!("{}: {error}", dir.display()));
    let (claim, renewal) =
        inspect::top_lease(dir).map_err(failed)?.ok_or_else(|| Failure::failed(unclaimed(dir)))?;
    if renewal.as_ref().is_none_or(|renewal| renewal.state != LeaseState::Released) {
        // An owner renews several times in a window.
        std::thread::sleep(Duration::from_millis(u64::from(claim.window_ms) * 2));
        let again = inspect::top_lease(dir).map_err(failed)?;
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
    Ok(claim)
}

/// The ids of the messages that were taken, a line each, in a file beside the directory.
#[derive(Debug)]
struct List {
    path: PathBuf,
    ids: BTreeSet<String>,
}

impl List {
    fn path(dir: &Path) -> PathBuf {
        named(dir, IDS)
    }

    fn open(dir: &Path) -> std::io::Result<Self> {
        let path = Self::path(dir);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        Ok(Self { path, ids: text.lines().map(str::to_owned).collect() })
    }

    fn has(&self, id: &MessageId) -> bool {
        self.ids.contains(&id.to_string())
    }

    /// It is on disk when this returns: the message is in the maildrop already, so an interruption may have it taken twice, never
    /// lost.
    fn add(&mut self, id: &MessageId) -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        writeln!(file, "{id}")?;
        file.sync_all()?;
        self.ids.insert(id.to_string());
        Ok(())
    }
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
    let next = named(dir, ending);
    if next != dir {
        std::fs::rename(dir, &next).map_err(|error| {
            Failure::failed(format_args!("{} cannot become {}: {error}", dir.display(), next.display()))
        })?;
    }
    Ok(next)
}

/// The directory's own name and an ending, instead of the one it may have.
fn named(dir: &Path, ending: &str) -> PathBuf {
    let plain =
        if dir.extension().is_some_and(|end| end == ADOPTING) { dir.with_extension("") } else { dir.into() };
    let mut name = plain.into_os_string();
    name.push(format!(".{ending}"));
    PathBuf::from(name)
}

fn waits(state: RecipientState) -> bool {
    match state {
        RecipientState::Queued | RecipientState::Held | RecipientState::Owed(_) => true,
        RecipientState::OwedSuccess
        | RecipientState::Delivered
        | RecipientState::Failed(_)
        | RecipientState::Deleted => false,
    }
}

/// The message, for those of it that wait.
fn read(seen: &Inspection, key: MessageKey) -> Result<(Addressed, Vec<u8>), String> {
    let message = seen.replay.books.message(key).ok_or("it is gone")?;
    let envelope = envelope(&message).map_err(|failure| failure.message)?;
    let standing = envelope.recipients.iter().zip(&message.standings);
    let live: Vec<&Recipient> =
        standing.filter(|(_, standing)| waits(standing.state)).map(|(recipient, _)| recipient).collect();
    let to = live.iter().map(|recipient| recipient.address.clone()).collect();
    let wishes = Wishes::of(&envelope, live);
    let mut body = Vec::new();
    let mut pieces = seen.content(key).ok_or("its content is gone")?;
    while let Some(piece) = pieces.next_piece() {
        body.extend_from_slice(&piece.map_err(|error| error.to_string())?);
    }
    Ok((Addressed { from: envelope.reverse_path, to, wishes }, body))
}
