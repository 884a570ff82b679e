//! Which messages an operator means: those named, or all that filters match.

use std::time::Duration;

use clap::Args;
use mail_model::{Envelope, Mailbox, MessageId, ReversePath, WallTime};
use queue_format::books::Message;
use queue_format::record::RecipientState;

/// Which messages, and whether to ask first.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// Their ids, as in the 250 reply.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) ids: Vec<MessageId>,
    /// Every message that the filters match; without a filter every message.
    #[arg(long)]
    pub(crate) all: bool,
    /// With --all: with a waiting recipient at this address, or at any of a domain: `user@example.test`,
    /// `@example.test`.
    #[arg(long, value_name = "ADDRESS", value_parser = pattern, requires = "all", conflicts_with = "ids")]
    to: Option<Pattern>,
    /// With --all: from this sender, or any of a domain; `<>` for bounces.
    #[arg(long, value_name = "ADDRESS", value_parser = pattern, requires = "all", conflicts_with = "ids")]
    from: Option<Pattern>,
    /// With --all: with a recipient in this state.
    #[arg(long, value_enum, requires = "all", conflicts_with = "ids")]
    state: Option<State>,
    /// With --all: accepted longer ago than this: 30m, 2h, 5d.
    #[arg(long, value_name = "D", value_parser = settings::parse_duration, requires = "all", conflicts_with = "ids")]
    older_than: Option<Duration>,
    /// Do it without asking.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Only show what would be touched.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
}

/// A state to filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum State {
    /// Waits for its next attempt.
    Queued,
    /// Set aside.
    Held,
    /// Failed; its bounce is not made yet.
    Owed,
}

impl State {
    fn is(self, state: RecipientState) -> bool {
        match state {
            RecipientState::Queued => self == Self::Queued,
            RecipientState::Held => self == Self::Held,
            RecipientState::Owed(_) => self == Self::Owed,
            RecipientState::Delivered | RecipientState::Failed(_) | RecipientState::Deleted => false,
        }
    }
}

/// What an address must be. Upper and lower case are one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// The null path.
    Null,
    /// Any address there.
    Domain(String),
    /// This one.
    Address(String),
}

impl Pattern {
    fn matches(&self, address: Option<&Mailbox>) -> bool {
        match (self, address) {
            (Self::Null, address) => address.is_none(),
            (Self::Domain(_) | Self::Address(_), None) => false,
            (Self::Domain(wanted), Some(address)) => {
                address.domain().is_some_and(|domain| domain.as_str().eq_ignore_ascii_case(wanted))
            }
            (Self::Address(wanted), Some(address)) => address.to_string().eq_ignore_ascii_case(wanted),
        }
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    let bare = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(text);
    match bare.rsplit_once('@') {
        None if text == "<>" => Ok(Pattern::Null),
        Some(("", domain)) if !domain.is_empty() => Ok(Pattern::Domain(domain.to_owned())),
        Some((_, domain)) if !domain.is_empty() => Ok(Pattern::Address(bare.to_owned())),
        // RFC 5321 4.5.1: the only address without a domain.
        None if bare.eq_ignore_ascii_case("postmaster") => Ok(Pattern::Address(bare.to_owned())),
        Some(_) | None => {
            Err("this is no address; say user@example.test, @example.test for all of a domain, or '<>'"
                .into())
        }
    }
}

impl Choice {
    /// True if the filters match a message, by one of the recipients that `applies` says the verb moves.
    pub(crate) fn matches(
        &self,
        envelope: &Envelope,
        message: &Message,
        now: WallTime,
        applies: impl Fn(RecipientState) -> bool,
    ) -> bool {
        let sender = match &envelope.reverse_path {
            ReversePath::Null => None,
            ReversePath::Mailbox(mailbox) => Some(mailbox),
        };
        let fits = |wanted: &Option<Pattern>, address| wanted.as_ref().is_none_or(|w| w.matches(address));
        fits(&self.from, sender)
            && self.older_than.is_none_or(|span| now.since(message.received) > span)
            && envelope.recipients.iter().zip(&message.standings).any(|(recipient, standing)| {
                applies(standing.state)
                    && fits(&self.to, Some(&recipient.address))
                    && self.state.is_none_or(|state| state.is(standing.state))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_matches_itself_and_its_domain_and_nothing_that_only_looks_like_it() {
        let address = Mailbox::parse_stored("User@mx.example.test").unwrap();
        let matches = |text: &str| pattern(text).unwrap().matches(Some(&address));
        for wanted in ["user@MX.example.test", "<user@mx.example.test>", "@mx.example.test"] {
            assert!(matches(wanted), "{wanted}");
        }
        for other in ["@example.test", "ser@mx.example.test", "<>", "@x.example.test"] {
            assert!(!matches(other), "{other}");
        }
        assert!(pattern("<>").unwrap().matches(None) && !pattern("@a.test").unwrap().matches(None));
        for wrong in ["", "example.test", "user@", "@"] {
            assert!(pattern(wrong).is_err(), "{wrong}");
        }
    }
}
