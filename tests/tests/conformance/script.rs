//! The dialogue files: what is said, and what must come back. See `tests/conformance/README.md`.

use std::path::Path;

/// One dialogue.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) rule: String,
    /// How it begins.
    pub(crate) start: Start,
    /// Why Postfix answers otherwise, if it does.
    pub(crate) difference: Option<String>,
    pub(crate) steps: Vec<Step>,
}

/// What comes before a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing but the greeting.
    Bare,
    /// EHLO.
    Hello,
    /// EHLO, at the listener for submission.
    SubmissionInClear,
    /// The same, then STARTTLS and EHLO under TLS.
    Submission,
}

impl Start {
    const MARKS: [(&str, Self); 3] = [
        (", bare", Self::Bare),
        (", submission in clear", Self::SubmissionInClear),
        (", submission", Self::Submission),
    ];
}

#[derive(Debug)]
pub(crate) enum Step {
    Send(Vec<u8>),
    Reply(Wanted),
    /// Send and await a reply so many times.
    Repeat(usize, Vec<u8>, Wanted),
    Has(String),
    HasNot(String),
    HandShake,
    Closed,
    Leave,
    /// A report with this action comes to the sender.
    Told(String),
    /// None does.
    Untold,
    /// It is about so many recipients.
    Groups(usize),
    /// What it returns is of this kind.
    Returned(String),
    /// A line of a part of it begins so; or none does.
    Line(Part, String),
    NoLine(Part, String),
}

/// A part of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The header of the report as a message.
    Header,
    /// The fields about the message.
    Message,
    /// The fields about a recipient, whichever.
    Recipient,
    /// What is returned.
    Returned,
}

/// A reply that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    codes: String,
    status: Option<String>,
}

impl Wanted {
    pub(crate) fn from(text: &str) -> Self {
        let (codes, status) = text.split_once(' ').unwrap_or((text, ""));
        let status = Some(status.trim()).filter(|status| !status.is_empty());
        Self { codes: codes.to_owned(), status: status.map(str::to_owned) }
    }

    pub(crate) fn fits(&self, code: u16, text: &str) -> bool {
        let code = code.to_string();
        let fits =
            |wanted: &str| wanted == code || (wanted.ends_with("xx") && wanted.get(..1) == code.get(..1));
        self.codes.split('|').any(fits)
            && self.status.as_ref().is_none_or(|status| text.starts_with(&**status))
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.codes, self.status.as_deref().unwrap_or_default())
    }
}

/// Every case of every file of a folder.
pub(crate) fn read(folder: &Path) -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files.iter().flat_map(|path| parse(&std::fs::read_to_string(path).unwrap())).collect()
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(title) = line.strip_prefix("== ") {
            let marked = Start::MARKS
                .iter()
                .find_map(|(mark, start)| title.strip_suffix(mark).map(|name| (name, *start)));
            let (name, start) = marked.unwrap_or((title, Start::Hello));
            let (name, rule) = (name.to_owned(), String::new());
            cases.push(Case { name, rule, start, difference: None, steps: Vec::new() });
            continue;
        }
        let case = cases.last_mut().expect("a case begins with ==");
        let rest = line.get(3..).unwrap_or_default();
        let step = match line.get(..2).unwrap_or_default() {
            "RF" => {
                line.clone_into(&mut case.rule);
                continue;
            }
            "~ " => {
                case.difference = line.strip_prefix("~ ").map(str::to_owned);
                continue;
            }
            "C:" => Step::Send([unescape(rest), b"\r\n".to_vec()].concat()),
            "C>" => Step::Send(unescape(rest)),
            "L:" => {
                let (count, text) = rest.split_once(' ').unwrap();
                Step::Send(format!("{text}\r\n").repeat(count.parse().unwrap()).into_bytes())
            }
            "S:" => Step::Reply(Wanted::from(rest)),
            "R:" => {
                let (count, rest) = rest.split_once(' ').unwrap();
                let (command, wanted) = rest.rsplit_once(' ').unwrap();
                let command = format!("{command}\r\n").into_bytes();
                Step::Repeat(count.parse().unwrap(), command, Wanted::from(wanted))
            }
            "E:" => Step::Has(rest.to_owned()),
            "E!" => Step::HasNot(rest.to_owned()),
            "T:" => Step::HandShake,
            "Z:" => Step::Closed,
            "Q:" => Step::Leave,
            "A:" => Step::Told(rest.to_owned()),
            "A!" => Step::Untold,
            "N:" => Step::Groups(rest.parse().unwrap()),
            "P:" => Step::Returned(rest.to_owned()),
            "M:" => Step::Line(Part::Header, rest.to_owned()),
            "D:" => Step::Line(Part::Message, rest.to_owned()),
            "D!" => Step::NoLine(Part::Message, rest.to_owned()),
            "F:" => Step::Line(Part::Recipient, rest.to_owned()),
            "F!" => Step::NoLine(Part::Recipient, rest.to_owned()),
            "O:" => Step::Line(Part::Returned, String::from_utf8(unescape(rest)).unwrap()),
            "O!" => Step::NoLine(Part::Returned, rest.to_owned()),
            other => panic!("no mark {other:?} in {}", case.name),
        };
        case.steps.push(step);
    }
    cases
}

/// `\xNN`, `\r`, `\n`, `\0`, `\\`, and `\*N` for N times the character behind it.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let [mark, after @ ..] = rest else { panic!("a backslash at the end of {text:?}") };
        rest = after;
        match mark {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b'0' => bytes.push(0),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                let (digits, after) = rest.split_at(2);
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
                rest = after;
            }
            b'*' => {
                let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap();
                let (digits, after) = rest.split_at(end);
                let count = std::str::from_utf8(digits).unwrap().parse().unwrap();
                bytes.extend(std::iter::repeat_n(after[0], count));
                rest = &after[1..];
            }
            other => panic!("no escape {other} in {text:?}"),
        }
    }
    bytes
}
