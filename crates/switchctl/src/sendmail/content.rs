//! A message as a program of this machine writes it, made fit to be sent: CRLF at line ends, no Bcc, and the fields that RFC
//! 5322 3.6 asks for.

use crate::text::{lines, push_line, recipients};

/// What is put in where the message lacks it.
pub(super) struct Defaults<'a> {
    pub(super) sender: &'a str,
    pub(super) full_name: Option<&'a str>,
    pub(super) id: &'a str,
}

/// A message.
pub(super) struct Content {
    /// With CRLF, and one at its end.
    text: Vec<u8>,
    /// Where the header ends, after the CRLF of its last field.
    header: usize,
}

/// Cuts before the first line that is a dot alone.
pub(super) fn end_at_dot(text: &mut Vec<u8>) {
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if matches!(line, b".\n" | b".\r\n" | b".") {
            text.truncate(at);
            return;
        }
        at += line.len();
    }
}

impl Content {
    /// Takes a text with any line ends. One without a header gets an empty one.
    pub(super) fn new(raw: &[u8]) -> Self {
        let mut text = Vec::with_capacity(raw.len() + raw.len() / 32);
        let mut header = None;
        for line in lines(raw) {
            if header.is_none() && !is_header_line(line, text.is_empty()) {
                header = Some(text.len());
                if !line.is_empty() {
                    // A text without a header: it begins after an empty line.
                    text.extend_from_slice(b"\r\n");
                }
            }
            push_line(&mut text, line);
        }
        let header = header.unwrap_or(text.len());
        Self { text, header }
    }

    /// The addresses of To:, Cc: and Bcc:. A user of this host has a name only.
    pub(super) fn recipients(&self) -> Vec<String> {
        recipients(&self.text)
    }

    /// The message without Bcc:, with From:, Date: and Message-ID: where they lack.
    pub(super) fn complete(&self, defaults: &Defaults<'_>) -> Vec<u8> {
        let (header, body) = self.text.split_at(self.header);
        let mut out = Vec::with_capacity(self.text.len() + 256);
        let (mut from, mut date, mut id, mut keep) = (false, false, false, true);
        for line in header.split_inclusive(|byte| *byte == b'\n') {
            if !is_folded(line) {
                let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii();
                let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
                keep = !is("Bcc");
                from |= is("From");
                date |= is("Date");
                id |= is("Message-ID");
            }
            if keep {
                out.extend_from_slice(line);
            }
        }
        if !from {
            let name = defaults.full_name.map(quoted).unwrap_or_default();
            out.extend_from_slice(format!("From: {name}<{}>\r\n", defaults.sender).as_bytes());
        }
        if !date {
            let now = jiff::Zoned::now().strftime("%a, %d %b %Y %H:%M:%S %z");
            out.extend_from_slice(format!("Date: {now}\r\n").as_bytes());
        }
        if !id {
            out.extend_from_slice(format!("Message-ID: <{}>\r\n", defaults.id).as_bytes());
        }
        out.extend_from_slice(if body.is_empty() { b"\r\n" } else { body });
        out
    }
}

fn is_folded(line: &[u8]) -> bool {
    line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'))
}

/// RFC 5322 2.2: a name of printable characters, and a colon; or a folded line after one.
fn is_header_line(line: &[u8], first: bool) -> bool {
    if is_folded(line) {
        return !first;
    }
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    let name = name.trim_ascii_end();
    name.len() < line.len() && !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

/// RFC 5322 3.2.4: a display name as a quoted string; one that is not ASCII is left away.
fn quoted(name: &str) -> String {
    if !name.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return String::new();
    }
    format!("\"{}\" ", name.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults<'_> =
        Defaults { sender: "me@a.test", full_name: Some("M \"e\""), id: "1@a.test" };

    fn complete(text: &str) -> String {
        String::from_utf8(Content::new(text.as_bytes()).complete(&DEFAULTS)).unwrap()
    }

    #[test]
    fn recipients_are_those_of_the_header_and_bcc_does_not_go_out() {
        let text =
            "To: \"A, b\" <a@x.test>, c@x.test\nBcc: d@x.test,\n e@x.test\nSubject: s\n\nTo: no@x.test\n";
        assert_eq!(
            Content::new(text.as_bytes()).recipients(),
            ["a@x.test", "c@x.test", "d@x.test", "e@x.test"]
        );
        let whole = complete(text);
        assert!(!whole.contains("d@x.test") && !whole.contains("e@x.test"), "{whole}");
        assert!(whole.ends_with("\r\n\r\nTo: no@x.test\r\n"), "{whole}");
    }

    #[test]
    fn what_the_standard_asks_for_is_put_in_once() {
        let whole = complete("Subject: s\nmessage-id: <2@b.test>\n\ntext");
        assert!(whole.contains("From: \"M \\\"e\\\"\" <me@a.test>\r\nDate: "), "{whole}");
        assert_eq!(whole.to_lowercase().matches("message-id").count(), 1);
        assert!(whole.ends_with("\r\n\r\ntext\r\n"), "{whole}");
    }

    #[test]
    fn a_text_without_a_header_is_a_body() {
        for text in ["just words\nmore\n", "no colon here", ""] {
            let whole = complete(text);
            assert!(whole.starts_with("From: ") && whole.contains("\r\n\r\n"), "{whole}");
        }
        assert!(complete("just words: and\n").ends_with("\r\n\r\njust words: and\r\n"));
    }

    #[test]
    fn a_dot_alone_ends_the_message_and_nothing_less_does() {
        let mut text = b"a\n..\n. \n.\nb\n".to_vec();
        end_at_dot(&mut text);
        assert_eq!(text, b"a\n..\n. \n");
    }
}
