//! Messages written out as files: `ID.eml` is the content as it will be sent, `ID.json` the envelope with those recipients that
//! still wait. What is in the queue stays there.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use daemon_kit::SystemClock;
use mail_model::Clock;
use queue_format::record::MessageKey;
use queue_store::inspect::Inspection;
use serde_json::json;

use super::reading::{Found, chosen, readable};
use super::words::waiting;
use crate::command::{Context, Failure, Outcome};
use crate::filter::Filter;
use crate::output::Listing;

/// Writes them into `folder`, which is made. A file that is there is kept, and the command fails.
pub(crate) fn export(context: &Context, folder: &Path, filter: Filter<'_>) -> Outcome {
    let failed = |error| Failure::failed(format_args!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut listing = Listing::new("mailswitch.queue.export/1", &["queue", "messages", "bytes"]);
    let now = SystemClock.wall();
    for (queue, seen) in readable(context, filter, &mut listing) {
        let found = chosen(&queue, &seen, filter, now)?;
        for one in &found {
            write(folder, &seen, one)?;
        }
        let bytes: u64 = found.iter().map(|one| one.message.size).sum();
        listing.row(vec![json!(queue), json!(found.len()), json!(bytes)]);
    }
    context.show(&listing)
}

fn write(folder: &Path, seen: &Inspection, found: &Found) -> Result<(), Failure> {
    let name = |end: &str| folder.join(format!("{}.{end}", found.id));
    let create = |end: &str| {
        let path = name(end);
        let file = File::create_new(&path).map(BufWriter::new);
        file.map_err(|error| {
            Failure::failed(format_args!("{}: {error}; name an empty folder", path.display()))
        })
    };
    let key = MessageKey { epoch: found.id.epoch, sequence: found.id.sequence };
    let mut content = create("eml")?;
    let mut pieces =
        seen.content(key).ok_or_else(|| Failure::failed(format_args!("{}: it is gone", found.id)))?;
    while let Some(piece) = pieces.next_piece() {
        content.write_all(&piece.map_err(Failure::failed)?)?;
    }
    content.flush()?;
    let mut envelope = create("json")?;
    let told = json!({
        "version": 1,
        "from": found.envelope.reverse_path.to_string(),
        "to": waiting(&found.envelope, &found.message),
    });
    writeln!(envelope, "{told}")?;
    Ok(envelope.flush()?)
}
