//! The text of a table file: a key and a value a line.
//!
//! `#` at the start of a line begins a comment. A line that begins with a space or tab goes on with the one before. A key
//! of the form `/…/` may hold no space (`\\s` stands for one).

/// What is wrong with a line of a table. The text says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {what}")]
pub struct LineFault {
    /// From 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it begins, from 1.
    pub(crate) number: usize,
    pub(crate) key: String,
    /// Empty if there is none.
    pub(crate) value: String,
}

impl Line {
    /// A fault of this line.
    pub(crate) fn fault(&self, what: impl Into<String>) -> LineFault {
        LineFault { line: self.number, what: what.into() }
    }
}

/// The lines of a text.
pub(crate) fn lines(text: &str) -> Result<Vec<Line>, LineFault> {
    let mut whole: Vec<(usize, String)> = Vec::new();
    // A mark that some editors put in front is no part of the text.
    for (number, line) in (1..).zip(text.strip_prefix('\u{feff}').unwrap_or(text).lines()) {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.starts_with([' ', '\t']) {
            whole.push((number, line.to_owned()));
            continue;
        }
        let trimmed = line.trim_start();
        if trimmed.starts_with('#') {
            continue;
        }
        let Some((_, before)) = whole.last_mut() else {
            let what = "the first line cannot go on with another; begin it without a space".to_owned();
            return Err(LineFault { line: number, what });
        };
        before.push(' ');
        before.push_str(trimmed);
    }
    let split = |(number, line): (usize, String)| {
        let (key, value) = line.split_once([' ', '\t']).unwrap_or((&line, ""));
        Line { number, key: key.to_owned(), value: value.trim().to_owned() }
    };
    Ok(whole.into_iter().map(split).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_count_as_lines_and_nothing_else() {
        let text = "# head\n\na@b.test\tc@d.test,\n  # between\n  e@f.test  \n/^x/ y\nalone\r\n";
        let found = lines(text).unwrap();
        let shown: Vec<_> = found.iter().map(|l| (l.number, l.key.as_str(), l.value.as_str())).collect();
        assert_eq!(shown, [(3, "a@b.test", "c@d.test, e@f.test"), (6, "/^x/", "y"), (7, "alone", "")]);
        assert_eq!(lines("  a b\n").unwrap_err().line, 1);
    }
}
