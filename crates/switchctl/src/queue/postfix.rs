//! Messages of a Postfix queue taken into this one, read by Postfix's own `postcat`. Its files stay where they are.
//!
//! Of a Postfix spool the queues `incoming`, `active` and `deferred` are read; what is on hold there is not, unless its directory
//! is named itself. Recipients that were served are left out.
//!
//! Never: while that Postfix runs, for then both would deliver.

use std::path::{Path, PathBuf};
use std::process::Command;

use control::maildrop::Wishes;
use mail_model::{Domain, Mailbox, ReversePath};

use super::job::{Addressed, Job};
use crate::command::{Context, Failure, Outcome};
use crate::exit::Exit;
use crate::filter::Filter;
use crate::text::mailbox;

/// The queues of a spool whose messages are on their way.
const QUEUES: [&str; 3] = ["incoming", "active", "deferred"];

/// Leaves every message of `folder`, a Postfix spool or a part of one, that the filter means in the maildrop.
pub(crate) fn import_postfix(context: &Context, folder: &Path, filter: Filter<'_>, dry_run: bool) -> Outcome {
    filter.is_about_files().map_err(|why| Failure::new(Exit::Usage, why))?;
    let is_spool = folder.join("deferred").is_dir();
    if let Some(pid) = running(folder).filter(|_| is_spool) {
        return Err(Failure::new(
            Exit::Unsafe,
            format!(
                "{}: its Postfix runs (process {pid}) and would deliver too; stop it first",
                folder.display()
            ),
        ));
    }
    let mut files = Vec::new();
    let failed = |error| Failure::failed(format_args!("{}: {error}", folder.display()));
    if is_spool {
        for queue in QUEUES {
            find(&folder.join(queue), &mut files).map_err(failed)?;
        }
    } else {
        find(folder, &mut files).map_err(failed)?;
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::not_found(format_args!("{}: there is no message", folder.display())));
    }
    let mut job = Job::new(context, "import", files.len(), dry_run);
    for path in &files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let found = read(path);
        if found.as_ref().is_ok_and(|(who, raw)| !filter.matches_file(&who.from, &who.to, raw.len() as u64)) {
            continue;
        }
        job.take(&format!("import-{name}"), &name, found);
    }
    job.end()
}

/// The process of the Postfix whose spool this is, if it runs.
fn running(spool: &Path) -> Option<u32> {
    let pid = std::fs::read_to_string(spool.join("pid/master.pid")).ok()?.trim().parse().ok()?;
    // One that has ended and was not waited for yet has no program any more.
    match std::fs::read_link(format!("/proc/{pid}/exe")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Ok(_) | Err(_) => Some(pid),
    }
}

/// Every file below; Postfix spreads a queue over directories.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            find(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<(Addressed, Vec<u8>), String> {
    let records = postcat("-e", path)?;
    let body = postcat("-hb", path)?;
    let (from, to) = envelope(&String::from_utf8_lossy(&records))?;
    if to.is_empty() {
        return Err("no recipient of it waits".to_owned());
    }
    Ok((Addressed { from, to, wishes: Wishes::default() }, body))
}

fn postcat(what: &str, path: &Path) -> Result<Vec<u8>, String> {
    let output = Command::new("postcat").arg(what).arg(path).output().map_err(|error| {
        format!("postcat: {error}; run this where Postfix is installed, or import files NAME.eml")
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// What `postcat -e` says.
fn envelope(records: &str) -> Result<(ReversePath, Vec<Mailbox>), String> {
    let (mut from, mut to) = (None, Vec::new());
    for line in records.lines() {
        if let Some(sender) = line.strip_prefix("sender:") {
            from = Some(match sender.trim() {
                "" => ReversePath::Null,
                address => ReversePath::Mailbox(address_of(address)?),
            });
        } else if let Some(recipient) = line.strip_prefix("recipient:") {
            to.push(address_of(recipient.trim())?);
        }
    }
    Ok((from.ok_or("postcat names no sender")?, to))
}

/// Postfix keeps local parts without the quotes that some need.
fn address_of(text: &str) -> Result<Mailbox, String> {
    let Some((local, domain)) = text.rsplit_once('@') else { return mailbox(text) };
    let is_atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let plain = local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atom));
    if plain {
        return mailbox(text);
    }
    let quoted = format!("\"{}\"", local.replace('\\', "\\\\").replace('"', "\\\""));
    let domain = Domain::new(domain).map_err(|error| format!("'{text}' is no address: {error}"))?;
    Mailbox::new(&quoted, domain).map_err(|error| format!("'{text}' is no address: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_its_sender_and_those_that_still_wait() {
        let records = "*** ENVELOPE RECORDS deferred/6/681 ***\nmessage_size:   303  726\nsender: a@client.test\n\
                       named_attribute: dsn_orig_rcpt=rfc822;b@example.test\noriginal_recipient: alias@example.test\n\
                       done_recipient: gone@example.test\nrecipient: b@example.test\nrecipient: x \"y@other.test\n";
        let (from, to) = envelope(records).unwrap();
        let to: Vec<String> = to.iter().map(ToString::to_string).collect();
        assert_eq!(from.to_string(), "a@client.test");
        assert_eq!(to, ["b@example.test", "\"x \\\"y\"@other.test"]);
        assert_eq!(envelope("sender: \nrecipient: c@d.test\n").unwrap().0, ReversePath::Null);
        assert!(envelope("recipient: c@d.test\n").is_err());
    }
}
