//! Writing replies: a code, text that cannot break the line, several lines where one does not hold it. RFC 5321 4.2.
//!
//! Whatever text comes in, what goes out is printable ASCII in lines of at most 512 octets.

use bytes::{BufMut, BytesMut};
use mail_model::{EnhancedStatus, Reply};

/// Text of one line: RFC 5321 4.5.3.1.5 allows 512 octets with code, separator and CRLF; an enhanced status has up to 10.
const TEXT_OCTETS_MAX: usize = 480;

/// Appends `reply`. An enhanced status stands on each of its lines, as RFC 2034 3 wants it.
pub fn write(reply: &Reply, out: &mut BytesMut) {
    let text: String = reply.text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    let mut lines = text.as_bytes().chunks(TEXT_OCTETS_MAX).peekable();
    if lines.peek().is_none() {
        write_line(reply.code, ' ', reply.enhanced, b"ok", out);
    }
    while let Some(line) = lines.next() {
        let separator = if lines.peek().is_some() { '-' } else { ' ' };
        write_line(reply.code, separator, reply.enhanced, line, out);
    }
}

/// Appends a reply of several lines without enhanced status, as the one to EHLO. The lines are ours and short.
pub(crate) fn write_lines<'a>(code: u16, lines: impl Iterator<Item = &'a str>, out: &mut BytesMut) {
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        let separator = if lines.peek().is_some() { '-' } else { ' ' };
        write_line(code, separator, None, line.as_bytes(), out);
    }
}

fn write_line(code: u16, separator: char, enhanced: Option<EnhancedStatus>, text: &[u8], out: &mut BytesMut) {
    let status = enhanced.map(|e| format!("{e} ")).unwrap_or_default();
    out.put_slice(format!("{code:03}{separator}{status}").as_bytes());
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

/// `reply` if it is a refusal; a temporary one of our own if whoever decided gave something else by mistake.
pub(crate) fn refusal(reply: Reply) -> Reply {
    if matches!(reply.code, 400..=599) {
        reply
    } else {
        Reply::local(451, EnhancedStatus::new(4, 3, 0), "local error, try again later")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_out_of_its_line() {
        let mut reply = Reply::local(550, EnhancedStatus::new(5, 7, 1), "x".repeat(500));
        reply.text.push_str("a\r\n250 ok\r\né\0");
        let mut out = BytesMut::new();
        write(&reply, &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("550-5.7.1 x") && lines[1].starts_with("550 5.7.1 x"));
        assert!(lines.iter().all(|l| l.len() <= 510 && l.bytes().all(|b| matches!(b, b' '..=b'~'))));
    }

    #[test]
    fn an_answer_that_refuses_nothing_becomes_a_temporary_failure() {
        assert_eq!(refusal(Reply::from_peer(250, "2.0.0 ok")).code, 451);
        assert_eq!(refusal(Reply::from_peer(550, "5.7.1 no")).code, 550);
    }
}
