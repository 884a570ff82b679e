//! What was found.

use std::fmt::Display;

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ok,
    /// It works, and will not when more goes wrong.
    Warn,
    /// Mail or its protection suffers from it.
    Bad,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) state: State,
    pub(super) found: String,
    pub(super) remedy: Option<String>,
}

/// All of them, in the order in which they were looked at.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn ok(&mut self, check: &'static str, found: impl Display) {
        self.0.push(Finding { check, state: State::Ok, found: found.to_string(), remedy: None });
    }

    pub(super) fn warn(&mut self, check: &'static str, found: impl Display, remedy: impl Display) {
        self.add(check, State::Warn, &found, &remedy);
    }

    pub(super) fn bad(&mut self, check: &'static str, found: impl Display, remedy: impl Display) {
        self.add(check, State::Bad, &found, &remedy);
    }

    /// A finding that is better or worse by a measure.
    pub(super) fn add(
        &mut self,
        check: &'static str,
        state: State,
        found: &dyn Display,
        remedy: &dyn Display,
    ) {
        let remedy = (state != State::Ok).then(|| remedy.to_string());
        self.0.push(Finding { check, state, found: found.to_string(), remedy });
    }

    pub(super) fn all(&self) -> &[Finding] {
        &self.0
    }
}
