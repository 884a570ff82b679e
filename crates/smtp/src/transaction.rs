//! The sending side of SMTP for one message, as a machine on a connection whose greeting and EHLO are done.
//!
//! The shell writes what it is told, reads replies in order while [`Transaction::awaited_replies`] is not 0, waits at most
//! [`Transaction::timeout`] for each, and gives the body when asked.
//!
//! | phase      | waits for                    | leaves to                                                             |
//! |------------|------------------------------|-----------------------------------------------------------------------|
//! | Ready      | `Begin`                      | Envelope; Done if the peer cannot take the message                    |
//! | Envelope   | replies to MAIL, RCPT, DATA  | Body if a recipient was taken (and 354); Done if none was             |
//! | Body       | pieces of the body           | Confirming at its end                                                 |
//! | Confirming | the shell's leave            | Final                                                                 |
//! | Final      | the reply to the whole       | Done                                                                  |
//! | Done       | –                            | –                                                                     |
//!
//! With PIPELINING, MAIL, RCPT and DATA leave in groups of at most [`GROUP_COMMANDS_MAX`] (RFC 2920 3.1: neither side may
//! fill the other's window while both only write); without it, one by one. Where CHUNKING is offered the body goes as one
//! `BDAT n LAST` after the envelope's replies, which costs no more round trips than DATA and alters no byte; the octet
//! held back until the shell confirms is then the last of the body, and the whole command if the body is empty.
//!
//! A peer that speaks LMTP answers the whole once for each recipient it took, in the order of RCPT (RFC 2033 4.2); so Final
//! waits for as many replies, and each decides about its recipient alone.
//!
//! Failures: a 4yz is deferred, a 5yz failed; 552 to RCPT is deferred (RFC 5321 4.5.3.1.10); 421 defers whoever is open,
//! at any time; a reply out of protocol defers and closes. After the last octets were written, no answer or a senseless
//! one is in doubt. Never: a final dot without the shell's leave; a second try.

mod commands;
mod event;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mail_model::{BodyType, EnhancedStatus, Envelope, RecipientIndex, Reply, ReplyClass, ReversePath};

pub use self::event::{Action, Completion, ConnectionState, Event, PeerExtensions, RecipientResult};

use crate::dot::DotEncoder;
use crate::limits::{self, SendTimeouts};
use crate::once;

/// The most commands written before their replies are read.
pub const GROUP_COMMANDS_MAX: usize = 100;

/// A reply that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// To names that the peer may forget. Whatever it says changes nothing.
    Done,
    Mail,
    /// Of the recipient at this position.
    Recipient(usize),
    Data,
    /// DATA was taken, but no recipient was: an empty message to nobody ends it.
    LoneDot,
    Final,
    /// The same, of the recipient at this position: LMTP.
    FinalOf(usize),
}

/// How the body is carried.
#[derive(Debug)]
enum Framing {
    Dots(DotEncoder),
    /// What was held back: the last octet.
    Chunk(Bytes),
}

#[derive(Debug)]
enum Phase {
    Ready,
    Envelope,
    Body(Framing),
    Confirming(Bytes),
    Final,
    Done,
}

#[derive(Debug)]
enum Standing {
    Open,
    /// The peer took RCPT.
    Accepted,
    Decided(RecipientResult),
}

/// One message to some of its recipients over one connection.
#[derive(Debug)]
pub struct Transaction {
    peer: PeerExtensions,
    body_octets: u64,
    given_octets: u64,
    phase: Phase,
    unsent: VecDeque<(Expected, String)>,
    awaited: VecDeque<Expected>,
    recipients: Vec<(RecipientIndex, Standing)>,
}

impl Transaction {
    /// A transaction for those `recipients` of `envelope`; `body_octets` is the exact length of the body to come.
    #[must_use]
    pub fn new(
        peer: PeerExtensions,
        envelope: &Envelope,
        recipients: &[RecipientIndex],
        body_octets: u64,
    ) -> Self {
        let mut transaction = Self {
            peer,
            body_octets,
            given_octets: 0,
            phase: Phase::Ready,
            unsent: VecDeque::with_capacity(recipients.len() + 2),
            awaited: VecDeque::new(),
            recipients: recipients.iter().map(|index| (*index, Standing::Open)).collect(),
        };
        transaction.plan(envelope);
        transaction
    }

    /// The same under a name, so that the peer knows a repeat, and with names that it may forget: where it offers to.
    #[must_use]
    pub fn named(mut self, name: &str, done: &[Box<str>]) -> Self {
        if self.peer.once
            && let Some((Expected::Mail, line)) = self.unsent.front_mut()
        {
            commands::add_name(line, name);
            if !done.is_empty() {
                self.unsent.push_front((Expected::Done, once::done(done)));
            }
        }
        self
    }

    /// Takes `event` and appends what is to be done to `out`.
    pub fn step(&mut self, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Begin => self.begin(out),
            Event::Reply(reply) => self.reply(reply, out),
            Event::Body(piece) => self.body(piece, out),
            Event::BodyEnd => self.body_end(out),
            Event::FinalDotConfirmed => self.final_dot(out),
            Event::Abandoned(reply) => self.abandon(&reply, out),
        }
    }

    /// How many replies are due now. The shell reads while it is not 0.
    #[must_use]
    pub fn awaited_replies(&self) -> usize {
        self.awaited.len()
    }

    /// How long to wait for the next reply, or for a block of the body to be taken. RFC 5321 4.5.3.2.
    #[must_use]
    pub fn timeout(&self, timeouts: &SendTimeouts) -> Duration {
        limits::span(match self.awaited.front() {
            Some(Expected::Done | Expected::Mail) => timeouts.mail_ms,
            Some(Expected::Recipient(_)) => timeouts.recipient_ms,
            Some(Expected::Data) => timeouts.data_ms,
            Some(Expected::LoneDot | Expected::Final | Expected::FinalOf(_)) => timeouts.final_dot_ms,
            None => timeouts.block_ms,
        })
    }

    /// True once the last octets may be with the peer.
    #[must_use]
    pub fn final_dot_sent(&self) -> bool {
        matches!(self.phase, Phase::Final)
    }

    // ---- the plan ------------------------------------------------------------------------------------------------

    /// Writes the commands, or decides at once what the peer cannot take.
    fn plan(&mut self, envelope: &Envelope) {
        let needs_smtputf8 = self.needs_smtputf8(envelope);
        if needs_smtputf8 && !self.peer.smtputf8 {
            // RFC 6531 3.2: such a message is returned, not altered.
            let reply =
                Reply::local(550, EnhancedStatus::new(5, 6, 7), "the next host does not offer SMTPUTF8");
            return self.decide_open(&reply, RecipientResult::Failed);
        }
        if envelope.body == BodyType::EightBitMime && !self.peer.eight_bit_mime && !self.peer.takes_eight_bit
        {
            // RFC 6152 3: it is converted, or returned. RFC 3463 3.7: conversion required but not supported.
            let text = "the message has 8-bit content, and the next host does not offer 8BITMIME";
            let reply = Reply::local(554, EnhancedStatus::new(5, 6, 3), text);
            return self.decide_open(&reply, RecipientResult::Failed);
        }
        if envelope.require_tls && !self.peer.require_tls {
            // RFC 8689 4.2.1.
            let text = "the message asks for TLS all the way, and the next host does not offer REQUIRETLS under TLS that was verified";
            let reply = Reply::local(550, EnhancedStatus::new(5, 7, 30), text);
            return self.decide_open(&reply, RecipientResult::Failed);
        }
        if self.peer.size.is_some_and(|limit| limit > 0 && limit < self.body_octets) {
            let reply =
                Reply::local(552, EnhancedStatus::new(5, 3, 4), "the message is too large for the next host");
            return self.decide_open(&reply, RecipientResult::Failed);
        }
        let Some(mail) = commands::mail(envelope, self.body_octets, needs_smtputf8, &self.peer) else {
            let reply =
                Reply::local(553, EnhancedStatus::new(5, 1, 7), "the sender cannot be written in SMTP");
            return self.decide_open(&reply, RecipientResult::Failed);
        };
        self.unsent.push_back((Expected::Mail, mail));
        for (position, (index, standing)) in self.recipients.iter_mut().enumerate() {
            let recipient = envelope.recipients.get(usize::from(*index));
            let line = recipient.and_then(|recipient| commands::rcpt(recipient, needs_smtputf8, &self.peer));
            if let Some(line) = line {
                self.unsent.push_back((Expected::Recipient(position), line));
            } else {
                let text = "the recipient cannot be written in SMTP";
                let reply = Reply::local(553, EnhancedStatus::new(5, 1, 3), text);
                *standing = Standing::Decided(RecipientResult::Failed(reply));
            }
        }
        if !self.peer.chunking {
            self.unsent.push_back((Expected::Data, "DATA\r\n".to_owned()));
        }
    }

    fn needs_smtputf8(&self, envelope: &Envelope) -> bool {
        let international = |index: &RecipientIndex| {
            envelope.recipients.get(usize::from(*index)).is_some_and(|r| r.address.is_international())
        };
        envelope.smtputf8
            || matches!(&envelope.reverse_path, ReversePath::Mailbox(m) if m.is_international())
            || self.recipients.iter().any(|(index, _)| international(index))
    }

    fn begin(&mut self, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Ready) {
            return;
        }
        if self.has_open() {
            self.phase = Phase::Envelope;
            self.go_on(out);
        } else {
            self.done(ConnectionState::Ready, out);
        }
    }

    // ---- replies -------------------------------------------------------------------------------------------------

    fn reply(&mut self, reply: Reply, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Envelope | Phase::Final => {}
            // It speaks while it should listen: whatever it says, it has not taken a message it did not get whole.
            Phase::Body(_) | Phase::Confirming(_) => return self.broken_off(&reply, out),
            Phase::Ready | Phase::Done => return,
        }
        // RFC 5321 3.8: 421 may come at any time; the connection is going.
        if reply.code == 421 {
            if let Some(Expected::FinalOf(position)) = self.awaited.front().copied() {
                // It speaks for this recipient. The others will never be spoken of.
                self.decide(position, RecipientResult::Deferred(reply.clone()));
                self.decide_open(&reply, RecipientResult::InDoubt);
            }
            self.decide_open(&reply, RecipientResult::Deferred);
            return self.done(ConnectionState::MustClose, out);
        }
        let Some(expected) = self.awaited.pop_front() else {
            return self.out_of_protocol(&reply, out);
        };
        match (expected, reply.class()) {
            (Expected::Final, _) => return self.final_reply(&reply, out),
            (Expected::FinalOf(position), _) => return self.final_reply_of(position, reply, out),
            (Expected::LoneDot | Expected::Done, _) | (Expected::Mail, ReplyClass::Positive) => {}
            (Expected::Mail | Expected::Data, ReplyClass::Transient | ReplyClass::Permanent) => {
                self.unsent.clear();
                self.decide_open(&reply, refused(&reply));
            }
            (Expected::Recipient(position), class) if class != ReplyClass::Intermediate => {
                self.recipient_reply(position, reply);
            }
            (Expected::Data, ReplyClass::Intermediate) if self.has_open() => {
                self.phase = Phase::Body(Framing::Dots(DotEncoder::default()));
                return out.push(Action::StreamBody);
            }
            (Expected::Data, ReplyClass::Intermediate) if self.peer.lmtp => {
                // RFC 2033 4.2: it must answer 503. There would be no reply to a dot for nobody.
                return self.out_of_protocol(&reply, out);
            }
            (Expected::Data, ReplyClass::Intermediate) => {
                // RFC 2920 3.1: a client that sent DATA with its recipients must end it, whoever was refused.
                out.push(Action::Write(DotEncoder::default().finish()));
                return self.awaited.push_back(Expected::LoneDot);
            }
            (Expected::Mail | Expected::Recipient(_) | Expected::Data, _) => {
                return self.out_of_protocol(&reply, out);
            }
        }
        self.go_on(out);
    }

    fn recipient_reply(&mut self, position: usize, reply: Reply) {
        let Some((_, standing @ Standing::Open)) = self.recipients.get_mut(position) else {
            return;
        };
        *standing = match reply.class() {
            ReplyClass::Positive => Standing::Accepted,
            // RFC 5321 4.5.3.1.10: 552 to RCPT means "too many recipients" and is taken as 452.
            ReplyClass::Permanent if reply.code != 552 => Standing::Decided(RecipientResult::Failed(reply)),
            ReplyClass::Permanent | ReplyClass::Transient | ReplyClass::Intermediate => {
                Standing::Decided(RecipientResult::Deferred(reply))
            }
        };
    }

    /// Writes the next commands when all replies are in, or leaves the envelope.
    fn go_on(&mut self, out: &mut Vec<Action>) {
        if !self.awaited.is_empty() {
            return;
        }
        if !self.has_open() {
            // Not even DATA is sent for nobody.
            return self.done(ConnectionState::NeedsReset, out);
        }
        if self.unsent.is_empty() {
            return self.begin_chunk(out);
        }
        let group = if self.peer.pipelining { GROUP_COMMANDS_MAX } else { 1 };
        let mut lines = BytesMut::new();
        for (expected, line) in self.unsent.drain(..group.min(self.unsent.len())) {
            lines.extend_from_slice(line.as_bytes());
            self.awaited.push_back(expected);
        }
        out.push(Action::Write(lines.freeze()));
    }

    fn final_reply(&mut self, reply: &Reply, out: &mut Vec<Action>) {
        let result = match reply.code {
            200..=299 => RecipientResult::Delivered,
            400..=599 => refused(reply),
            _ => {
                self.decide_open(reply, RecipientResult::InDoubt);
                return self.done(ConnectionState::MustClose, out);
            }
        };
        self.decide_open(reply, result);
        self.done(ConnectionState::Ready, out);
    }

    fn final_reply_of(&mut self, position: usize, reply: Reply, out: &mut Vec<Action>) {
        let result = match reply.code {
            200..=299 => RecipientResult::Delivered(reply),
            400..=599 => refused(&reply)(reply),
            _ => {
                self.decide_open(&reply, RecipientResult::InDoubt);
                return self.done(ConnectionState::MustClose, out);
            }
        };
        self.decide(position, result);
        if self.awaited.is_empty() {
            self.done(ConnectionState::Ready, out);
        }
    }

    // ---- the body ------------------------------------------------------------------------------------------------

    fn begin_chunk(&mut self, out: &mut Vec<Action>) {
        let header = Bytes::from(format!("BDAT {} LAST\r\n", self.body_octets));
        let held = if self.body_octets == 0 {
            header
        } else {
            out.push(Action::Write(header));
            Bytes::new()
        };
        self.phase = Phase::Body(Framing::Chunk(held));
        out.push(Action::StreamBody);
    }

    fn body(&mut self, mut piece: Bytes, out: &mut Vec<Action>) {
        let Phase::Body(framing) = &mut self.phase else {
            return;
        };
        self.given_octets = self.given_octets.saturating_add(piece.len() as u64);
        if self.given_octets > self.body_octets {
            return self.wrong_length(out);
        }
        match framing {
            Framing::Dots(encoder) => {
                let mut pieces = Vec::new();
                encoder.encode(piece, &mut pieces);
                out.extend(pieces.into_iter().map(Action::Write));
            }
            Framing::Chunk(held) => {
                if self.given_octets == self.body_octets && !piece.is_empty() {
                    *held = piece.split_off(piece.len() - 1);
                }
                if !piece.is_empty() {
                    out.push(Action::Write(piece));
                }
            }
        }
    }

    fn body_end(&mut self, out: &mut Vec<Action>) {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Body(framing) if self.given_octets == self.body_octets => {
                self.phase = Phase::Confirming(match framing {
                    Framing::Dots(encoder) => encoder.finish(),
                    Framing::Chunk(held) => held,
                });
                out.push(Action::ConfirmFinalDot);
            }
            Phase::Body(framing) => {
                self.phase = Phase::Body(framing);
                self.wrong_length(out);
            }
            other @ (Phase::Ready | Phase::Envelope | Phase::Confirming(_) | Phase::Final | Phase::Done) => {
                self.phase = other;
            }
        }
    }

    fn final_dot(&mut self, out: &mut Vec<Action>) {
        if let Phase::Confirming(last) = &mut self.phase {
            out.push(Action::Write(std::mem::take(last)));
            if self.peer.lmtp {
                let taken = self.recipients.iter().enumerate();
                let taken = taken.filter(|(_, (_, standing))| matches!(standing, Standing::Accepted));
                self.awaited.extend(taken.map(|(position, _)| Expected::FinalOf(position)));
            } else {
                self.awaited.push_back(Expected::Final);
            }
            self.phase = Phase::Final;
        }
    }

    // ---- the end -------------------------------------------------------------------------------------------------

    fn abandon(&mut self, reply: &Reply, out: &mut Vec<Action>) {
        let result = match self.phase {
            Phase::Done => return,
            Phase::Final => RecipientResult::InDoubt,
            Phase::Ready | Phase::Envelope | Phase::Body(_) | Phase::Confirming(_) => {
                RecipientResult::Deferred
            }
        };
        self.decide_open(reply, result);
        self.done(ConnectionState::MustClose, out);
    }

    /// A truncated or overlong body must not be taken for the message.
    fn wrong_length(&mut self, out: &mut Vec<Action>) {
        let reply =
            Reply::local(451, EnhancedStatus::new(4, 3, 0), "the stored message has not its recorded length");
        self.abandon(&reply, out);
    }

    fn broken_off(&mut self, reply: &Reply, out: &mut Vec<Action>) {
        match reply.class() {
            ReplyClass::Transient | ReplyClass::Permanent => self.decide_open(reply, refused(reply)),
            ReplyClass::Positive | ReplyClass::Intermediate => return self.out_of_protocol(reply, out),
        }
        self.done(ConnectionState::MustClose, out);
    }

    fn out_of_protocol(&mut self, reply: &Reply, out: &mut Vec<Action>) {
        let text = format!("the next host answered out of protocol: {reply}");
        self.abandon(&Reply::local(451, EnhancedStatus::new(4, 5, 0), text), out);
    }

    fn has_open(&self) -> bool {
        self.recipients.iter().any(|(_, standing)| !matches!(standing, Standing::Decided(_)))
    }

    /// Decides one recipient, if it is not decided.
    fn decide(&mut self, position: usize, result: RecipientResult) {
        if let Some((_, standing @ (Standing::Open | Standing::Accepted))) = self.recipients.get_mut(position)
        {
            *standing = Standing::Decided(result);
        }
    }

    /// Decides every recipient that is not decided.
    fn decide_open(&mut self, reply: &Reply, result: impl Fn(Reply) -> RecipientResult) {
        for (_, standing) in &mut self.recipients {
            if !matches!(standing, Standing::Decided(_)) {
                *standing = Standing::Decided(result(reply.clone()));
            }
        }
    }

    fn done(&mut self, connection: ConnectionState, out: &mut Vec<Action>) {
        self.phase = Phase::Done;
        self.awaited.clear();
        self.unsent.clear();
        let results = std::mem::take(&mut self.recipients);
        let results = results.into_iter().filter_map(|(index, standing)| match standing {
            Standing::Decided(result) => Some((index, result)),
            Standing::Open | Standing::Accepted => None,
        });
        out.push(Action::Done(Completion { results: results.collect(), connection }));
    }
}

/// What a refusal means for those it hits.
fn refused(reply: &Reply) -> fn(Reply) -> RecipientResult {
    if reply.class() == ReplyClass::Permanent { RecipientResult::Failed } else { RecipientResult::Deferred }
}
