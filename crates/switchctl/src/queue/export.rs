//! Messages written out as files: `ID.eml` is the content as it will be sent, `ID.json` the envelope with those recipients that
//! still wait and what is wished of reports on them (RET, ENVID, NOTIFY, ORCPT; REQUIRETLS too). What is in the queue stays there.
//!
//! A message that cannot be read is named and left out, and the others are written. When the command ends the files are on disk.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use control::maildrop::Wishes;
use daemon_kit::SystemClock;
use mail_model::{Clock, Envelope, MessageId, Recipient};
use queue_format::books::Message;
use queue_format::record::MessageKey;
use queue_store::inspect::Inspection;
use serde_json::json;

use super::job::{Progress, make_durable};
use super::reading::{each, readable};
use super::words::envelope;
use crate::command::{Context, Failure, Outcome, complain};
use crate::exit::Exit;
use crate::filter::Filter;
use crate::output::Listing;

/// Writes them into `folder`, which is made. A file that is there is kept, and the command fails. With `dry_run` it only counts.
pub(crate) fn export(context: &Context, folder: &Path, filter: Filter<'_>, dry_run: bool) -> Outcome {
    let failed = |error| Failure::failed(format_args!("{}: {error}", folder.display()));
    if !dry_run {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut listing = Listing::new("mailswitch.queue.export/1", &["queue", "messages", "bytes", "failed"]);
    listing.with("dry_run", json!(dry_run));
    let (now, mut written, mut lost) = (SystemClock.wall(), 0, 0);
    for (queue, seen) in readable(context, filter, &mut listing) {
        let mut ids = Vec::new();
        each(&queue, &seen, filter, now, |one| ids.push((one.id, one.message.size)))?;
        ids.sort_unstable();
        let mut progress = Progress::new(format!("queue {queue}"), ids.len());
        let (mut messages, mut bytes, mut failed) = (0_u64, 0_u64, 0_u64);
        for (id, size) in &ids {
            let done = if dry_run { Ok(()) } else { write(folder, &seen, id) };
            progress.step();
            match done {
                Ok(()) => {
                    messages += 1;
                    bytes += size;
                }
                Err(Unwritten::Message(why)) => {
                    failed += 1;
                    complain(format_args!("{id} was not written: {why}"))?;
                }
                Err(Unwritten::Folder(failure)) => return Err(failure),
            }
        }
        written += messages;
        lost += failed;
        listing.row(vec![json!(queue), json!(messages), json!(bytes), json!(failed)]);
    }
    if dry_run {
        complain("dry run: nothing was written")?;
    } else {
        make_durable(folder).map_err(failed)?;
    }
    let exit = context.show(&listing)?;
    Ok(match (lost, written) {
        (0, _) => exit,
        (_, 0) => Exit::Failed,
        _ => Exit::Partial,
    })
}

/// Why a message is not in the folder.
enum Unwritten {
    /// It cannot be read.
    Message(String),
    /// The folder cannot be written, which holds for every other message too.
    Folder(Failure),
}

fn write(folder: &Path, seen: &Inspection, id: &MessageId) -> Result<(), Unwritten> {
    let key = MessageKey { epoch: id.epoch, sequence: id.sequence };
    let gone = || Unwritten::Message("it is gone".to_owned());
    let message = seen.replay.books.message(key).ok_or_else(gone)?;
    let addresses = envelope(&message).map_err(|failure| Unwritten::Message(failure.message))?;
    let path = folder.join(format!("{id}.eml"));
    let mut file = create(&path)?;
    let mut pieces = seen.content(key).ok_or_else(gone)?;
    while let Some(piece) = pieces.next_piece() {
        match piece {
            Ok(piece) => file.write_all(&piece).map_err(|error| unwritable(&path, &error))?,
            Err(error) => {
                // Half a message is none.
                std::fs::remove_file(&path).map_err(|error| unwritable(&path, &error))?;
                return Err(Unwritten::Message(error.to_string()));
            }
        }
    }
    file.flush().map_err(|error| unwritable(&path, &error))?;
    let path = folder.join(format!("{id}.json"));
    let mut file = create(&path)?;
    let told = writeln!(file, "{}", addressed(&addresses, &message));
    told.and_then(|()| file.flush()).map_err(|error| unwritable(&path, &error))
}

fn addressed(envelope: &Envelope, message: &Message) -> serde_json::Value {
    let standing = envelope.recipients.iter().zip(&message.standings);
    let live: Vec<&Recipient> =
        standing.filter(|(_, standing)| !standing.state.is_final()).map(|(recipient, _)| recipient).collect();
    let to: Vec<String> = live.iter().map(|recipient| recipient.address.to_string()).collect();
    let mut told = json!({ "version": 1, "from": envelope.reverse_path.to_string(), "to": to });
    let wishes = Wishes::of(envelope, live);
    if let (false, Some(told)) = (wishes.is_empty(), told.as_object_mut()) {
        told.insert("wishes".to_owned(), json!(wishes));
    }
    told
}

fn create(path: &Path) -> Result<BufWriter<File>, Unwritten> {
    File::create_new(path).map(BufWriter::new).map_err(|error| {
        let text = format!("{}: {error}; name an empty folder", path.display());
        Unwritten::Folder(Failure::failed(text))
    })
}

fn unwritable(path: &Path, error: &io::Error) -> Unwritten {
    Unwritten::Folder(Failure::failed(format_args!("{}: {error}", path.display())))
}
