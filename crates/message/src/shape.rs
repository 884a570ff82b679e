//! How a message is built, measured while its content streams by: how many fields its header has and how long it is, and how deep
//! its parts nest (RFC 2046 5.1, 5.2.1). Programs that take messages apart have been brought down by all three.
//!
//! Pieces may be cut anywhere. What is kept of a message is bounded: the beginning of a line, a Content-Type field, and a boundary for
//! each level.

/// What is kept of a line, and of a Content-Type field. RFC 5322 2.1.1: a line has at most 998 octets.
const LINE_MAX: usize = 1_000;
const FIELD_MAX: usize = 4_000;
/// RFC 2046 5.1.1 allows 70. Longer ones begin no part.
const BOUNDARY_MAX: usize = 200;

/// How much of each is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapeLimits {
    /// Bytes of the header.
    pub header_size: u64,
    /// Fields of the header.
    pub header_fields: u32,
    /// Levels of parts within parts, attached messages included.
    pub mime_depth: u32,
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// Bytes of the header.
    HeaderSize,
    /// Fields of the header.
    HeaderFields,
    /// Levels of parts.
    MimeDepth,
}

/// A part that contains others.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    /// Ends at its own boundary, or one further out.
    Multipart(Vec<u8>),
    /// A message; ends with the part that it is.
    Message,
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The header of the message itself.
    Header,
    /// That of a part.
    PartHeader,
    /// A body that may have parts.
    Body,
    /// Nothing more is looked at.
    Over,
}

/// Measures one message.
#[derive(Debug, Clone)]
pub struct Shape {
    limits: ShapeLimits,
    size: u64,
    fields: u32,
    place: Place,
    levels: Vec<Level>,
    /// The beginning of the line that is read.
    line: Vec<u8>,
    /// The Content-Type field that is read.
    kind: Vec<u8>,
    in_kind: bool,
}

impl Shape {
    /// For a message that has not begun.
    #[must_use]
    pub fn new(limits: ShapeLimits) -> Self {
        Self {
            limits,
            size: 0,
            fields: 0,
            place: Place::Header,
            levels: Vec::new(),
            line: Vec::new(),
            kind: Vec::new(),
            in_kind: false,
        }
    }

    /// Looks at the next piece. Says what there is too much of, once.
    pub fn look(&mut self, piece: &[u8]) -> Option<Excess> {
        let mut rest = piece;
        while !rest.is_empty() && self.place != Place::Over {
            let end = memchr::memchr(b'\n', rest);
            let (line, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            rest = after;
            let room = LINE_MAX.saturating_sub(self.line.len());
            self.line.extend(line.iter().take(room));
            if self.place == Place::Header {
                self.size += line.len() as u64;
            }
            let excess = if end.is_some() { self.end_line() } else { None };
            let excess = excess.or_else(|| {
                (self.place == Place::Header && self.size > self.limits.header_size)
                    .then_some(Excess::HeaderSize)
            });
            if excess.is_some() {
                self.place = Place::Over;
                return excess;
            }
        }
        None
    }

    fn end_line(&mut self) -> Option<Excess> {
        let line = std::mem::take(&mut self.line);
        let text = line.trim_ascii_end();
        if text.starts_with(b"--") && self.meets_boundary(text) {
            return None;
        }
        if !matches!(self.place, Place::Header | Place::PartHeader) {
            return None;
        }
        if text.is_empty() && !matches!(line.first(), Some(b' ' | b'\t')) {
            return self.end_header();
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            if self.in_kind && self.kind.len() < FIELD_MAX {
                self.kind.extend_from_slice(text);
            }
            return None;
        }
        if self.place == Place::Header {
            self.fields += 1;
            if self.fields > self.limits.header_fields {
                return Some(Excess::HeaderFields);
            }
        }
        let name = text.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii_end();
        // The first one counts, as for most readers.
        self.in_kind = name.eq_ignore_ascii_case(b"content-type") && self.kind.is_empty();
        if self.in_kind {
            self.kind.extend_from_slice(text);
        }
        None
    }

    /// True if the line is a boundary of a part that is open.
    fn meets_boundary(&mut self, line: &[u8]) -> bool {
        let Some(name) = line.strip_prefix(b"--") else { return false };
        let found = self.levels.iter().rposition(|level| match level {
            Level::Multipart(boundary) => {
                name.strip_prefix(boundary.as_slice()).is_some_and(|rest| matches!(rest, b"" | b"--"))
            }
            Level::Message => false,
        });
        let Some(place) = found else { return false };
        let ends =
            matches!(self.levels.get(place), Some(Level::Multipart(boundary)) if name.len() > boundary.len());
        self.levels.truncate(if ends { place } else { place + 1 });
        self.place = if ends { Place::Body } else { Place::PartHeader };
        self.kind.clear();
        self.in_kind = false;
        true
    }

    fn end_header(&mut self) -> Option<Excess> {
        self.in_kind = false;
        let level = level(&std::mem::take(&mut self.kind));
        self.place = match level {
            // It begins with its header at once.
            Some(Level::Message) => Place::PartHeader,
            None if self.levels.is_empty() => Place::Over,
            Some(Level::Multipart(_)) | None => Place::Body,
        };
        self.levels.extend(level);
        let depth = u32::try_from(self.levels.len()).unwrap_or(u32::MAX);
        (depth > self.limits.mime_depth).then_some(Excess::MimeDepth)
    }
}

/// What a Content-Type field opens.
fn level(field: &[u8]) -> Option<Level> {
    let colon = field.iter().position(|byte| *byte == b':')?;
    let mut words = words(field.get(colon + 1..)?).into_iter();
    let kind = words.next()?.to_ascii_lowercase();
    if kind == b"message/rfc822" || kind == b"message/global" {
        return Some(Level::Message);
    }
    if !kind.starts_with(b"multipart/") {
        return None;
    }
    let boundary = words.find_map(|word| {
        let equals = word.iter().position(|byte| *byte == b'=')?;
        let (name, value) = word.split_at(equals);
        name.trim_ascii()
            .eq_ignore_ascii_case(b"boundary")
            .then(|| unquoted(value.get(1..).unwrap_or_default()))
    })?;
    (!boundary.is_empty() && boundary.len() <= BOUNDARY_MAX).then_some(Level::Multipart(boundary))
}

/// Split at semicolons that are in no quotes.
fn words(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = vec![Vec::new()];
    let (mut quoted, mut escaped) = (false, false);
    for byte in text {
        if *byte == b';' && !quoted {
            words.push(Vec::new());
            continue;
        }
        if *byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = *byte == b'\\' && quoted && !escaped;
        if let Some(word) = words.last_mut() {
            word.push(*byte);
        }
    }
    words.iter().map(|word| word.trim_ascii().to_vec()).collect()
}

fn unquoted(value: &[u8]) -> Vec<u8> {
    let value = value.trim_ascii();
    let Some(inner) = value.strip_prefix(b"\"") else {
        // A comment may follow.
        return value.iter().copied().take_while(|byte| !matches!(byte, b' ' | b'\t' | b'(')).collect();
    };
    let mut text = Vec::new();
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => text.extend(bytes.next()),
            other => text.push(*other),
        }
    }
    // RFC 2046 5.1.1: a boundary ends with no blank.
    text.trim_ascii_end().to_vec()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const LIMITS: ShapeLimits = ShapeLimits { header_size: 200, header_fields: 4, mime_depth: 3 };

    fn looked(message: &str) -> Option<Excess> {
        let whole = Shape::new(LIMITS).look(message.as_bytes());
        for piece in [1, 2, 3, 7, 64] {
            let mut shape = Shape::new(LIMITS);
            let found = message.as_bytes().chunks(piece).find_map(|piece| shape.look(piece));
            assert_eq!(found, whole, "in pieces of {piece}: {message}");
        }
        whole
    }

    /// So many multiparts within each other.
    fn nested(depth: usize) -> String {
        let mut text = String::from("Content-Type: multipart/mixed; boundary=b0\r\n\r\n");
        for level in 1..depth {
            write!(
                text,
                "--b{}\r\nContent-Type: multipart/mixed;\r\n boundary=\"b{level}\"\r\n\r\n",
                level - 1
            )
            .unwrap();
        }
        text
    }

    #[test]
    fn a_header_has_so_many_bytes_and_fields_and_no_more() {
        let fields = |count: usize| "A: b\r\n".repeat(count);
        assert_eq!(looked(&format!("{}\r\n{}", fields(4), fields(100))), None);
        assert_eq!(looked(&format!("{}\r\n", fields(5))), Some(Excess::HeaderFields));
        assert_eq!(looked(&format!("A: {}\r\n\r\n{}", "x".repeat(190), "y".repeat(500))), None);
        assert_eq!(looked(&format!("A: {}\r\n\r\n", "x".repeat(200))), Some(Excess::HeaderSize));
        // Folded lines are one field; so are those of a header that never ends.
        assert_eq!(looked(&format!("A: b\r\n{}", " c\r\n".repeat(20))), None);
        assert_eq!(looked(&"x".repeat(201)), Some(Excess::HeaderSize));
    }

    #[test]
    fn parts_nest_so_deep_and_no_deeper() {
        assert_eq!(looked(&nested(3)), None);
        assert_eq!(looked(&nested(4)), Some(Excess::MimeDepth));
        let message = "Content-Type: message/rfc822\r\n\r\n";
        assert_eq!(looked(&message.repeat(3)), None);
        assert_eq!(looked(&message.repeat(4)), Some(Excess::MimeDepth));
        // Beside each other is not within each other, attached messages too.
        let beside = "--b0\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\nx\r\n--in--\r\n\
                      --b0\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\nx\r\n";
        assert_eq!(looked(&format!("{}{}--b0--\r\n", nested(1), beside.repeat(10))), None);
    }

    #[test]
    fn boundaries_are_read_as_readers_of_mail_do() {
        for parameter in [
            "boundary=in",
            "BOUNDARY = \"in\"",
            "charset=\"a;b\\\"\"; boundary=in (comment)",
            "boundary=\"i\\n\"",
            "boundary=\"in \"",
        ] {
            let text = format!("content-type : Multipart/x; {parameter}\r\n\r\n--in\r\n{}", nested(3));
            assert_eq!(looked(&text), Some(Excess::MimeDepth), "{parameter}");
        }
        for parameter in ["", "boundary=", "boundary=other", "xboundary=in"] {
            let text = format!("Content-Type: multipart/x; {parameter}\r\n\r\n--in\r\n{}", nested(3));
            assert_eq!(looked(&text), None, "{parameter}");
        }
    }
}
