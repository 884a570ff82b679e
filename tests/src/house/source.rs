//! A source file as the rules see it: the same bytes, with what is no code blanked, so that places stay true.

/// One file of Rust.
#[derive(Debug, Clone)]
pub struct Source {
    /// From the root of the tree.
    pub path: String,
    /// As it is.
    pub text: String,
    /// Comments and literals are blanks.
    pub code: String,
    /// Comments are blanks, literals stay.
    pub spoken: String,
    /// The whole file is a test.
    pub test: bool,
}

impl Source {
    /// Scans `text`.
    #[must_use]
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let (code, spoken) = blanked(&text);
        // A folder or file called `tests` holds tests: of a package, or of a module.
        let is_test =
            path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "testing.rs"))
                && !path.starts_with("tests/src/");
        Self { path, text, code, spoken, test: is_test }
    }

    /// The code that goes into the product: nothing under `#[cfg(test)]`. The second is the same with literals.
    #[must_use]
    pub fn product(&self) -> (String, String) {
        if self.test {
            return (String::new(), String::new());
        }
        let (mut code, mut spoken) = (self.code.clone().into_bytes(), self.spoken.clone().into_bytes());
        let mut from = 0;
        while let Some(found) = self.code.get(from..).and_then(|rest| rest.find("#[cfg(test)]")) {
            let start = from + found;
            let end = item_end(self.code.as_bytes(), start);
            blank(&mut code, start, end);
            blank(&mut spoken, start, end);
            from = end;
        }
        (String::from_utf8_lossy(&code).into_owned(), String::from_utf8_lossy(&spoken).into_owned())
    }
}

/// The number of the line, from 1, on which byte `at` lies.
#[must_use]
pub fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// Past the item that starts at `start`: past its `;`, or past the brace that closes its first one.
#[must_use]
pub fn item_end(code: &[u8], start: usize) -> usize {
    let (mut round, mut depth) = (0_i32, 0_i32);
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth <= 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 && round == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

fn blank(bytes: &mut [u8], start: usize, end: usize) {
    for byte in bytes.iter_mut().take(end).skip(start) {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// What a stretch of text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stretch {
    Code,
    Comment,
    Literal,
}

fn blanked(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let (mut code, mut spoken) = (bytes.to_vec(), bytes.to_vec());
    let mut at = 0;
    while at < bytes.len() {
        let (stretch, end) = stretch(bytes, at);
        if stretch != Stretch::Code {
            blank(&mut code, at, end);
        }
        if stretch == Stretch::Comment {
            blank(&mut spoken, at, end);
        }
        at = end.max(at + 1);
    }
    (String::from_utf8_lossy(&code).into_owned(), String::from_utf8_lossy(&spoken).into_owned())
}

/// The stretch that begins at `at`, and its end.
fn stretch(bytes: &[u8], at: usize) -> (Stretch, usize) {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.starts_with(b"//") {
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        return (Stretch::Comment, at + length);
    }
    if rest.starts_with(b"/*") {
        return (Stretch::Comment, at + block_comment(rest));
    }
    if let Some(length) = raw_string(rest).filter(|_| !inside_word(bytes, at)) {
        return (Stretch::Literal, at + length);
    }
    match rest.first() {
        Some(b'"') => (Stretch::Literal, at + quoted(rest, b'"')),
        Some(b'\'') if is_character(rest) => (Stretch::Literal, at + quoted(rest, b'\'')),
        _ => (Stretch::Code, at + 1),
    }
}

fn inside_word(bytes: &[u8], at: usize) -> bool {
    at.checked_sub(1)
        .and_then(|before| bytes.get(before))
        .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0_usize);
    while at < rest.len() {
        let here = rest.get(at..).unwrap_or_default();
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a raw string (`r"…"`, `br##"…"##`) that begins here.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let lead = match rest {
        [b'b', b'r', ..] => 2,
        [b'r', ..] => 1,
        _ => return None,
    };
    let hashes = rest.iter().skip(lead).take_while(|byte| **byte == b'#').count();
    if rest.get(lead + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = lead + hashes + 1;
    let length = rest.get(body..)?.windows(close.len()).position(|window| window == close);
    Some(length.map_or(rest.len(), |length| body + length + close.len()))
}

fn quoted(rest: &[u8], mark: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        if *byte == b'\\' {
            at += 1;
        } else if *byte == mark {
            return at + 1;
        }
        at += 1;
    }
    rest.len()
}

/// A character, and no lifetime: `'\n'`, `'x'`, `'é'`.
fn is_character(rest: &[u8]) -> bool {
    match rest {
        [_, b'\\', ..] | [_, _, b'\'', ..] => true,
        [_, first, tail @ ..] if *first >= 0x80 => tail.iter().take(4).any(|byte| *byte == b'\''),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code_and_places_stay() {
        let text = "a // b\n/* c /* d */ e */ f \"g\\\" h\" r#\"i \" j\"# 'k' '\\'' &'l m b\"n\" for_r\"o\"";
        let source = Source::new("x.rs", text);
        let words: Vec<_> = source.code.split_whitespace().collect();
        assert_eq!(words, ["a", "f", "&'l", "m", "b", "for_r"]);
        assert_eq!(source.code.len(), text.len());
        assert!(source.spoken.contains("\"g\\\" h\"") && !source.spoken.contains(" b\n"));
        assert_eq!(line_of(text, text.find('f').unwrap()), 2);
    }

    #[test]
    fn what_is_under_cfg_test_is_not_of_the_product() {
        let source = Source::new(
            "x.rs",
            "a();\n#[cfg(test)]\nmod tests { b(\"}\"); { c() } }\nd();\n#[cfg(test)]\nmod more;\ne();",
        );
        let (code, spoken) = source.product();
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a();", "d();", "e();"]);
        assert_eq!(code.len(), spoken.len());
        assert!(Source::new("crates/a/src/b/tests.rs", "x").test);
        assert!(!Source::new("crates/a/src/b.rs", "x").test);
    }
}
