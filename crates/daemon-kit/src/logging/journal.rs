//! Events in the journal's own protocol: the fields of an event are fields of its entry (`journalctl MAILSWITCH_QUEUE=b`), and
//! each kind of event has a `MESSAGE_ID`, under which `journalctl -x` tells what to do about it.
//!
//! An entry is lines `FIELD=value` and an empty line; no value has a line end, so many can wait one behind the other. What the
//! journal does not take goes to standard error, with the priority in front (`<6>`, as `sd-daemon(3)` says): nothing is lost.

use std::fmt::{self, Write};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Between two entries: the end of a line, and a line that is empty.
const END: &str = "\n\n";

/// The kind of event of this name, as 32 hexadecimal digits. The same in every version: it is made of the name alone.
#[must_use]
pub fn message_id(event: &str) -> String {
    // FNV-1a of 128 bits, with the marks of a UUID of version 8 (RFC 9562 5.8) put into it.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in "mailswitch ".bytes().chain(event.bytes()) {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    hash = hash & !(0xf << 76) | (0x8 << 76);
    hash = hash & !(0x3 << 62) | (0x2 << 62);
    format!("{hash:032x}")
}

/// Standard error leads to the journal, says whoever started this program.
pub(super) fn is_behind_stderr() -> bool {
    let wanted = std::env::var("JOURNAL_STREAM").ok();
    let wanted = wanted.as_deref().and_then(|stream| stream.split_once(':'));
    // Asked of the very file: a child whose standard error leads elsewhere has the variable too.
    let is = std::fs::metadata("/proc/self/fd/2").ok().map(|file| (file.dev(), file.ino()));
    let number = |text: &str| text.parse::<u64>().ok();
    wanted.zip(is).is_some_and(|((dev, ino), is)| number(dev) == Some(is.0) && number(ino) == Some(is.1))
}

/// Adds a field of an event to the lines of its entry.
pub(super) fn field(entry: &mut String, name: &str, value: &str) {
    entry.push_str("MAILSWITCH_");
    entry.extend(name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }));
    entry.push('=');
    for c in value.chars() {
        // What a peer said makes no field of its own.
        if c.is_control() { entry.extend(c.escape_default()) } else { entry.push(c) }
    }
    entry.push('\n');
}

/// Writes a whole entry. `name` is empty for an event of a library.
pub(super) fn entry(
    out: &mut impl Write,
    priority: u8,
    line: fmt::Arguments<'_>,
    name: &str,
    fields: &str,
) -> fmt::Result {
    write!(out, "PRIORITY={priority}\nMESSAGE={line}\n")?;
    if !name.is_empty() {
        write!(out, "MESSAGE_ID={}\nMAILSWITCH_EVENT={name}\n", message_id(name))?;
    }
    writeln!(out, "{fields}")
}

/// The journal of this machine.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    pub(super) fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { socket: UnixDatagram::unbound()?, path: path.to_owned() })
    }

    /// Sends entries. Those that are not taken, as lines for standard error.
    pub(super) fn send(&self, entries: &[u8]) -> String {
        let mut left = String::new();
        let text = String::from_utf8_lossy(entries);
        for entry in text.split(END).filter(|entry| !entry.is_empty()) {
            // Not connected: a journald that was started anew has another socket in the same place.
            if self.socket.send_to(format!("{entry}\n").as_bytes(), &self.path).is_err() {
                let value = |name: &str| entry.lines().find_map(|line| line.strip_prefix(name));
                let (priority, line) = (value("PRIORITY="), value("MESSAGE="));
                // Writing to a string never fails.
                let _ = writeln!(left, "<{}>{}", priority.unwrap_or("6"), line.unwrap_or_default());
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_its_number() {
        assert_eq!(message_id("takeover.started"), message_id("takeover.started"));
        assert_ne!(message_id("takeover.started"), message_id("takeover.starteD"));
        let id = message_id("switch.active");
        let is = |at: usize, wanted: &str| id.get(at..=at).is_some_and(|digit| wanted.contains(digit));
        assert!(id.len() == 32 && is(12, "8") && is(16, "89ab"), "{id}");
    }

    #[test]
    fn entries_arrive_one_by_one_and_what_is_not_taken_goes_to_standard_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let mut fields = String::new();
        field(&mut fields, "queue", "b");
        field(&mut fields, "reply-text", "550 no\r\n\nPRIORITY=0 é");
        let mut entries = String::new();
        entry(&mut entries, 4, format_args!("WARN a.b queue=b"), "a.b", &fields).unwrap();
        entry(&mut entries, 6, format_args!("INFO library said=1"), "", "").unwrap();

        let journal = Journal::at(&path).unwrap();
        assert_eq!(journal.send(entries.as_bytes()), "<4>WARN a.b queue=b\n<6>INFO library said=1\n");

        let listener = UnixDatagram::bind(&path).unwrap();
        assert_eq!(journal.send(entries.as_bytes()), "");
        let heard = || {
            let mut buffer = [0; 4096];
            let length = listener.recv(&mut buffer).unwrap();
            String::from_utf8(buffer.get(..length).unwrap().to_vec()).unwrap()
        };
        let first = format!(
            "PRIORITY=4\nMESSAGE=WARN a.b queue=b\nMESSAGE_ID={}\nMAILSWITCH_EVENT=a.b\nMAILSWITCH_QUEUE=b\n\
             MAILSWITCH_REPLY_TEXT=550 no\\r\\n\\nPRIORITY=0 é\n",
            message_id("a.b")
        );
        assert_eq!(heard(), first);
        assert_eq!(heard(), "PRIORITY=6\nMESSAGE=INFO library said=1\n");
    }
}
