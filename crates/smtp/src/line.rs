//! Command lines in a stream of bytes. RFC 5321 2.3.8: only CRLF ends a line.
//!
//! A line with a bare LF or a bare CR, or one longer than the limit, is refused once, where its first fault stands, and
//! then swallowed up to its CRLF without being kept. So an answer never depends on how the network cut the bytes.
//!
//! | skipping | bytes seen                | then                          |
//! |----------|---------------------------|-------------------------------|
//! | no       | text CRLF within limit    | `Complete`                    |
//! | no       | bare LF, bare CR, too long| `Refused`, skipping           |
//! | yes      | … CRLF                    | not skipping, the next line   |
//!
//! It never copies and never allocates: a complete line stays in the buffer until its reader takes it out.

use bytes::{Buf, BytesMut};
use memchr::{memchr2, memmem};

/// Why a command line was refused before anyone looked at its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LineFault {
    /// No CRLF within the limit.
    #[error("the line is too long")]
    TooLong,
    /// LF without CR before it.
    #[error("bare LF: lines end with CRLF")]
    BareLineFeed,
    /// CR without LF after it.
    #[error("bare CR: lines end with CRLF")]
    BareCarriageReturn,
}

/// What stands at the front of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Not yet a whole line.
    Incomplete,
    /// A line of so many octets without its CRLF. The reader removes those octets and two more.
    Complete(usize),
    /// A line that is refused; it is being swallowed.
    Refused(LineFault),
}

/// Finds command lines; remembers only whether it is swallowing one.
#[derive(Debug)]
pub(crate) struct LineReader {
    octets_max: usize,
    skipping: bool,
}

impl LineReader {
    /// A reader of lines of at most `octets_max` octets, CRLF included.
    pub(crate) fn new(octets_max: usize) -> Self {
        Self { octets_max: octets_max.max(2), skipping: false }
    }

    /// Looks at the front of `input`.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Line {
        if self.skipping && !self.skip(input) {
            return Line::Incomplete;
        }
        match self.look(input) {
            Ok(line) => line,
            Err(fault) => {
                self.skipping = true;
                self.skip(input);
                Line::Refused(fault)
            }
        }
    }

    fn look(&self, input: &[u8]) -> Result<Line, LineFault> {
        let window = input.get(..self.octets_max).unwrap_or(input);
        let Some(at) = memchr2(b'\r', b'\n', window) else {
            return if input.len() >= self.octets_max {
                Err(LineFault::TooLong)
            } else {
                Ok(Line::Incomplete)
            };
        };
        if window.get(at) == Some(&b'\n') {
            return Err(LineFault::BareLineFeed);
        }
        if at + 2 > self.octets_max {
            return Err(LineFault::TooLong);
        }
        match input.get(at + 1) {
            None => Ok(Line::Incomplete),
            Some(b'\n') => Ok(Line::Complete(at)),
            Some(_) => Err(LineFault::BareCarriageReturn),
        }
    }

    /// Swallows up to the next CRLF; true when it was found.
    fn skip(&mut self, input: &mut BytesMut) -> bool {
        if let Some(at) = memmem::find(input, b"\r\n") {
            input.advance(at + 2);
            self.skipping = false;
            return true;
        }
        // A CR at the very end may be the first half of the CRLF.
        let keep = usize::from(input.last() == Some(&b'\r'));
        input.advance(input.len() - keep);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Wanted = Result<&'static [u8], LineFault>;

    /// All lines of `bytes`, fed in pieces of `size`.
    fn lines(bytes: &[u8], size: usize) -> Vec<Result<Vec<u8>, LineFault>> {
        let mut reader = LineReader::new(16);
        let mut input = BytesMut::new();
        let mut seen = Vec::new();
        for piece in bytes.chunks(size) {
            input.extend_from_slice(piece);
            loop {
                match reader.next(&mut input) {
                    Line::Incomplete => break,
                    Line::Refused(fault) => seen.push(Err(fault)),
                    Line::Complete(length) => {
                        seen.push(Ok(input[..length].to_vec()));
                        input.advance(length + 2);
                    }
                }
            }
            assert!(input.len() < 16, "an overlong line is not kept");
        }
        seen
    }

    #[test]
    fn only_crlf_ends_a_line_and_each_line_gets_one_answer_however_it_is_cut() {
        use LineFault::{BareCarriageReturn, BareLineFeed, TooLong};
        let table: &[(&[u8], &[Wanted])] = &[
            (b"NOOP\r\nQUIT\r\n", &[Ok(b"NOOP"), Ok(b"QUIT")]),
            (b"\r\n", &[Ok(b"")]),
            (b"NOOP\nQUIT\r\nRSET\r\n", &[Err(BareLineFeed), Ok(b"RSET")]),
            (b"\n\n\r\nA\r\n", &[Err(BareLineFeed), Ok(b"A")]),
            (b"NO\rOP\r\nA\r\n", &[Err(BareCarriageReturn), Ok(b"A")]),
            (b"A\r\r\nB\r\n", &[Err(BareCarriageReturn), Ok(b"B")]),
            (b"12345678901234\r\nB\r\n", &[Ok(b"12345678901234"), Ok(b"B")]),
            (b"123456789012345\r\nB\r\n", &[Err(TooLong), Ok(b"B")]),
            (b"1234567890123456789\n\r\r\nB\r\n", &[Err(TooLong), Ok(b"B")]),
            (b"NOOP", &[]),
            (b"NOOP\r", &[]),
        ];
        for (bytes, wanted) in table {
            let wanted: Vec<Result<Vec<u8>, LineFault>> =
                wanted.iter().map(|l| l.map(<[u8]>::to_vec)).collect();
            for size in 1..=bytes.len() {
                assert_eq!(lines(bytes, size), wanted, "{} in pieces of {size}", bytes.escape_ascii());
            }
        }
    }
}
