//! How a sink answers: what it offers, and rules that make it refuse, wait or break off.

use std::time::Duration;

/// Where in a session a rule acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// In place of the greeting.
    Connect,
    /// EHLO and HELO.
    Hello,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA, and each BDAT.
    Data,
    /// The end of the message.
    FinalDot,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Goes on as without the rule; for rules that only wait.
    Pass,
    /// Answers so. A refusal at [`Stage::FinalDot`] records no delivery. 421 also closes, and so does a refusal at
    /// [`Stage::Connect`].
    Reply {
        /// 200 to 599.
        code: u16,
        /// What follows the code.
        text: String,
    },
    /// Closes the connection without a reply. Nothing is recorded.
    Drop,
    /// At [`Stage::FinalDot`] records the delivery and closes without a reply, so that the client is in doubt. Elsewhere as
    /// [`Act::Drop`].
    TakeThenDrop,
}

/// One rule. The first that matches decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it acts.
    pub stage: Stage,
    /// At [`Stage::Recipient`], and in LMTP at [`Stage::FinalDot`]: the local parts it acts on, `*` at the end standing for any rest. `None`: all.
    pub local_part: Option<String>,
    /// How many times it acts, over all sessions; `None`: always.
    pub times: Option<u64>,
    /// How long it waits first.
    pub delay: Duration,
    /// What it then does.
    pub act: Act,
}

impl Rule {
    /// A rule that does nothing yet at `stage`.
    #[must_use]
    pub fn at(stage: Stage) -> Self {
        Self { stage, local_part: None, times: None, delay: Duration::ZERO, act: Act::Pass }
    }

    /// Answers with `code` and `text`.
    #[must_use]
    pub fn reply(self, code: u16, text: &str) -> Self {
        Self { act: Act::Reply { code, text: text.to_owned() }, ..self }
    }

    /// Closes the connection.
    #[must_use]
    pub fn drop_connection(self) -> Self {
        Self { act: Act::Drop, ..self }
    }

    /// Records the message, then closes the connection.
    #[must_use]
    pub fn take_then_drop(self) -> Self {
        Self { act: Act::TakeThenDrop, ..self }
    }

    /// Waits first.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Acts the first `times` times only.
    #[must_use]
    pub fn first(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Acts on these local parts only: `joe`, or `test-*`.
    #[must_use]
    pub fn for_local_part(self, pattern: &str) -> Self {
        Self { local_part: Some(pattern.to_owned()), ..self }
    }

    /// Whether it acts at `stage` on `local_part` (empty where there is none), leaving aside how often it did.
    pub(crate) fn matches(&self, stage: Stage, local_part: &str) -> bool {
        self.stage == stage
            && self.local_part.as_deref().is_none_or(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => local_part.starts_with(prefix),
                None => local_part == pattern,
            })
    }
}

/// What EHLO offers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent extension")]
pub struct Extensions {
    /// RFC 2920. Without it, bytes sent ahead of a reply are a violation.
    pub pipelining: bool,
    /// RFC 3030: BDAT.
    pub chunking: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtp_utf8: bool,
    /// RFC 2034.
    pub enhanced_status_codes: bool,
    /// RFC 1870. It is also enforced; without it, [`Extensions::SIZE_DEFAULT`] is.
    pub size_max_bytes: Option<u64>,
}

impl Extensions {
    /// The largest message where no other size is said.
    pub const SIZE_DEFAULT: u64 = 64 * 1024 * 1024;
}

impl Default for Extensions {
    fn default() -> Self {
        Self {
            pipelining: true,
            chunking: true,
            dsn: true,
            eight_bit_mime: true,
            smtp_utf8: true,
            enhanced_status_codes: true,
            size_max_bytes: Some(Self::SIZE_DEFAULT),
        }
    }
}

/// How a sink behaves. By default it takes everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// What EHLO offers.
    pub extensions: Extensions,
    /// EHLO is answered with 502, so that the client must say HELO.
    pub helo_only: bool,
    /// It speaks LMTP (RFC 2033): LHLO, and an answer for each recipient, where rules at [`Stage::FinalDot`] may name a
    /// local part. What they delay is not delayed.
    pub lmtp: bool,
    /// Every reply has three lines.
    pub multi_line: bool,
    /// Tried in order.
    pub rules: Vec<Rule>,
}

impl Behaviour {
    /// Takes everything except as `rule` says.
    #[must_use]
    pub fn with(rule: Rule) -> Self {
        Self { rules: vec![rule], ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_whole_local_part_or_its_beginning() {
        let all = Rule::at(Stage::Recipient);
        let joe = all.clone().for_local_part("joe");
        let tests = all.clone().for_local_part("test-*");
        for (rule, local_part, wanted) in [
            (&all, "anyone", true),
            (&joe, "joe", true),
            (&joe, "joey", false),
            (&tests, "test-", true),
            (&tests, "test-7", true),
            (&tests, "tes", false),
        ] {
            assert_eq!(rule.matches(Stage::Recipient, local_part), wanted, "{rule:?} {local_part}");
        }
        assert!(!all.matches(Stage::Mail, "anyone"));
    }
}
