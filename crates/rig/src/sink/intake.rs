//! The content of one message on its way in: end of data, dots, line rules, and what the record keeps of it.
//!
//! Bytes are handled in runs, never one by one, and are not kept unless the sink was asked to: a large message costs its head.

use memchr::{memchr2, memmem};

use crate::record::{PROBE_FIELD, ProbeTag};

/// The most of a head that is looked at. What is longer has no probe tag and no id.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// RFC 5321 4.5.3.1.6: a text line, its CRLF counted, has at most 1000 bytes.
const LINE_BYTES_MAX: usize = 1000;

/// What a whole message came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) probe: Option<ProbeTag>,
    pub(super) id: Option<String>,
    pub(super) size_bytes: u64,
    pub(super) checksum: u32,
    pub(super) content: Option<Vec<u8>>,
}

/// A message being read.
#[derive(Debug)]
pub(super) struct Intake {
    /// The head while it is not complete.
    head: Option<Vec<u8>>,
    taken: Taken,
    keep_bytes_max: u64,
    /// Bytes of the line that is not complete, looked at already.
    line_bytes: usize,
    /// The start of the current line was taken already: a dot here is not at its start.
    within_line: bool,
    long_line_told: bool,
}

/// What the bytes at hand brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes used up.
    pub(super) used: usize,
    /// The final dot was among them.
    pub(super) ended: bool,
}

impl Intake {
    pub(super) fn new(keep_bytes_max: u64) -> Self {
        let content = (keep_bytes_max > 0).then(Vec::new);
        let taken = Taken { content, ..Taken::default() };
        Self {
            head: Some(Vec::new()),
            taken,
            keep_bytes_max,
            line_bytes: 0,
            within_line: false,
            long_line_told: false,
        }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.taken.size_bytes
    }

    /// Takes lines of DATA. Faults of the client go to `faults`. A part of a line may stay unused: give it again with more
    /// behind it.
    pub(super) fn data(&mut self, input: &[u8], faults: &mut Vec<&'static str>) -> Progress {
        // `run` is where the bytes start that were not yet pushed; `line` where the current line starts; `seek` where
        // the search for its end goes on.
        let (mut run, mut line, mut seek) = (0, 0, self.line_bytes);
        while let Some(found) = input.get(seek..).and_then(|rest| memchr2(b'\r', b'\n', rest)) {
            let at = seek + found;
            let next = input.get(at + 1).copied();
            match (input.get(at).copied(), next) {
                (Some(b'\r'), Some(b'\n')) => {}
                // What follows the CR is not there yet.
                (Some(b'\r'), None) => break,
                (Some(b'\r'), Some(_)) => {
                    faults.push("a bare CR in the content");
                    seek = at + 1;
                    continue;
                }
                _ => {
                    faults.push("a bare LF in the content");
                    seek = at + 1;
                    continue;
                }
            }
            let end = at + 2;
            let text = input.get(line..at).unwrap_or_default();
            let within_line = std::mem::take(&mut self.within_line);
            if text == b"." && !within_line {
                self.push(input.get(run..line).unwrap_or_default());
                self.line_bytes = 0;
                return Progress { used: end, ended: true };
            }
            if text.starts_with(b".") && !within_line {
                if !text.starts_with(b"..") {
                    faults.push("a line begins with a dot that was not doubled");
                }
                // RFC 5321 4.5.2: the first dot of a line is not part of it.
                self.push(input.get(run..line).unwrap_or_default());
                run = line + 1;
            }
            if end - line > LINE_BYTES_MAX && !std::mem::replace(&mut self.long_line_told, true) {
                faults.push("a line of more than 1000 bytes");
            }
            line = end;
            seek = end;
        }
        // A line without an end in sight is taken as it comes once it is far too long, so that it costs no memory.
        let rest = input.len() - line;
        if rest > 4 * LINE_BYTES_MAX {
            if !std::mem::replace(&mut self.long_line_told, true) {
                faults.push("a line of more than 1000 bytes");
            }
            if !self.within_line && input.get(line) == Some(&b'.') {
                self.push(input.get(run..line).unwrap_or_default());
                run = line + 1;
            }
            let keep = input.len() - 1;
            self.push(input.get(run..keep).unwrap_or_default());
            self.line_bytes = 0;
            self.within_line = true;
            return Progress { used: keep, ended: false };
        }
        self.push(input.get(run..line).unwrap_or_default());
        // A CR at the end is looked at again.
        self.line_bytes = rest - usize::from(input.ends_with(b"\r"));
        Progress { used: line, ended: false }
    }

    /// Takes content as it is: the bytes of BDAT, or of DATA with the dots gone.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.taken.size_bytes += bytes.len() as u64;
        if let Some(content) = &mut self.taken.content {
            if self.taken.size_bytes > self.keep_bytes_max {
                self.taken.content = None;
            } else {
                content.extend_from_slice(bytes);
            }
        }
        let Some(head) = &mut self.head else {
            self.taken.checksum = crc32c::crc32c_append(self.taken.checksum, bytes);
            return;
        };
        let seek = head.len().saturating_sub(3);
        head.extend_from_slice(bytes);
        let blank = head.get(seek..).and_then(|tail| memmem::find(tail, b"\r\n\r\n"));
        if blank.is_some() || head.len() > HEAD_BYTES_MAX {
            self.close_head();
        }
    }

    /// The message is complete.
    pub(super) fn finish(mut self) -> Taken {
        self.close_head();
        self.taken
    }

    fn close_head(&mut self) {
        let Some(bytes) = self.head.take() else { return };
        let head_end = memmem::find(&bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 2);
        let head = bytes.get(..head_end).unwrap_or_default();
        let first = field_end(head);
        let topmost = head.get(..first).unwrap_or_default();
        let received = is_field(topmost, "Received");
        if received {
            self.taken.id = id_of(topmost);
        }
        let mut rest = head;
        while !rest.is_empty() {
            let (field, after) = rest.split_at(field_end(rest));
            if is_field(field, PROBE_FIELD) {
                let value = field.get(PROBE_FIELD.len() + 1..).unwrap_or_default();
                self.taken.probe = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                break;
            }
            rest = after;
        }
        let summed = if received { bytes.get(first..).unwrap_or_default() } else { &bytes };
        self.taken.checksum = crc32c::crc32c(summed);
    }
}

/// Where the first field of `head` ends, its continuation lines and last CRLF counted.
fn field_end(head: &[u8]) -> usize {
    memmem::find_iter(head, b"\r\n")
        .map(|at| at + 2)
        .find(|next| !matches!(head.get(*next), Some(b' ' | b'\t')))
        .unwrap_or(head.len())
}

fn is_field(field: &[u8], name: &str) -> bool {
    field.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        && field.get(name.len()) == Some(&b':')
}

/// The word after `id` in a Received field. RFC 5321 4.4.
fn id_of(received: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(received).ok()?;
    let mut words = text.split_ascii_whitespace();
    words.find(|word| word.eq_ignore_ascii_case("id"))?;
    words.next().map(|word| word.trim_end_matches(';').to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `wire` in pieces of `step` bytes, as a connection would. Answers what was taken, the faults, and the bytes after
    /// the final dot.
    fn feed(wire: &[u8], step: usize) -> (Option<Taken>, Vec<&'static str>, usize) {
        let mut intake = Intake::new(u64::MAX);
        let (mut faults, mut input) = (Vec::new(), Vec::new());
        let mut pieces = wire.chunks(step);
        loop {
            let progress = intake.data(&input, &mut faults);
            input.drain(..progress.used);
            if progress.ended {
                let after = input.len() + pieces.map(<[u8]>::len).sum::<usize>();
                return (Some(intake.finish()), faults, after);
            }
            match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => return (None, faults, input.len()),
            }
        }
    }

    #[test]
    fn the_topmost_received_field_is_not_part_of_the_checksum() {
        let rest = "X-Mailswitch-Probe: run-9\r\nReceived: from y by z id other;\r\n date\r\n\r\nbody\r\n";
        let wire =
            format!("Received: from x by y\r\n\twith ESMTP id a-7-1f;\r\n\tSun, 1 Jan\r\n{rest}.\r\nQUIT");
        for step in [1, 2, 3, 7, 4096] {
            let (taken, faults, after) = feed(wire.as_bytes(), step);
            let taken = taken.unwrap();
            assert_eq!(taken.id.as_deref(), Some("a-7-1f"));
            assert_eq!(taken.probe, Some(ProbeTag { run: "run".into(), number: 9 }));
            assert_eq!(taken.checksum, crc32c::crc32c(rest.as_bytes()));
            assert_eq!(taken.size_bytes, wire.len() as u64 - 7);
            assert_eq!((faults.len(), after), (0, 4));
        }
    }

    #[test]
    fn faults_of_a_client_are_seen() {
        let long = format!("{}\r\n.\r\n", "x".repeat(999));
        let endless = format!("{}\r\n.\r\n", "x".repeat(100_000));
        for (wire, wanted, size) in [
            ("a\nb\r\n.\r\n", "a bare LF in the content", 5),
            ("a\rb\r\n.\r\n", "a bare CR in the content", 5),
            (".a\r\n.\r\n", "a line begins with a dot that was not doubled", 3),
            (&long, "a line of more than 1000 bytes", 1001),
            (&endless, "a line of more than 1000 bytes", 100_002),
        ] {
            for step in [1, 5, 70_000] {
                let (taken, faults, _) = feed(wire.as_bytes(), step);
                assert_eq!(faults, [wanted], "in steps of {step}");
                assert_eq!(taken.unwrap().size_bytes, size);
            }
        }
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_message() {
        // Nor does a dot anywhere in a line, however the line is cut.
        let endless = format!("{}.\r\n", "x".repeat(4 * LINE_BYTES_MAX));
        assert!((1..50).all(|step| feed(endless.as_bytes(), step).0.is_none()));
        let stuffed = format!("..{}\r\n.\r\n", "x".repeat(9 * LINE_BYTES_MAX));
        let size_bytes = stuffed.len() as u64 - 4;
        assert!((1..50).all(|step| feed(stuffed.as_bytes(), step).0.unwrap().size_bytes == size_bytes));
        for wire in ["a\n.\n", "a\r\n.\n", "a\n.\r\n", "a\r\n.\r", "a\r\n..\r\n", "a\r.\r\n"] {
            for step in [1, 100] {
                assert_eq!(feed(wire.as_bytes(), step).0, None, "{wire:?}");
            }
        }
        assert_eq!(feed(b".\r\n", 1).0.unwrap().size_bytes, 0);
    }

    #[test]
    fn content_beyond_the_limit_is_not_kept() {
        let mut intake = Intake::new(4);
        intake.push(b"abc");
        intake.push(b"de");
        assert_eq!(intake.finish().content, None);
    }

    proptest! {
        /// Whatever the bytes and however they are cut, stuffed content comes out as it went in.
        #[test]
        fn content_is_the_same_however_it_is_cut(
            lines in proptest::collection::vec("[.a]{0,4}", 0..20),
            step in 1_usize..12,
        ) {
            let (mut plain, mut wire) = (String::new(), String::new());
            for line in &lines {
                plain.push_str(line);
                plain.push_str("\r\n");
                wire.push_str(if line.starts_with('.') { "." } else { "" });
                wire.push_str(line);
                wire.push_str("\r\n");
            }
            let (taken, faults, after) = feed(format!("{wire}.\r\n").as_bytes(), step);
            prop_assert_eq!(faults.len() + after, 0);
            let taken = taken.unwrap();
            prop_assert_eq!(taken.content.unwrap(), plain.as_bytes());
            prop_assert_eq!(taken.checksum, crc32c::crc32c(plain.as_bytes()));
        }
    }
}
