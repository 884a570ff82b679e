//! Replies of a peer, line by line as they come. RFC 5321 4.2.
//!
//! The parsers of the mail crates read an enhanced status above 255 as 255 and lose what follows a reply in the same
//! packet, which in a pipelined envelope is the next reply; so the replies of a transaction are read here.

use bytes::{Buf, BytesMut};
use mail_model::Reply;

/// RFC 5321 4.5.3.1.5 allows 512 octets; peers are longer-winded.
const LINE_OCTETS_MAX: usize = 4_096;
/// Lines of one reply.
const LINES_MAX: usize = 200;

/// What was sent is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the next host sent no SMTP reply")]
pub(crate) struct NoReply;

/// Puts lines together to a reply.
#[derive(Debug, Default)]
pub(crate) struct ReplyReader {
    code: Option<u16>,
    text: String,
    lines: usize,
}

impl ReplyReader {
    /// Takes the next reply out of `input`; `None` if it is not there whole.
    pub(crate) fn read(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, NoReply> {
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line = input.split_to(end);
            input.advance(1);
            if let Some(code) = self.line(line.strip_suffix(b"\r").unwrap_or(&line))? {
                let text = std::mem::take(&mut self.text);
                *self = Self::default();
                return Ok(Some(Reply::from_peer(code, &text)));
            }
        }
        if input.len() > LINE_OCTETS_MAX { Err(NoReply) } else { Ok(None) }
    }

    /// The code if this was the last line.
    fn line(&mut self, line: &[u8]) -> Result<Option<u16>, NoReply> {
        self.lines += 1;
        let (digits, rest) = line.split_at_checked(3).ok_or(NoReply)?;
        if line.len() > LINE_OCTETS_MAX || self.lines > LINES_MAX || !digits.iter().all(u8::is_ascii_digit) {
            return Err(NoReply);
        }
        let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        let (last, text) = match rest.split_first() {
            None => (true, rest),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(NoReply),
        };
        // RFC 5321 4.2.1: the code is the same on each line.
        if self.code.is_some_and(|first| first != code) || !(200..600).contains(&code) {
            return Err(NoReply);
        }
        self.code = Some(code);
        self.take_text(&String::from_utf8_lossy(text));
        Ok(last.then_some(code))
    }

    /// An enhanced status stands on each line (RFC 2034 3); once is enough.
    fn take_text(&mut self, text: &str) {
        let again = !self.text.is_empty() && mail_model::EnhancedStatus::parse_prefix(text).is_some();
        let text = if again { text.split_once(' ').map_or("", |(_, rest)| rest) } else { text };
        if self.text.len() > Reply::TEXT_MAX {
            return;
        }
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(bytes: &[u8], piece: usize) -> Result<Vec<String>, NoReply> {
        let mut reader = ReplyReader::default();
        let mut input = BytesMut::new();
        let mut found = Vec::new();
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            while let Some(reply) = reader.read(&mut input)? {
                found.push(reply.to_string());
            }
        }
        Ok(found)
    }

    #[test]
    fn replies_are_the_same_however_they_arrive() {
        let bytes = b"250 2.1.0 ok\r\n550-5.7.509 first\r\n550 5.7.509 second\r\n354\r\n421 bye\n";
        let wanted = ["250 2.1.0 ok", "550 5.7.509 first second", "354", "421 bye"];
        for piece in 1..bytes.len() {
            assert_eq!(replies(bytes, piece).unwrap(), wanted, "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_reply_is_refused_before_it_grows() {
        for bytes in [&b"hello\r\n"[..], b"25\r\n", b"250x\r\n", b"250-a\r\n251 b\r\n", b"999 x\r\n", b"\r\n"]
        {
            assert_eq!(replies(bytes, 1), Err(NoReply), "{bytes:?}");
        }
        assert_eq!(replies(&[b'2'; 5000], 100), Err(NoReply));
        assert_eq!(replies(&b"250-x\r\n".repeat(300), 100), Err(NoReply));
    }
}
