//! Fields that a message submitted by a user lacks: Date and Message-ID. RFC 6409 8.2 and 8.3.
//!
//! The content streams by, and what is missing is put at the end of the header, where it moves nothing. Content that begins with
//! no field at all, or whose header has a line that is no field, is left as it is: nobody can say where its header ends.

use mail_model::{Domain, WallTime};

use crate::date::date;

/// The longest line that is looked at as a field; names are far shorter.
const LOOKED_AT: usize = 32;

/// Adds what is missing, while the content streams by.
#[derive(Debug)]
pub struct Completion {
    /// What is added; `None` once it was met.
    date: Option<String>,
    message_id: Option<String>,
    /// The beginning of the line that is read.
    line: Vec<u8>,
    /// A CR that may begin the empty line: what is missing goes before it.
    held: bool,
    fields: usize,
    over: bool,
}

impl Completion {
    /// For a message that arrived at `at` under `id`, at the host `by`.
    #[must_use]
    pub fn new(at: WallTime, id: &str, by: &Domain) -> Self {
        Self {
            date: Some(format!("Date: {}\r\n", date(at))),
            message_id: Some(format!("Message-ID: <{id}@{by}>\r\n")),
            line: Vec::new(),
            held: false,
            fields: 0,
            over: false,
        }
    }

    /// True once nothing is added any more: pieces may go by without it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over && !self.held
    }

    /// The next piece of the content, with what was missing before it.
    #[must_use]
    pub fn pass(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len() + 160);
        for (place, byte) in piece.iter().enumerate() {
            if self.over {
                out.extend_from_slice(piece.get(place..).unwrap_or_default());
                break;
            }
            self.take(*byte, &mut out);
        }
        out
    }

    /// The content has ended: what is still to be written.
    #[must_use]
    pub fn end(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.over && self.line.is_empty() && !self.held && self.fields > 0 {
            // A header and no body.
            self.add(&mut out);
        }
        if std::mem::take(&mut self.held) {
            out.push(b'\r');
        }
        self.over = true;
        out
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.held) {
            if byte == b'\n' {
                self.over = true;
                if self.fields > 0 {
                    self.add(out);
                }
                out.extend_from_slice(b"\r\n");
                return;
            }
            out.push(b'\r');
        }
        if self.line.is_empty() && byte == b'\r' {
            self.held = true;
            return;
        }
        out.push(byte);
        if byte == b'\n' {
            self.field();
        } else if self.line.len() < LOOKED_AT {
            self.line.push(byte);
        }
    }

    /// A line has ended.
    fn field(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) && self.fields > 0 {
            return;
        }
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii_end();
        let is_field = (line.contains(&b':') || line.len() >= LOOKED_AT)
            && !name.is_empty()
            && name.iter().all(u8::is_ascii_graphic);
        if !is_field {
            self.over = true;
            return;
        }
        self.fields += 1;
        if name.eq_ignore_ascii_case(b"date") {
            self.date = None;
        } else if name.eq_ignore_ascii_case(b"message-id") {
            self.message_id = None;
        }
    }

    fn add(&self, out: &mut Vec<u8>) {
        for field in [&self.date, &self.message_id].into_iter().flatten() {
            out.extend_from_slice(field.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n";
    const ID: &str = "Message-ID: <a-1-1@mx.example.test>\r\n";

    fn completed(content: &str, size: usize) -> String {
        let by = Domain::new("mx.example.test").unwrap();
        let mut completion = Completion::new(WallTime(1_700_000_000_000), "a-1-1", &by);
        let mut out = Vec::new();
        for piece in content.as_bytes().chunks(size) {
            out.extend(completion.pass(piece));
        }
        out.extend(completion.end());
        assert!(completion.is_over());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_missing_is_added_once_at_the_end_of_the_header_however_it_is_cut() {
        let long = format!("X-Long-Name-Of-A-Field-Of-Some-Sort: {}\r\n", "x".repeat(200));
        let table = [
            (
                "Subject: a\r\n\r\nDate: in the body\r\n",
                format!("Subject: a\r\n{DATE}{ID}\r\nDate: in the body\r\n"),
            ),
            ("DATE : x\r\n\r\nb\r\n", format!("DATE : x\r\n{ID}\r\nb\r\n")),
            ("Message-Id: x\r\nDate:\r\n y\r\n\r\n", "Message-Id: x\r\nDate:\r\n y\r\n\r\n".to_owned()),
            ("Subject: a\r\n date: folded\r\n\r\n", format!("Subject: a\r\n date: folded\r\n{DATE}{ID}\r\n")),
            ("Subject: no body\r\n", format!("Subject: no body\r\n{DATE}{ID}")),
            (&format!("{long}\r\nb"), format!("{long}{DATE}{ID}\r\nb")),
            // No header, or what is none.
            ("\r\nbody\r\n", "\r\nbody\r\n".to_owned()),
            ("hello there\r\nDate: x\r\n\r\n", "hello there\r\nDate: x\r\n\r\n".to_owned()),
            ("Subject: a\r\nhello there\r\n\r\n", "Subject: a\r\nhello there\r\n\r\n".to_owned()),
            ("", String::new()),
        ];
        for (content, wanted) in &table {
            for size in 1..=content.len().max(1) {
                assert_eq!(completed(content, size), *wanted, "{content:?} in pieces of {size}");
            }
        }
    }
}
