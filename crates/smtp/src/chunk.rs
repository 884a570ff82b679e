//! The bytes of BDAT chunks: counted, not searched for an end. RFC 3030.
//!
//! BINARYMIME is not offered, so the content is still text whose lines end with CRLF. A bare LF or CR is a fault here as
//! it is in DATA: the message may leave us by DATA, and a line end that another server reads differently could end it
//! there. The caller refuses the message after its last chunk.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use crate::dot::BareLineEnd;

/// Watches the line ends of a message over all its chunks.
#[derive(Debug, Clone, Default)]
pub(crate) struct LineEndWatch {
    after_carriage_return: bool,
    fault: Option<BareLineEnd>,
}

impl LineEndWatch {
    /// Looks at the next bytes.
    pub(crate) fn look(&mut self, bytes: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        let mut rest = bytes;
        if self.after_carriage_return {
            match rest {
                [] => return,
                [b'\n', after @ ..] => rest = after,
                _ => self.fault = Some(BareLineEnd::CarriageReturn),
            }
            self.after_carriage_return = false;
        }
        while let Some(at) = memchr2(b'\r', b'\n', rest) {
            match rest.get(at..) {
                Some([b'\r', b'\n', after @ ..]) => rest = after,
                Some([b'\r']) => {
                    self.after_carriage_return = true;
                    return;
                }
                Some([b'\r', ..]) => return self.set(BareLineEnd::CarriageReturn),
                _ => return self.set(BareLineEnd::LineFeed),
            }
        }
    }

    fn set(&mut self, fault: BareLineEnd) {
        self.fault.get_or_insert(fault);
    }

    /// The fault of the whole message, known after its last byte: a CR there is bare.
    pub(crate) fn fault_at_end(&self) -> Option<BareLineEnd> {
        self.fault.or(self.after_carriage_return.then_some(BareLineEnd::CarriageReturn))
    }

    /// The fault seen so far.
    pub(crate) fn fault(&self) -> Option<BareLineEnd> {
        self.fault
    }
}

/// Takes at most `remaining` bytes off `input` and counts them down. Empty when there is nothing to take.
pub(crate) fn take(remaining: &mut u64, input: &mut BytesMut) -> Bytes {
    let length = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
    *remaining -= length as u64;
    input.split_to(length).freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_line_end_is_found_however_the_chunks_are_cut() {
        let table: &[(&[u8], Option<BareLineEnd>)] = &[
            (b"a\r\nb\r\n", None),
            (b"", None),
            (b"no line end", None),
            (b"a\nb", Some(BareLineEnd::LineFeed)),
            (b"\n", Some(BareLineEnd::LineFeed)),
            (b"a\rb", Some(BareLineEnd::CarriageReturn)),
            (b"a\r\r\n", Some(BareLineEnd::CarriageReturn)),
            (b"a\r", Some(BareLineEnd::CarriageReturn)),
            (b"a\r\n\n", Some(BareLineEnd::LineFeed)),
        ];
        for (bytes, wanted) in table {
            for size in 1..=bytes.len().max(1) {
                let mut watch = LineEndWatch::default();
                bytes.chunks(size).for_each(|piece| watch.look(piece));
                assert_eq!(watch.fault_at_end(), *wanted, "{} by {size}", bytes.escape_ascii());
            }
        }
    }
}
