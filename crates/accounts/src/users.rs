//! The users file as text: a line for each user.
//!
//! ```text
//! # comment
//! alice@example.test argon2=$argon2id$… scram=SCRAM-SHA-256$…
//! scanner argon2=$argon2id$… senders=scanner@example.test,@printers.example.test
//! ```
//!
//! A name, then fields in any order. Without `senders` a user whose name is an address may send as that address. What is not
//! understood is a fault, with its line; comments and order outlive every edit.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::account::{Account, SenderPattern};
use crate::verifier::Verifiers;

/// Why there are no users. Shown as `file:line: what is wrong, what to do`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersFault {
    /// The file.
    pub file: PathBuf,
    /// From 1; none for a fault of the whole file.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Display for UsersFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.what)
    }
}

impl std::error::Error for UsersFault {}

/// A user of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// In lower case.
    pub name: Box<str>,
    /// What is kept of the password; at least one.
    pub verifiers: Verifiers,
    /// As they are written; empty for the user's own address.
    pub senders: Vec<SenderPattern>,
}

impl User {
    /// The user without its secrets.
    #[must_use]
    pub fn account(&self) -> Account {
        let own = || self.name.parse().into_iter().collect();
        let senders = if self.senders.is_empty() { own() } else { self.senders.clone() };
        Account { name: self.name.clone(), senders }
    }

    fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_ascii_whitespace();
        let name = user_name(words.next().unwrap_or_default())?;
        let (mut argon2, mut scram, mut senders) = (None, None, None);
        for word in words {
            let (key, value) =
                word.split_once('=').ok_or("a field is KEY=VALUE; known are argon2, scram and senders")?;
            let place = match key {
                "argon2" => &mut argon2,
                "scram" => &mut scram,
                "senders" => &mut senders,
                other => {
                    return Err(format!("unknown field '{other}'; known are argon2, scram and senders"));
                }
            };
            if place.replace(value).is_some() {
                return Err(format!("field '{key}' stands twice; keep one"));
            }
        }
        let verifiers = Verifiers::read(argon2, scram)
            .map_err(|error| format!("{error}; run 'switchctl user passwd {name}'"))?;
        if verifiers.is_empty() {
            return Err(format!("user '{name}' has no password; run 'switchctl user passwd {name}'"));
        }
        let senders = senders.map(|list| list.split(',').map(|text| text.parse().map_err(shown)).collect());
        Ok(Self { name, verifiers, senders: senders.transpose()?.unwrap_or_default() })
    }
}

fn shown(error: impl fmt::Display) -> String {
    error.to_string()
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(hash) = self.verifiers.argon2() {
            write!(f, " argon2={hash}")?;
        }
        if let Some(keys) = self.verifiers.scram() {
            write!(f, " scram={keys}")?;
        }
        for (index, sender) in self.senders.iter().enumerate() {
            write!(f, "{}{sender}", if index == 0 { " senders=" } else { "," })?;
        }
        Ok(())
    }
}

/// The name of a user as it is kept: in lower case, since nobody thinks of `Alice` and `alice` as two.
pub fn user_name(text: &str) -> Result<Box<str>, String> {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '\0';
    let long = text.len() > 255;
    if text.is_empty() || long || text.starts_with('#') || text.contains('=') || !text.chars().all(allowed) {
        return Err(format!(
            "'{}' is no user name; write up to 255 characters without spaces and '=', not beginning with '#'",
            text.escape_debug()
        ));
    }
    Ok(text.to_lowercase().into_boxed_str())
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    User(User),
    /// A comment or nothing.
    Other(String),
}

/// All users.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Users(Vec<Line>);

impl Users {
    /// Understands the text of `file`, or says every fault.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Vec<UsersFault>> {
        let mut users = Self::default();
        let mut faults = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                users.0.push(Line::Other(line.to_owned()));
                continue;
            }
            let what = match User::parse(trimmed) {
                Ok(user) if users.find(&user.name).is_some() => {
                    format!("user '{}' stands twice; remove one", user.name)
                }
                Ok(user) => {
                    users.0.push(Line::User(user));
                    continue;
                }
                Err(what) => what,
            };
            faults.push(UsersFault { file: file.to_owned(), line: Some(index + 1), what });
        }
        if faults.is_empty() { Ok(users) } else { Err(faults) }
    }

    /// Every user, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.0.iter().filter_map(|line| match line {
            Line::User(user) => Some(user),
            Line::Other(_) => None,
        })
    }

    /// The user of this name, in any case.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&User> {
        let name = name.to_lowercase();
        self.iter().find(|user| *user.name == *name)
    }

    /// Puts a user in the place of the one of the same name, or at the end.
    pub fn put(&mut self, user: User) {
        let same = |line: &&mut Line| matches!(line, Line::User(known) if known.name == user.name);
        match self.0.iter_mut().find(same) {
            Some(line) => *line = Line::User(user),
            None => self.0.push(Line::User(user)),
        }
    }

    /// Takes the user of this name out. False if there is none.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        let name = name.to_lowercase();
        self.0.retain(|line| !matches!(line, Line::User(user) if *user.name == *name));
        self.0.len() < before
    }
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.0 {
            match line {
                Line::User(user) => writeln!(f, "{user}")?,
                Line::Other(text) => writeln!(f, "{text}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn parse(text: &str) -> Result<Users, Vec<String>> {
        Users::parse(Path::new("users"), text)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn comments_and_order_outlive_an_edit() {
        let text = format!(
            "# people\nalice@example.test scram={SCRAM}\n\n# things\nscanner scram={SCRAM} senders=@a.test,b@c.test\n"
        );
        let mut users = parse(&text).unwrap();
        assert_eq!(users.to_string(), text);
        let mut scanner = users.find("Scanner").unwrap().clone();
        scanner.senders.truncate(1);
        users.put(scanner);
        let alice = users.find("alice@example.test").unwrap().clone();
        users.put(User { name: "bob".into(), ..alice });
        assert!(users.remove("ALICE@example.test") && !users.remove("alice@example.test"));
        let wanted =
            format!("# people\n\n# things\nscanner scram={SCRAM} senders=@a.test\nbob scram={SCRAM}\n");
        assert_eq!(users.to_string(), wanted);
    }

    #[test]
    fn a_user_whose_name_is_an_address_owns_that_address() {
        let users = parse(&format!("Alice@example.test scram={SCRAM}\nbob scram={SCRAM}\n")).unwrap();
        let senders = |name: &str| users.find(name).unwrap().account().senders;
        assert_eq!(senders("alice@example.test"), ["alice@example.test".parse().unwrap()]);
        assert_eq!(senders("bob"), []);
    }

    #[test]
    fn every_faulty_line_is_told_with_what_to_do() {
        let text = format!(
            "a\nb argon2=plain\nc=d scram={SCRAM}\ne scram={SCRAM} sender=x\nf scram={SCRAM} senders=x\n\
             g scram={SCRAM} scram={SCRAM}\nh scram={SCRAM}\nH scram={SCRAM}\n"
        );
        let told = parse(&text).unwrap_err();
        let wanted = [
            "users:1: user 'a' has no password; run 'switchctl user passwd a'",
            "users:2: argon2 is no hash in PHC form",
            "users:3: 'c=d' is no user name",
            "users:4: unknown field 'sender'; known are",
            "users:5: 'x' is no sender; write",
            "users:6: field 'scram' stands twice",
            "users:8: user 'h' stands twice; remove one",
        ];
        assert_eq!(told.len(), wanted.len(), "{told:#?}");
        for (told, wanted) in told.iter().zip(wanted) {
            assert!(told.starts_with(wanted), "{told} / {wanted}");
        }
    }
}
