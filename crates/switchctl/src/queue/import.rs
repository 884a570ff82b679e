//! Files taken into the queue: every `NAME.eml` of a folder is left in this node's maildrop.
//!
//! `NAME.json` beside it says the envelope, as an export writes it. Without one the recipients are those of To:, Cc: and Bcc:, and
//! the sender is that of Return-Path:, or of From:.

use std::path::{Path, PathBuf};

use control::maildrop::{self, Letter};
use mail_model::{Mailbox, ReversePath};
use mail_parser::{HeaderName, MessageParser};
use serde::Deserialize;
use serde_json::json;

use crate::command::{Context, Failure, Outcome};
use crate::exit::Exit;
use crate::output::Listing;
use crate::text::{self, mailbox, with_crlf};

/// An envelope as it is written beside a message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    version: u8,
    from: String,
    to: Vec<String>,
}

/// Leaves every message of `folder` in the maildrop. A message that cannot be taken is named, and the others are taken. The
/// same folder taken twice before the switch picks it up is taken once.
pub(crate) fn import(context: &Context, folder: &Path) -> Outcome {
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
    let taken = files.iter().map(|path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let taken = take(context, path, &name);
        (name, taken)
    });
    told(context, taken.collect())
}

fn take(context: &Context, path: &Path, name: &str) -> Taken {
    let raw = std::fs::read(path).map_err(|error| error.to_string())?;
    let (from, to) = match std::fs::read(path.with_extension("json")) {
        Ok(text) => written(&text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => guessed(&raw)?,
        Err(error) => return Err(error.to_string()),
    };
    if to.is_empty() {
        return Err("it has no recipient; write them into NAME.json".to_owned());
    }
    leave(context, &format!("import-{name}"), (from, to), &raw)
}

/// Sender and recipients of a message that was left in the maildrop, or why it was not.
pub(super) type Taken = Result<(String, usize), String>;

/// Leaves a message in the maildrop under a name.
pub(super) fn leave(
    context: &Context,
    name: &str,
    (from, to): (ReversePath, Vec<Mailbox>),
    raw: &[u8],
) -> Taken {
    let text = with_crlf(raw);
    let limit = context.settings.limits.session.limits.message_size;
    if text.len() as u64 > limit {
        return Err(format!("more than {limit} bytes (limits.message_size)"));
    }
    let letter = Letter::new(&from, &to, !text.is_ascii());
    let directory = maildrop::directory(&context.settings.node.state_dir);
    let left = maildrop::leave(&directory, name, &letter, &text);
    left.map_err(|error| format!("cannot leave it in {}: {error}", directory.display()))?;
    Ok((from.to_string(), to.len()))
}

/// What was taken, one row each, and how the command ends.
pub(super) fn told(context: &Context, taken: Vec<(String, Taken)>) -> Outcome {
    let mut listing = Listing::new("mailswitch.queue.import/1", &["file", "from", "recipients", "fault"]);
    let mut exit = Exit::Ok;
    for (name, taken) in taken {
        match taken {
            Ok((from, recipients)) => {
                listing.row(vec![json!(name), json!(format!("<{from}>")), json!(recipients), json!(null)]);
            }
            Err(fault) => {
                exit = Exit::Partial;
                listing.row(vec![json!(name), json!(null), json!(0), json!(fault)]);
            }
        }
    }
    context.show(&listing)?;
    Ok(exit)
}

fn written(text: &[u8]) -> Result<(ReversePath, Vec<Mailbox>), String> {
    let envelope: Envelope = serde_json::from_slice(text).map_err(|error| format!("NAME.json: {error}"))?;
    if envelope.version != 1 {
        return Err(format!("NAME.json: version {} is not known here", envelope.version));
    }
    let from = if envelope.from.is_empty() {
        ReversePath::Null
    } else {
        ReversePath::Mailbox(mailbox(&envelope.from)?)
    };
    Ok((from, envelope.to.iter().map(|text| mailbox(text)).collect::<Result<_, _>>()?))
}

fn guessed(content: &[u8]) -> Result<(ReversePath, Vec<Mailbox>), String> {
    let parsed = MessageParser::default().parse_headers(content).ok_or("it has no header")?;
    let to = text::recipients(content).iter().map(|address| mailbox(address)).collect::<Result<_, _>>()?;
    let path = parsed.return_address().map(str::to_owned);
    let from = || text::addresses(content, &[HeaderName::From]).into_iter().next();
    let from = match path.or_else(from) {
        Some(empty) if empty.is_empty() => ReversePath::Null,
        Some(address) => ReversePath::Mailbox(mailbox(&address)?),
        None => ReversePath::Null,
    };
    Ok((from, to))
}
