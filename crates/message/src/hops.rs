//! How many hosts a message has passed: its Received fields, counted while the content streams by. RFC 5321 6.3.

/// The name of the field, in lower case.
const NAME: &[u8] = b"received";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a field's name, of which so many bytes match.
    Name(usize),
    /// After the whole name, in spaces before the colon. RFC 5322 4.5: the obsolete syntax allows them.
    AfterName,
    /// Elsewhere in a line; `empty` as long as the line has nothing in it but a CR.
    Rest { empty: bool },
    /// The header is over.
    Body,
}

/// Counts Received fields. Pieces may be cut anywhere; what follows the header is not looked at.
#[derive(Debug, Clone)]
pub struct HopCount {
    place: Place,
    count: u32,
}

impl Default for HopCount {
    fn default() -> Self {
        Self { place: Place::Name(0), count: 0 }
    }
}

impl HopCount {
    /// Looks at the next piece of the content.
    pub fn look(&mut self, piece: &[u8]) {
        for byte in piece {
            if self.place == Place::Body {
                return;
            }
            self.place = self.after(*byte);
        }
    }

    fn after(&mut self, byte: u8) -> Place {
        match (self.place, byte) {
            (Place::Body, _) | (Place::Name(0) | Place::Rest { empty: true }, b'\n') => Place::Body,
            (_, b'\n') => Place::Name(0),
            (Place::Name(0), b'\r') => Place::Rest { empty: true },
            (Place::Name(matched), byte) if NAME.get(matched) == Some(&byte.to_ascii_lowercase()) => {
                if matched + 1 == NAME.len() {
                    Place::AfterName
                } else {
                    Place::Name(matched + 1)
                }
            }
            (Place::AfterName, b' ' | b'\t') => Place::AfterName,
            (Place::AfterName, b':') => {
                self.count = self.count.saturating_add(1);
                Place::Rest { empty: false }
            }
            (Place::Name(_) | Place::AfterName | Place::Rest { .. }, _) => Place::Rest { empty: false },
        }
    }

    /// Received fields so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// True once the header is over: the count is final.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.place == Place::Body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] =
        b"Received: from a\r\n\tby b; x\r\nRECEIVED : from c\r\nX-Received: no\r\nReceived-SPF: no\r\n \
        received: folded\r\nreceived:\r\nSubject: received:\r\n\r\nReceived: in the body\r\n";

    #[test]
    fn only_received_fields_of_the_header_count_however_the_content_is_cut() {
        for size in 1..MESSAGE.len() {
            let mut hops = HopCount::default();
            for piece in MESSAGE.chunks(size) {
                hops.look(piece);
            }
            assert_eq!((hops.count(), hops.is_final()), (3, true), "pieces of {size}");
        }
    }

    #[test]
    fn a_message_without_a_header_has_no_hops() {
        let mut hops = HopCount::default();
        hops.look(b"\r\nReceived: x\r\n");
        assert_eq!((hops.count(), hops.is_final()), (0, true));
    }
}
