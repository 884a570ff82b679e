//! The dots of DATA: taking them out on the way in, putting them in on the way out. RFC 5321 4.5.2.
//!
//! A message ends at CRLF `.` CRLF and at nothing else; its first line counts as following a CRLF, namely the one of the
//! DATA command. A bare LF or bare CR is neither a line end nor removed: it is remembered as a fault, decoding goes on to
//! the true end, and the caller refuses the message. So no two servers can disagree about where it ended (smuggling).
//!
//! | at line start | bytes                    | then                                             |
//! |---------------|--------------------------|--------------------------------------------------|
//! | yes           | `.` CR LF                | `End`                                            |
//! | yes           | `.`, `.` CR, nothing     | undecided: stays in the buffer                   |
//! | yes           | `.` and anything else    | the dot is dropped                               |
//! | any           | text CR LF               | body, at line start                              |
//! | any           | CR at the buffer's end   | undecided: stays in the buffer                   |
//! | any           | bare LF, bare CR         | fault; body, not at line start                   |
//!
//! Body bytes are slices of the input, never copied. At most two bytes stay undecided.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr2, memmem};

/// A line end that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BareLineEnd {
    /// LF without CR before it.
    LineFeed,
    /// CR without LF after it.
    CarriageReturn,
}

/// What the decoder found at the front of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Bytes of the message, in order.
    Body(Bytes),
    /// Nothing more can be said before more bytes come.
    More,
    /// The end of the message; what is left in the buffer is not part of it.
    End,
}

/// Decodes one message.
#[derive(Debug, Clone)]
pub struct DotDecoder {
    at_line_start: bool,
    fault: Option<BareLineEnd>,
}

impl Default for DotDecoder {
    fn default() -> Self {
        Self { at_line_start: true, fault: None }
    }
}

/// What stands at the start of a line.
enum LineStart {
    End,
    Undecided,
    Stuffed,
    Text,
}

fn line_start(bytes: &[u8]) -> LineStart {
    match bytes {
        [b'.', b'\r', b'\n', ..] => LineStart::End,
        [] | [b'.'] | [b'.', b'\r'] => LineStart::Undecided,
        [b'.', ..] => LineStart::Stuffed,
        _ => LineStart::Text,
    }
}

impl DotDecoder {
    /// The first bare line end seen so far. A message with one must be refused after its end.
    #[must_use]
    pub fn fault(&self) -> Option<BareLineEnd> {
        self.fault
    }

    /// Takes the next piece off `input`. Call until `More` or `End`.
    pub fn decode(&mut self, input: &mut BytesMut) -> Decoded {
        let mut at = 0;
        loop {
            if self.at_line_start {
                match line_start(input.get(at..).unwrap_or_default()) {
                    LineStart::End if at == 0 => {
                        input.advance(3);
                        return Decoded::End;
                    }
                    LineStart::Stuffed if at == 0 => {
                        input.advance(1);
                        self.at_line_start = false;
                    }
                    LineStart::Text => self.at_line_start = false,
                    // The body before it goes out first; the next call comes back here.
                    LineStart::End | LineStart::Stuffed | LineStart::Undecided => {
                        return Self::body(input, at);
                    }
                }
            }
            let rest = input.get(at..).unwrap_or_default();
            let Some(found) = memchr2(b'\r', b'\n', rest) else {
                return Self::body(input, input.len());
            };
            at += found;
            match rest.get(found..) {
                Some([b'\r', b'\n', ..]) => {
                    at += 2;
                    self.at_line_start = true;
                }
                Some([b'\r']) => return Self::body(input, at),
                Some([b'\r', ..]) => {
                    at += 1;
                    self.fault.get_or_insert(BareLineEnd::CarriageReturn);
                }
                _ => {
                    at += 1;
                    self.fault.get_or_insert(BareLineEnd::LineFeed);
                }
            }
        }
    }

    fn body(input: &mut BytesMut, length: usize) -> Decoded {
        if length == 0 { Decoded::More } else { Decoded::Body(input.split_to(length).freeze()) }
    }
}

/// The last bytes that were encoded, as far as they matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// CRLF, or nothing yet.
    LineStart,
    /// CR.
    CarriageReturn,
    /// Anything else.
    Text,
}

/// Encodes one message: a dot before each dot at a line start, and CRLF `.` CRLF at the end. Nothing else is changed. It
/// expects what the receiving side let through: a body whose only line ends are CRLF.
#[derive(Debug, Clone)]
pub struct DotEncoder {
    tail: Tail,
}

impl Default for DotEncoder {
    fn default() -> Self {
        Self { tail: Tail::LineStart }
    }
}

static DOT: Bytes = Bytes::from_static(b".");

impl DotEncoder {
    /// Appends the wire form of the next piece of the body: slices of it, with dots between.
    pub fn encode(&mut self, mut body: Bytes, out: &mut Vec<Bytes>) {
        // What the end of the last piece and the start of this one make together.
        match (self.tail, body.as_ref()) {
            (_, []) => return,
            (Tail::LineStart, [b'.', ..]) => out.push(DOT.clone()),
            (Tail::CarriageReturn, [b'\n', b'.', ..]) => {
                out.push(body.split_to(1));
                out.push(DOT.clone());
            }
            (Tail::CarriageReturn, [b'\n']) => {
                self.tail = Tail::LineStart;
                out.push(body);
                return;
            }
            _ => {}
        }
        self.tail = match body.as_ref() {
            [.., b'\r', b'\n'] => Tail::LineStart,
            [.., b'\r'] => Tail::CarriageReturn,
            _ => Tail::Text,
        };
        let stuffed = memmem::Finder::new(b"\r\n.");
        while let Some(at) = stuffed.find(&body) {
            out.push(body.split_to(at + 2));
            out.push(DOT.clone());
            // The dot itself goes with it, so that the search moves on even where lines are a dot each.
            out.push(body.split_to(1));
        }
        if !body.is_empty() {
            out.push(body);
        }
    }

    /// What ends the message: the CRLF that its last line lacks, if it lacks one, and the dot line.
    #[must_use]
    pub fn finish(self) -> Bytes {
        match self.tail {
            Tail::LineStart => Bytes::from_static(b".\r\n"),
            Tail::CarriageReturn | Tail::Text => Bytes::from_static(b"\r\n.\r\n"),
        }
    }
}

#[cfg(test)]
mod tests;
