//! Takes out of a message, as it arrives, those Authentication-Results fields that claim to be ours. RFC 8601 5: whoever adds such
//! a field must first remove what others forged in his name.

/// A field that is held back until its end is known is never longer; one of ours that is longer is dropped as it comes.
const FIELD_MAX: usize = 64 << 10;
const NAME: &[u8] = b"authentication-results";

/// What is done with the field at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It is held back.
    Hold,
    /// It is no such field: it goes through.
    Pass,
    /// It is too long, and of that name: it is dropped.
    Drop,
    /// The header is over.
    Body,
}

/// The filter.
#[derive(Debug)]
pub struct ResultsFilter {
    id: Vec<u8>,
    mode: Mode,
    held: Vec<u8>,
    /// The last byte was the end of a line.
    at_line_start: bool,
    removed: usize,
}

impl ResultsFilter {
    /// For a host that calls itself `id`.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_ascii_lowercase().into_bytes(),
            mode: Mode::Hold,
            held: Vec::new(),
            at_line_start: true,
            removed: 0,
        }
    }

    /// Fields that were taken out.
    #[must_use]
    pub fn removed(&self) -> usize {
        self.removed
    }

    /// Takes the next bytes and puts what stays to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            if self.mode == Mode::Body {
                out.extend_from_slice(rest);
                return;
            }
            rest = after;
            self.byte(*byte, out);
        }
    }

    /// Puts what is still held back to `out`: the message ended within its header.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.end_field(out);
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.at_line_start && !matches!(byte, b' ' | b'\t') {
            self.end_field(out);
            if matches!(byte, b'\r' | b'\n') {
                self.mode = Mode::Body;
                out.push(byte);
                return;
            }
            self.mode = Mode::Hold;
        }
        self.at_line_start = byte == b'\n';
        match self.mode {
            Mode::Drop => {}
            Mode::Pass | Mode::Body => out.push(byte),
            Mode::Hold => {
                self.held.push(byte);
                if !may_be_named(&self.held) {
                    self.mode = Mode::Pass;
                    out.append(&mut self.held);
                } else if self.held.len() > FIELD_MAX {
                    self.mode = Mode::Drop;
                    self.held.clear();
                    self.removed += 1;
                }
            }
        }
    }

    fn end_field(&mut self, out: &mut Vec<u8>) {
        if claims(&self.held, &self.id) {
            self.removed += 1;
            self.held.clear();
        } else {
            out.append(&mut self.held);
        }
    }
}

/// True while `field` is the beginning of one of that name. RFC 5322 4.5.3 allows blanks before the colon.
fn may_be_named(field: &[u8]) -> bool {
    let (name, rest) = field.split_at(field.len().min(NAME.len()));
    let begins = NAME.get(..name.len()).is_some_and(|wanted| name.eq_ignore_ascii_case(wanted));
    begins && rest.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|byte| *byte == b':')
}

/// True if a whole field names `id` as who made it: the first word behind the colon, comments aside. RFC 8601 2.2.
fn claims(field: &[u8], id: &[u8]) -> bool {
    if field.len() <= NAME.len() || !may_be_named(field) {
        return false;
    }
    let Some(colon) = field.iter().position(|byte| *byte == b':') else { return false };
    let mut value = field.iter().copied().skip(colon + 1).peekable();
    let mut depth = 0_usize;
    while let Some(byte) = value.peek() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'\\' if depth > 0 => drop(value.next()),
            byte if depth > 0 || byte.is_ascii_whitespace() => {}
            _ => break,
        }
        value.next();
    }
    let quoted = value.next_if_eq(&b'"').is_some();
    let ends = |byte: &u8| {
        if quoted { *byte == b'"' } else { byte.is_ascii_whitespace() || matches!(byte, b';' | b'(') }
    };
    let word: Vec<u8> = value.take_while(|byte| !ends(byte)).filter(|byte| *byte != b'\\').collect();
    word.eq_ignore_ascii_case(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(message: &str, piece: usize) -> String {
        let mut filter = ResultsFilter::new("MX.test");
        let mut out = Vec::new();
        for piece in message.as_bytes().chunks(piece) {
            filter.push(piece, &mut out);
        }
        filter.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_forged_in_our_name_goes_and_everything_else_stays_however_it_arrives() {
        let ours = [
            "Authentication-Results: mx.test; spf=pass\r\n",
            "authentication-RESULTS:\r\n (comment (nested) \\) ) MX.TEST 1;\r\n\tdkim=pass\r\n",
            "Authentication-Results : \"mx.test\"; none\r\n",
            "Authentication-Results: mx.test\r\n",
        ];
        let others = "From: a\r\nAuthentication-Results: other.test; mx.test\r\n\
                      Authentication-Results-Original: mx.test; spf=pass\r\nAuth: mx.test\r\n\
                      Authentication-Results: notmx.test; spf=pass\r\n";
        let body = "\r\nAuthentication-Results: mx.test; in the body\r\n";
        for piece in [1, 2, 7, 1_000] {
            for ours in ours {
                assert_eq!(
                    filtered(&format!("{ours}{others}{ours}{body}"), piece),
                    format!("{others}{body}")
                );
                assert_eq!(filtered(ours, piece), "", "a message that ends within its header");
            }
            assert_eq!(filtered("", piece), "");
            assert_eq!(filtered("Authentication-Res", piece), "Authentication-Res");
        }
    }

    #[test]
    fn a_field_too_long_to_be_judged_goes_too_and_what_follows_stays() {
        let long = format!("Authentication-Results: ({}) mx.test; x\r\n", "a".repeat(FIELD_MAX));
        assert_eq!(filtered(&format!("A: b\r\n{long}C: d\r\n\r\nx"), 999), "A: b\r\nC: d\r\n\r\nx");
    }
}
