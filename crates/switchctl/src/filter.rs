//! Which messages are meant: by id, by what is known of them, or both.
//!
//! | term | a message |
//! |---|---|
//! | `ID` | with this id; several ids mean any of them |
//! | `to:ADDRESS` | with a waiting recipient at this address, or at any of a domain: `@example.test` |
//! | `from:ADDRESS` | from this sender, or any of a domain; `<>` for bounces |
//! | `age:>1h` `age:<5m` | accepted longer ago, or less long; without a sign: longer |
//! | `state:queued` | with a recipient that waits, is `held`, or is `owed` a bounce |
//! | `reply~TEXT` | whose last reply has this in it; case does not matter |
//! | `node:NODE` | of the queue of this node |
//! | `size:>1MiB` `size:<10KiB` | larger, or smaller; without a sign: larger |
//!
//! All terms of one list must hold, and those about recipients of one and the same recipient.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use mail_model::{Envelope, Mailbox, MessageId, NodeId, QueueId, ReversePath, WallTime};
use queue_format::books::{Books, Message, Standing};
use queue_format::record::{MessageKey, RecipientState};

/// The table above, for help texts.
pub(crate) const HELP: &str = "\
Terms: to:ADDRESS from:ADDRESS (user@example.test, @example.test for all of a domain, from:'<>' for bounces), age:>1h age:<5m, \
state:queued|held|owed, reply~TEXT, node:NODE, size:>1MiB. All of them must hold.";

/// One term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Term {
    /// This message.
    Id(MessageId),
    To(Pattern),
    From(Pattern),
    Age(Bound, Duration),
    State(State),
    /// In lower case.
    Reply(String),
    Node(NodeId),
    Size(Bound, u64),
}

/// On which side of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Above,
    Below,
}

impl Bound {
    fn split(text: &str) -> (Self, &str) {
        match text.strip_prefix('<') {
            Some(rest) => (Self::Below, rest),
            None => (Self::Above, text.strip_prefix('>').unwrap_or(text)),
        }
    }

    fn holds<T: PartialOrd>(self, value: &T, limit: &T) -> bool {
        match self {
            Self::Above => value > limit,
            Self::Below => value < limit,
        }
    }
}

/// A state to filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Queued,
    Held,
    Owed,
}

impl State {
    fn is(self, state: RecipientState) -> bool {
        match state {
            RecipientState::Queued => self == Self::Queued,
            RecipientState::Held => self == Self::Held,
            RecipientState::Owed(_) | RecipientState::OwedSuccess => self == Self::Owed,
            RecipientState::Delivered | RecipientState::Failed(_) | RecipientState::Deleted => false,
        }
    }
}

impl FromStr for Term {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(wanted) = text.strip_prefix("reply~") {
            return Ok(Self::Reply(wanted.to_lowercase()));
        }
        let Some((key, value)) = text.split_once(':') else {
            return text.parse().map(Self::Id).map_err(|_| {
                "this is neither a message id like a-1-3 nor a term like to:@example.test".to_owned()
            });
        };
        match key {
            "to" => Pattern::from_str(value).map(Self::To),
            "from" => Pattern::from_str(value).map(Self::From),
            "age" => {
                let (bound, span) = Bound::split(value);
                Ok(Self::Age(bound, settings::parse_duration(span)?))
            }
            "size" => {
                let (bound, size) = Bound::split(value);
                Ok(Self::Size(bound, settings::parse_size(size)?))
            }
            "state" => match value {
                "queued" => Ok(Self::State(State::Queued)),
                "held" => Ok(Self::State(State::Held)),
                "owed" => Ok(Self::State(State::Owed)),
                _ => Err("the states are queued, held and owed".to_owned()),
            },
            "node" => value.parse().map(Self::Node).map_err(|error| format!("{error}")),
            _ => {
                Err(format!("there is no term '{key}:'; there are to: from: age: state: reply~ node: size:"))
            }
        }
    }
}

/// What an address must be. Upper and lower case are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
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
            // A million may be asked, so nothing is made.
            (Self::Address(wanted), Some(address)) => match (address.domain(), wanted.rsplit_once('@')) {
                (Some(domain), Some((local_part, of))) => {
                    domain.as_str().eq_ignore_ascii_case(of)
                        && address.local_part().eq_ignore_ascii_case(local_part)
                }
                (None, None) => address.local_part().eq_ignore_ascii_case(wanted),
                (Some(_), None) | (None, Some(_)) => false,
            },
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(text);
        match bare.rsplit_once('@') {
            None if text == "<>" => Ok(Self::Null),
            Some(("", domain)) if !domain.is_empty() => Ok(Self::Domain(domain.to_owned())),
            Some((_, domain)) if !domain.is_empty() => Ok(Self::Address(bare.to_owned())),
            // RFC 5321 4.5.1: the only address without a domain.
            None if bare.eq_ignore_ascii_case("postmaster") => Ok(Self::Address(bare.to_owned())),
            Some(_) | None => {
                Err("this is no address; say user@example.test, @example.test for all of a domain, or '<>'"
                    .into())
            }
        }
    }
}

/// Terms that all must hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter<'a>(&'a [Term]);

impl<'a> Filter<'a> {
    pub(crate) fn new(terms: &'a [Term]) -> Self {
        Self(terms)
    }

    /// The messages that are meant by id.
    pub(crate) fn ids(&self) -> BTreeSet<&'a MessageId> {
        let id = |term: &'a Term| if let Term::Id(id) = term { Some(id) } else { None };
        self.0.iter().filter_map(id).collect()
    }

    /// True if every message of a queue is meant that [`Self::reads`] says can be.
    pub(crate) fn takes_all(&self) -> bool {
        self.0.iter().all(|term| matches!(term, Term::Node(_)))
    }

    /// True if a message of this queue can be meant.
    pub(crate) fn reads(&self, queue: &QueueId) -> bool {
        let node =
            |term: &Term| if let Term::Node(node) = term { queue.as_str() == node.as_str() } else { true };
        let ids = self.ids();
        self.0.iter().all(node) && (ids.is_empty() || ids.iter().any(|id| id.queue == *queue))
    }

    /// Files have addresses and a size. Fails with a sentence if a term asks for anything else.
    pub(crate) fn is_about_files(&self) -> Result<(), String> {
        let unfit = self.0.iter().find_map(|term| match term {
            Term::To(_) | Term::From(_) | Term::Size(..) => None,
            Term::Id(_) => Some("an ID"),
            Term::Age(..) => Some("age:"),
            Term::State(_) => Some("state:"),
            Term::Reply(_) => Some("reply~"),
            Term::Node(_) => Some("node:"),
        });
        unfit.map_or(Ok(()), |term| {
            Err(format!("{term} says nothing of a file; choose by to: from: and size:"))
        })
    }

    /// A directory is one queue, whatever node it was of. Fails with a sentence if a term asks for a node.
    pub(crate) fn is_about_one_queue(&self) -> Result<(), String> {
        if self.0.iter().any(|term| matches!(term, Term::Node(_))) {
            return Err("node: says nothing of one directory; leave it out and name the directory".to_owned());
        }
        Ok(())
    }

    /// True if the terms hold for a file that is no message of a queue yet.
    pub(crate) fn matches_file(&self, from: &ReversePath, to: &[Mailbox], size: u64) -> bool {
        let sender = match from {
            ReversePath::Null => None,
            ReversePath::Mailbox(mailbox) => Some(mailbox),
        };
        self.0.iter().all(|term| match term {
            Term::To(pattern) => to.iter().any(|address| pattern.matches(Some(address))),
            Term::From(pattern) => pattern.matches(sender),
            Term::Size(bound, limit) => bound.holds(&size, limit),
            Term::Id(_) | Term::Age(..) | Term::State(_) | Term::Reply(_) | Term::Node(_) => false,
        })
    }

    /// The messages of `queue` that can be meant, in no order: those that are named, and else those whose envelopes have the
    /// wanted addresses somewhere. What the terms really say is for [`Self::matches`].
    pub(crate) fn candidates<'b>(
        &self,
        queue: &QueueId,
        books: &'b Books,
    ) -> Box<dyn Iterator<Item = (MessageKey, Message)> + 'b>
    where
        'a: 'b,
    {
        let ids = self.ids();
        if ids.is_empty() {
            let wanted = *self;
            return Box::new(books.messages().filter(move |(_, message)| wanted.may_mean(&message.envelope)));
        }
        let keys: Vec<MessageKey> = ids
            .into_iter()
            .filter(|id| id.queue == *queue)
            .map(|id| MessageKey { epoch: id.epoch, sequence: id.sequence })
            .collect();
        Box::new(keys.into_iter().filter_map(|key| Some((key, books.message(key)?))))
    }

    /// False if an envelope, as it is stored, does not even contain an address that is asked for. So few are read of a
    /// million.
    fn may_mean(&self, envelope: &[u8]) -> bool {
        self.0.iter().all(|term| match term {
            Term::To(Pattern::Domain(text) | Pattern::Address(text))
            | Term::From(Pattern::Domain(text) | Pattern::Address(text)) => {
                let text = text.as_bytes();
                envelope.windows(text.len().max(1)).any(|part| part.eq_ignore_ascii_case(text))
            }
            Term::To(Pattern::Null)
            | Term::From(Pattern::Null)
            | Term::Id(_)
            | Term::Age(..)
            | Term::State(_)
            | Term::Reply(_)
            | Term::Node(_)
            | Term::Size(..) => true,
        })
    }

    /// True if the terms hold for a candidate of `queue`, by one of the recipients that `counts` says are of interest.
    pub(crate) fn matches(
        &self,
        queue: &QueueId,
        envelope: &Envelope,
        message: &Message,
        now: WallTime,
        counts: impl Fn(RecipientState) -> bool,
    ) -> bool {
        let sender = match &envelope.reverse_path {
            ReversePath::Null => None,
            ReversePath::Mailbox(mailbox) => Some(mailbox),
        };
        let whole = |term: &Term| match term {
            Term::From(pattern) => pattern.matches(sender),
            Term::Age(bound, limit) => bound.holds(&now.since(message.received), limit),
            Term::Size(bound, limit) => bound.holds(&message.size, limit),
            Term::Node(node) => queue.as_str() == node.as_str(),
            Term::Id(_) | Term::To(_) | Term::State(_) | Term::Reply(_) => true,
        };
        let one = |address: &Mailbox, standing: &Standing| {
            counts(standing.state)
                && self.0.iter().all(|term| match term {
                    Term::To(pattern) => pattern.matches(Some(address)),
                    Term::State(state) => state.is(standing.state),
                    Term::Reply(text) => {
                        let reply = standing.last_reply.as_ref();
                        reply.is_some_and(|reply| reply.to_string().to_lowercase().contains(text))
                    }
                    Term::Id(_) | Term::From(_) | Term::Age(..) | Term::Node(_) | Term::Size(..) => true,
                })
        };
        self.0.iter().all(whole)
            && envelope.recipients.iter().zip(&message.standings).any(|(r, s)| one(&r.address, s))
    }
}

#[cfg(test)]
mod tests {
    use mail_model::Recipient;
    use queue_format::record::encode_envelope;

    use super::*;

    #[test]
    fn an_address_matches_itself_and_its_domain_and_nothing_that_only_looks_like_it() {
        let address = Mailbox::parse_stored("User@mx.example.test").unwrap();
        let matches = |text: &str| Pattern::from_str(text).unwrap().matches(Some(&address));
        for wanted in ["user@MX.example.test", "<user@mx.example.test>", "@mx.example.test"] {
            assert!(matches(wanted), "{wanted}");
        }
        for other in ["@example.test", "ser@mx.example.test", "<>", "@x.example.test"] {
            assert!(!matches(other), "{other}");
        }
        assert!(Pattern::Null.matches(None) && !Pattern::Domain("a.test".into()).matches(None));
        for wrong in ["", "example.test", "user@", "@"] {
            assert!(Pattern::from_str(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_envelope_without_the_wanted_address_is_not_even_read() {
        let mut envelope =
            Envelope::from_sender(ReversePath::Mailbox(Mailbox::parse_stored("a@From.test").unwrap()));
        envelope.recipients.push(Recipient::plain(Mailbox::parse_stored("User@mx.example.test").unwrap()));
        let stored = encode_envelope(&envelope);
        let may = |terms: &[&str]| {
            let terms: Vec<Term> = terms.iter().map(|term| term.parse().unwrap()).collect();
            Filter::new(&terms).may_mean(&stored)
        };
        for found in [
            &["to:user@MX.example.test"][..],
            &["from:@from.test", "to:@mx.example.test"],
            &["from:<>"],
            &["age:1h"],
            &[],
        ] {
            assert!(may(found), "{found:?}");
        }
        for not in [&["to:other@mx.example.test"][..], &["from:@from.test", "to:@elsewhere.test"]] {
            assert!(!may(not), "{not:?}");
        }
    }

    #[test]
    fn a_limit_has_a_side_and_a_wrong_term_says_what_there_is() {
        let term = |text: &str| Term::from_str(text);
        assert_eq!(term("age:<5m").unwrap(), Term::Age(Bound::Below, Duration::from_mins(5)));
        assert_eq!(term("age:5m").unwrap(), term("age:>5m").unwrap());
        assert_eq!(term("size:<1KiB").unwrap(), Term::Size(Bound::Below, 1024));
        assert_eq!(term("reply~Too Busy").unwrap(), Term::Reply("too busy".into()));
        assert_eq!(term("a-1-3").unwrap(), Term::Id("a-1-3".parse().unwrap()));
        for wrong in ["subject:x", "age:soon", "state:gone", "size:big", "nothing"] {
            assert!(term(wrong).is_err(), "{wrong}");
        }
    }
}
