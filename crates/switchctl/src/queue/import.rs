//! Files taken into the queue: every `NAME.eml` of a folder is left in this node's maildrop.
//!
//! `NAME.json` beside it says the envelope, as an export writes it. Without one the recipients are those of To:, Cc: and Bcc:, and
//! the sender is that of Return-Path:, or of From:.

use std::path::{Path, PathBuf};

use control::maildrop::Wishes;
use mail_model::{Envelope as Enveloped, Recipient, ReversePath};
use mail_parser::{HeaderName, MessageParser};
use serde::Deserialize;

use super::job::{Addressed, Job};
use crate::command::{Context, Failure, Outcome};
use crate::exit::Exit;
use crate::filter::Filter;
use crate::text::{self, mailbox};

/// An envelope as it is written beside a message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    version: u8,
    from: String,
    to: Vec<String>,
    /// Exports of before knew none.
    #[serde(default)]
    wishes: Wishes,
}

/// Leaves every message of `folder` that the filter means in the maildrop. A message that cannot be taken is named, and the others
/// are taken. The same folder taken twice before the switch picks it up is taken once.
pub(crate) fn import(context: &Context, folder: &Path, filter: Filter<'_>, dry_run: bool) -> Outcome {
    filter.is_about_files().map_err(|why| Failure::new(Exit::Usage, why))?;
    let unreadable = |error| Failure::failed(format_args!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        files.push(entry.map_err(unreadable)?.path());
    }
    files.retain(|path| path.extension().is_some_and(|end| end == "eml"));
    files.sort();
    if files.is_empty() {
        return Err(Failure::not_found(format_args!("{}: there is no file NAME.eml", folder.display())));
    }
    let mut job = Job::new(context, "import", files.len(), dry_run);
    for path in &files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let found = read(path);
        if found.as_ref().is_ok_and(|(who, raw)| !filter.matches_file(&who.from, &who.to, raw.len() as u64)) {
            continue;
        }
        job.take(&format!("import-{name}"), &name, found);
    }
    job.end()
}

fn read(path: &Path) -> Result<(Addressed, Vec<u8>), String> {
    let raw = std::fs::read(path).map_err(|error| error.to_string())?;
    let addressed = match std::fs::read(path.with_extension("json")) {
        Ok(text) => written(&text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => guessed(&raw)?,
        Err(error) => return Err(error.to_string()),
    };
    Ok((addressed, raw))
}

fn written(text: &[u8]) -> Result<Addressed, String> {
    let envelope: Envelope = serde_json::from_slice(text).map_err(|error| format!("NAME.json: {error}"))?;
    if envelope.version != 1 {
        return Err(format!("NAME.json: version {} is not known here", envelope.version));
    }
    let from = if envelope.from.is_empty() {
        ReversePath::Null
    } else {
        ReversePath::Mailbox(mailbox(&envelope.from)?)
    };
    let to = envelope.to.iter().map(|text| mailbox(text)).collect::<Result<Vec<_>, _>>()?;
    // The switch would set aside what it cannot understand; here it can still be mended.
    let mut tried = Enveloped::from_sender(from.clone());
    tried.recipients.extend(to.iter().cloned().map(Recipient::plain));
    envelope.wishes.apply(&mut tried).map_err(|error| format!("NAME.json: {error}"))?;
    Ok(Addressed { from, to, wishes: envelope.wishes })
}

fn guessed(content: &[u8]) -> Result<Addressed, String> {
    let parsed = MessageParser::default().parse_headers(content).ok_or("it has no header")?;
    let to = text::recipients(content).iter().map(|address| mailbox(address)).collect::<Result<_, _>>()?;
    let path = parsed.return_address().map(str::to_owned);
    let from = || text::addresses(content, &[HeaderName::From]).into_iter().next();
    let from = match path.or_else(from) {
        Some(empty) if empty.is_empty() => ReversePath::Null,
        Some(address) => ReversePath::Mailbox(mailbox(&address)?),
        None => ReversePath::Null,
    };
    Ok(Addressed { from, to, wishes: Wishes::default() })
}
