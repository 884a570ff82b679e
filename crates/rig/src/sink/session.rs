//! One session of the sink as a machine: bytes in, replies and deliveries out. It touches no socket and no clock.
//!
//! | state | takes |
//! |---|---|
//! | greeting not sent | nothing |
//! | command | a line |
//! | data | lines up to the final dot |
//! | chunk | so many bytes |
//!
//! It obeys its client to the letter, but notes every breach of the protocol as a fault: the client is what is under test.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use mail_model::Moment;

use super::behaviour::{Act, Behaviour, Extensions, Stage};
use super::intake::Intake;
use crate::record::Delivery;

/// RFC 5321 4.5.3.1.4 with room for the parameters of all extensions.
const COMMAND_BYTES_MAX: usize = 4096;
/// RFC 5321 4.5.3.1.8: at least 100.
const RECIPIENTS_MAX: usize = 10_000;

/// Finds the rule that acts at a stage on a local part, and counts it.
pub(super) type Rules<'a> = &'a dyn Fn(Stage, &str) -> Option<(Duration, Act)>;

/// What a step made.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Replies to be written.
    pub(super) output: Vec<u8>,
    /// Messages taken: to be recorded before `output` is written.
    pub(super) deliveries: Vec<Delivery>,
    /// Breaches of the protocol by the client.
    pub(super) faults: Vec<&'static str>,
}

/// How a session goes on after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// With more input.
    Read,
    /// With another step after this wait; the output so far is written first.
    Wait(Duration),
    /// Not at all, once the output is written.
    Close,
}

#[derive(Debug)]
enum State {
    Command,
    Data,
    Chunk { left: u64, last: bool },
}

/// What is done about a stage by default, when no rule says otherwise.
#[derive(Debug)]
enum Plan {
    Greet,
    Say(u16, String),
    Hello { extended: bool },
    Mail { reverse_path: String, parameters: String },
    Recipient(String),
    Data,
    Deliver,
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    state: State,
    hello_said: bool,
    reverse_path: Option<(String, String)>,
    recipients: Vec<String>,
    intake: Option<Intake>,
    keep_bytes_max: u64,
    /// What to do after a wait.
    held: Option<(Duration, Plan, Act)>,
    ending: bool,
}

impl Session {
    pub(super) fn new(keep_bytes_max: u64) -> Self {
        Self {
            state: State::Command,
            hello_said: false,
            reverse_path: None,
            recipients: Vec::new(),
            intake: None,
            keep_bytes_max,
            held: None,
            ending: false,
        }
    }

    /// The first thing said.
    pub(super) fn greet(&mut self, to: &mut Turn<'_>) -> Flow {
        self.decide(Stage::Connect, "", Plan::Greet, to);
        self.flow()
    }

    /// Goes on with what is in `input`, as far as it goes.
    pub(super) fn step(&mut self, input: &mut BytesMut, to: &mut Turn<'_>) -> Flow {
        if let Some((_, plan, act)) = self.held.take() {
            self.carry_out(plan, act, to);
        }
        while !self.ending && self.held.is_none() {
            let went_on = match self.state {
                State::Command => self.command(input, to),
                State::Data => self.data(input, to),
                State::Chunk { left, last } => self.chunk(left, last, input, to),
            };
            if !went_on {
                break;
            }
        }
        self.flow()
    }

    /// The client closed its side.
    pub(super) fn client_closed(&self, input: &BytesMut, to: &mut Turn<'_>) {
        if matches!(self.state, State::Command) && !input.is_empty() && !self.ending {
            to.outcome.faults.push("closed within a command line");
        }
    }

    fn flow(&self) -> Flow {
        match (&self.held, self.ending) {
            (_, true) => Flow::Close,
            (Some((delay, _, _)), false) => Flow::Wait(*delay),
            (None, false) => Flow::Read,
        }
    }

    fn command(&mut self, input: &mut BytesMut, to: &mut Turn<'_>) -> bool {
        let Some(end) = memchr::memchr(b'\n', input) else {
            if input.len() > COMMAND_BYTES_MAX {
                to.outcome.faults.push("a command line without an end");
                to.say(500, "5.5.2 Line too long");
                self.ending = true;
            }
            return false;
        };
        let line = input.split_to(end + 1);
        let Some(line) = line.strip_suffix(b"\r\n") else {
            to.outcome.faults.push("a command line that ends in a bare LF");
            to.say(500, "5.5.2 Lines end in CRLF");
            return true;
        };
        if line.len() + 2 > COMMAND_BYTES_MAX || line.contains(&b'\r') || line.contains(&0) {
            to.outcome.faults.push("a command line too long, or with CR or NUL in it");
            to.say(500, "5.5.2 Bad line");
            return true;
        }
        let line = String::from_utf8_lossy(line).into_owned();
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let verb = verb.to_ascii_uppercase();
        let ahead = !input.is_empty();
        // RFC 2920 3.1: these must be the last of a group; what comes after waits for their reply.
        let ends_group =
            matches!(verb.as_str(), "EHLO" | "HELO" | "DATA" | "VRFY" | "EXPN" | "QUIT" | "NOOP");
        if ahead && verb != "BDAT" && (ends_group || !to.behaviour.extensions.pipelining) {
            to.outcome.faults.push("bytes sent ahead of a reply that had to be awaited");
        }
        self.dispatch(&verb, rest, to);
        true
    }

    fn dispatch(&mut self, verb: &str, rest: &str, to: &mut Turn<'_>) {
        match verb {
            // RFC 2033 4.1: LHLO and nothing else.
            "EHLO" | "HELO" if to.behaviour.lmtp => to.say(500, "5.5.1 Say LHLO"),
            "LHLO" if to.behaviour.lmtp => self.decide(Stage::Hello, "", Plan::Hello { extended: true }, to),
            "EHLO" if to.behaviour.helo_only => to.say(502, "5.5.1 Say HELO"),
            "EHLO" | "HELO" => {
                if rest.trim().is_empty() {
                    to.outcome.faults.push("a hello without a name");
                }
                self.decide(Stage::Hello, "", Plan::Hello { extended: verb == "EHLO" }, to);
            }
            "MAIL" => self.mail(rest, to),
            "RCPT" => self.recipient(rest, to),
            "DATA" => {
                if self.recipients.is_empty() {
                    // With pipelining this is how a client learns that no recipient was taken.
                    if self.reverse_path.is_none() && !to.behaviour.extensions.pipelining {
                        to.outcome.faults.push("DATA without MAIL");
                    }
                    to.say(503, "5.5.1 No valid recipients");
                } else {
                    self.decide(Stage::Data, "", Plan::Data, to);
                }
            }
            "BDAT" => self.begin_chunk(rest, to),
            "RSET" => {
                self.reset();
                to.say(250, "2.0.0 Reset");
            }
            "NOOP" => to.say(250, "2.0.0 Nothing done"),
            "VRFY" => to.say(252, "2.5.0 Try it"),
            "QUIT" => {
                to.say(221, "2.0.0 Bye");
                self.ending = true;
            }
            _ => {
                to.outcome.faults.push("an unknown command");
                to.say(500, "5.5.1 Unknown command");
            }
        }
    }

    fn mail(&mut self, rest: &str, to: &mut Turn<'_>) {
        if !self.hello_said || self.reverse_path.is_some() {
            to.outcome.faults.push("MAIL out of order");
            return to.say(503, "5.5.1 Out of order");
        }
        let Some((reverse_path, parameters)) = path(rest, "FROM:") else {
            to.outcome.faults.push("MAIL with a bad path");
            return to.say(501, "5.5.4 Bad path");
        };
        let size = parameters.split(' ').find_map(|word| word.strip_prefix("SIZE=")?.parse::<u64>().ok());
        if size.is_some_and(|size| size > to.size_max_bytes()) {
            return to.say(552, "5.3.4 Too large");
        }
        let plan = Plan::Mail { reverse_path: reverse_path.to_owned(), parameters: parameters.to_owned() };
        self.decide(Stage::Mail, "", plan, to);
    }

    fn recipient(&mut self, rest: &str, to: &mut Turn<'_>) {
        if self.reverse_path.is_none() {
            // With pipelining a RCPT may follow a MAIL that was refused.
            if !to.behaviour.extensions.pipelining {
                to.outcome.faults.push("RCPT out of order");
            }
            return to.say(503, "5.5.1 Out of order");
        }
        let Some((address, _)) = path(rest, "TO:").filter(|(address, _)| !address.is_empty()) else {
            to.outcome.faults.push("RCPT with a bad path");
            return to.say(501, "5.5.4 Bad path");
        };
        if self.recipients.len() >= RECIPIENTS_MAX {
            return to.say(452, "4.5.3 Too many recipients");
        }
        let local_part = address.rsplit_once('@').map_or(address, |(local_part, _)| local_part);
        self.decide(Stage::Recipient, local_part, Plan::Recipient(address.to_owned()), to);
    }

    fn begin_chunk(&mut self, rest: &str, to: &mut Turn<'_>) {
        let mut words = rest.split(' ').filter(|word| !word.is_empty());
        let left = words.next().and_then(|word| word.parse::<u64>().ok());
        let last = words.next().map(|word| word.eq_ignore_ascii_case("LAST"));
        let (Some(left), true) = (left, last != Some(false) && words.next().is_none()) else {
            to.outcome.faults.push("a bad BDAT");
            to.say(501, "5.5.4 Bad BDAT");
            // The bytes that follow cannot be told from commands.
            self.ending = true;
            return;
        };
        if !to.behaviour.extensions.chunking {
            to.outcome.faults.push("BDAT that was not offered");
        }
        self.state = State::Chunk { left, last: last.is_some() };
        self.intake.get_or_insert_with(|| Intake::new(self.keep_bytes_max));
    }

    fn chunk(&mut self, left: u64, last: bool, input: &mut BytesMut, to: &mut Turn<'_>) -> bool {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        if let Some(intake) = &mut self.intake {
            intake.push(input.get(..here).unwrap_or_default());
        }
        input.advance(here);
        let left = left - here as u64;
        self.state = State::Chunk { left, last };
        if left > 0 {
            return false;
        }
        self.state = State::Command;
        if self.recipients.is_empty() {
            self.reset();
            to.say(503, "5.5.1 No valid recipients");
        } else if last {
            self.end_of_message(to);
        } else {
            self.decide(Stage::Data, "", Plan::Say(250, "2.0.0 Chunk taken".to_owned()), to);
        }
        true
    }

    fn data(&mut self, input: &mut BytesMut, to: &mut Turn<'_>) -> bool {
        let Some(intake) = &mut self.intake else { return false };
        let progress = intake.data(input, &mut to.outcome.faults);
        input.advance(progress.used);
        if progress.ended {
            if !input.is_empty() && !to.behaviour.extensions.pipelining {
                to.outcome.faults.push("bytes sent ahead of a reply that had to be awaited");
            }
            self.state = State::Command;
            self.end_of_message(to);
        }
        progress.ended
    }

    fn end_of_message(&mut self, to: &mut Turn<'_>) {
        if !to.behaviour.lmtp {
            return self.decide(Stage::FinalDot, "", Plan::Deliver, to);
        }
        // RFC 2033 4.2: one reply for each recipient. Those who are refused have no part in the delivery.
        let acts: Vec<(String, Act)> = std::mem::take(&mut self.recipients)
            .into_iter()
            .map(|address| {
                let local_part = address.rsplit_once('@').map_or("", |(local_part, _)| local_part);
                let act = (to.rules)(Stage::FinalDot, local_part).map_or(Act::Pass, |(_, act)| act);
                (address, act)
            })
            .collect();
        let taken = acts.iter().filter(|(_, act)| matches!(act, Act::Pass | Act::TakeThenDrop));
        self.recipients = taken.map(|(address, _)| address.clone()).collect();
        if self.recipients.is_empty() {
            self.reset();
        } else {
            let said = to.outcome.output.len();
            self.deliver(to);
            to.outcome.output.truncate(said);
        }
        for (_, act) in acts {
            match act {
                Act::Pass => to.say(250, "2.0.0 Taken"),
                Act::Reply { code, text } => to.say(code, &text),
                Act::Drop | Act::TakeThenDrop => {
                    self.ending = true;
                    return;
                }
            }
        }
    }

    /// Asks the rules. Without one, or when it does not wait, carries out at once.
    fn decide(&mut self, stage: Stage, local_part: &str, plan: Plan, to: &mut Turn<'_>) {
        let (delay, act) = (to.rules)(stage, local_part).unwrap_or((Duration::ZERO, Act::Pass));
        if delay.is_zero() {
            self.carry_out(plan, act, to);
        } else {
            self.held = Some((delay, plan, act));
        }
    }

    fn carry_out(&mut self, plan: Plan, act: Act, to: &mut Turn<'_>) {
        match act {
            Act::Pass => self.follow(plan, to),
            Act::Reply { code, text } => {
                to.say(code, &text);
                if matches!(plan, Plan::Deliver) {
                    self.reset();
                }
                // A greeting that refuses leaves nothing to talk about.
                self.ending = code == 421 || (matches!(plan, Plan::Greet) && code >= 400);
            }
            Act::Drop => self.ending = true,
            Act::TakeThenDrop => {
                if matches!(plan, Plan::Deliver) {
                    let said = to.outcome.output.len();
                    self.follow(plan, to);
                    to.outcome.output.truncate(said);
                }
                self.ending = true;
            }
        }
    }

    fn follow(&mut self, plan: Plan, to: &mut Turn<'_>) {
        match plan {
            Plan::Greet => to.say(220, "sink.test ESMTP"),
            Plan::Say(code, text) => to.say(code, &text),
            Plan::Hello { extended } => {
                self.hello_said = true;
                self.reset();
                if extended { to.say_extensions() } else { to.say(250, "sink.test") }
            }
            Plan::Mail { reverse_path, parameters } => {
                self.reverse_path = Some((reverse_path, parameters));
                to.say(250, "2.1.0 Sender ok");
            }
            Plan::Recipient(address) => {
                self.recipients.push(address);
                to.say(250, "2.1.5 Recipient ok");
            }
            Plan::Data => {
                self.state = State::Data;
                self.intake = Some(Intake::new(self.keep_bytes_max));
                to.say(354, "Go ahead");
            }
            Plan::Deliver => self.deliver(to),
        }
    }

    fn deliver(&mut self, to: &mut Turn<'_>) {
        let Some(intake) = self.intake.take() else { return };
        let too_large = intake.size_bytes() > to.size_max_bytes();
        let (reverse_path, mail_parameters) = self.reverse_path.take().unwrap_or_default();
        let recipients = std::mem::take(&mut self.recipients);
        if too_large {
            return to.say(552, "5.3.4 Too large");
        }
        let taken = intake.finish();
        to.outcome.deliveries.push(Delivery {
            at: to.now,
            probe: taken.probe,
            id: taken.id,
            reverse_path,
            recipients,
            mail_parameters,
            size_bytes: taken.size_bytes,
            checksum: taken.checksum,
            content: taken.content,
        });
        to.say(250, "2.0.0 Taken");
    }

    fn reset(&mut self) {
        self.reverse_path = None;
        self.recipients.clear();
        self.intake = None;
    }
}

/// What one step may use.
pub(super) struct Turn<'a> {
    pub(super) now: Moment,
    pub(super) behaviour: &'a Behaviour,
    pub(super) rules: Rules<'a>,
    pub(super) outcome: &'a mut Outcome,
}

impl Turn<'_> {
    fn size_max_bytes(&self) -> u64 {
        self.behaviour.extensions.size_max_bytes.unwrap_or(Extensions::SIZE_DEFAULT)
    }

    fn say(&mut self, code: u16, text: &str) {
        if self.behaviour.multi_line {
            for more in ["first of three lines", "second of three lines"] {
                self.line(code, '-', more);
            }
        }
        self.line(code, ' ', text);
    }

    fn line(&mut self, code: u16, separator: char, text: &str) {
        let line = format!("{code}{separator}{text}\r\n");
        self.outcome.output.extend_from_slice(line.as_bytes());
    }

    fn say_extensions(&mut self) {
        let offered = &self.behaviour.extensions;
        let mut lines = vec!["sink.test".to_owned()];
        let flags = [
            (offered.pipelining, "PIPELINING"),
            (offered.chunking, "CHUNKING"),
            (offered.dsn, "DSN"),
            (offered.eight_bit_mime, "8BITMIME"),
            (offered.smtp_utf8, "SMTPUTF8"),
            (offered.enhanced_status_codes, "ENHANCEDSTATUSCODES"),
        ];
        lines.extend(flags.iter().filter(|(on, _)| *on).map(|(_, keyword)| (*keyword).to_owned()));
        lines.extend(offered.size_max_bytes.map(|size| format!("SIZE {size}")));
        let last = lines.pop().unwrap_or_default();
        for line in lines {
            self.line(250, '-', &line);
        }
        self.line(250, ' ', &last);
    }
}

/// Reads `FROM:<path> parameters`. The path may hold a quoted local part with `>` in it.
fn path<'a>(text: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let start = text.get(..keyword.len()).filter(|word| word.eq_ignore_ascii_case(keyword))?;
    let inner = text.get(start.len()..)?.trim_start().strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    let end = inner.find(|c| {
        let ends = c == '>' && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            _ => {}
        }
        ends
    })?;
    let (address, rest) = inner.split_at(end);
    let parameters = rest.strip_prefix('>')?;
    (parameters.is_empty() || parameters.starts_with(' ')).then(|| (address, parameters.trim()))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
