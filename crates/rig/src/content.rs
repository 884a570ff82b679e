//! What a probe says: a head with its tag, and a body that follows from seed and number alone. Two runs with one seed send
//! the same bytes, and the checksum of each message is known before it is sent.
//!
//! The text is ASCII in CRLF lines of at most 78 bytes. Some lines begin with dots and some are a lone dot, so that every
//! hop's dot handling is under test all the time.

use crate::record::{PROBE_FIELD, ProbeTag};

/// Lines in the common stock. Prime, so that strides do not repeat early.
const STOCK_LINES: usize = 1021;
/// Bytes of a full line without its CRLF.
const LINE_BYTES: usize = 76;

/// Makes messages.
#[derive(Debug)]
pub struct Content {
    run: String,
    from: String,
    seed: u64,
    size_bytes: usize,
    stock: Vec<Vec<u8>>,
}

/// One message, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Dot-stuffed, with the final dot.
    pub(crate) wire: Vec<u8>,
    /// Before stuffing.
    pub(crate) size_bytes: u64,
    /// Before stuffing.
    pub(crate) checksum: u32,
}

impl Content {
    /// Messages of `run` from `from`, each `size_bytes` long, or one byte less where no whole line fits; longer only if the
    /// head alone is longer.
    #[must_use]
    pub fn new(run: &str, from: &str, seed: u64, size_bytes: usize) -> Self {
        let mut state = mix(seed);
        let stock = (0..STOCK_LINES).map(|_| line(&mut state)).collect();
        Self { run: run.to_owned(), from: from.to_owned(), seed, size_bytes, stock }
    }

    /// The message with this number, as it is before dot-stuffing.
    #[must_use]
    pub fn plain(&self, number: u64) -> Vec<u8> {
        let mut plain = self.head(number).into_bytes();
        for text in self.body(number, plain.len()) {
            plain.extend_from_slice(text);
            plain.extend_from_slice(b"\r\n");
        }
        plain
    }

    pub(crate) fn message(&self, number: u64) -> Message {
        let head = self.head(number);
        let mut wire = Vec::with_capacity(self.size_bytes + self.size_bytes / 32 + 16);
        wire.extend_from_slice(head.as_bytes());
        let mut size_bytes = wire.len();
        let mut checksum = crc32c::crc32c(&wire);
        let mut stuffed = Vec::with_capacity(LINE_BYTES + 3);
        for text in self.body(number, head.len()) {
            stuffed.clear();
            stuffed.extend_from_slice(b".");
            stuffed.extend_from_slice(text);
            stuffed.extend_from_slice(b"\r\n");
            let (_, plain) = stuffed.split_at(1);
            size_bytes += plain.len();
            checksum = crc32c::crc32c_append(checksum, plain);
            wire.extend_from_slice(if text.starts_with(b".") { &stuffed } else { plain });
        }
        wire.extend_from_slice(b".\r\n");
        Message { wire, size_bytes: size_bytes as u64, checksum }
    }

    fn head(&self, number: u64) -> String {
        let tag = ProbeTag { run: self.run.clone(), number };
        format!(
            "From: <{from}>\r\nTo: undisclosed-recipients:;\r\nSubject: probe {tag}\r\n\
             Message-ID: <{tag}@probe.invalid>\r\n{PROBE_FIELD}: {tag}\r\n\r\n",
            from = self.from
        )
    }

    /// The lines that fill a message whose head has `head_bytes` up to its size.
    fn body(&self, number: u64, head_bytes: usize) -> impl Iterator<Item = &[u8]> {
        let start = mix(self.seed ^ mix(number)) % STOCK_LINES as u64;
        let start = usize::try_from(start).unwrap_or(0);
        let mut left = self.size_bytes.saturating_sub(head_bytes);
        self.stock.iter().cycle().skip(start).map_while(move |text| {
            // The last line takes what is left; two bytes of it are the line's end.
            let room = left.checked_sub(2)?;
            let taken = room.min(text.len());
            left -= taken + 2;
            text.get(..taken)
        })
    }
}

fn line(state: &mut u64) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .";
    let mut next = || {
        *state = mix(*state);
        *state
    };
    let mut text: Vec<u8> = match next() % 16 {
        0 => return b".".to_vec(),
        1 => b"..".to_vec(),
        2 => b".".to_vec(),
        _ => Vec::new(),
    };
    while text.len() < LINE_BYTES {
        let bits = next();
        let letters = (0..10).filter_map(|n| LETTERS.get(usize::try_from((bits >> (6 * n)) & 63).ok()?));
        text.extend(letters.take(LINE_BYTES - text.len()));
    }
    text
}

/// `SplitMix64`'s step: every input gives another output.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_follows_from_seed_and_number_alone() {
        let one = Content::new("r", "a@b", 7, 4096);
        let same = Content::new("r", "a@b", 7, 4096);
        assert_eq!(one.message(3), same.message(3));
        assert_ne!(one.plain(3), one.plain(4));
        assert_ne!(one.plain(3), Content::new("r", "a@b", 8, 4096).plain(3));
    }

    #[test]
    fn size_and_checksum_are_those_of_the_plain_bytes() {
        let content = Content::new("r", "a@b", 7, 4096);
        for number in 1..200 {
            let plain = content.plain(number);
            let message = content.message(number);
            assert_eq!((message.size_bytes, message.checksum), (plain.len() as u64, crc32c::crc32c(&plain)));
            assert!((4095..=4096).contains(&plain.len()), "message {number} has {} bytes", plain.len());
        }
    }

    #[test]
    fn the_wire_form_is_stuffed_and_ends_once() {
        let content = Content::new("r", "a@b", 7, 20_000);
        let message = content.message(1);
        let text = String::from_utf8(message.wire).unwrap();
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.iter().filter(|line| **line == ".").count(), 1);
        assert_eq!(lines.last(), Some(&"."));
        assert!(
            lines.iter().any(|line| line.starts_with("...")),
            "dots at the start of lines are under test"
        );
        let unstuffed: Vec<&str> =
            lines.iter().take(lines.len() - 1).map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
        assert_eq!(unstuffed.join("\r\n") + "\r\n", String::from_utf8(content.plain(1)).unwrap());
    }
}
