//! The receiving side of SMTP as a machine. RFC 5321 4, with PIPELINING (2920), SIZE (1870), 8BITMIME (6152), SMTPUTF8
//! (6531), CHUNKING (3030), DSN (3461), STARTTLS (3207), AUTH (4954) and ENHANCEDSTATUSCODES (2034).
//!
//! One door: [`Session::step`] takes an event and the input buffer, reads from the buffer as far as it can, and says what
//! to do. The shell owns socket and buffer, answers the questions, and looks at [`Session::deadline`] when it waits.
//!
//! | state    | takes input as    | leaves to                                                              |
//! |----------|-------------------|------------------------------------------------------------------------|
//! | Greeting | –                 | Command (`Greet(Ready)`), Closed                                       |
//! | Command  | command lines     | Waiting (MAIL, RCPT, DATA, first BDAT, STARTTLS, AUTH, XCLIENT), Chunk, Closed (QUIT, 421)|
//! | Waiting  | –                 | Command, Data (354), Chunk, Authenticating (334): by the shell's answer; Closed (refused) |
//! | Authenticating | a response  | Waiting, Command (`*` or a fault)                                      |
//! | Data     | dotted lines      | Waiting (end of a good message), Command (end of a refused one)        |
//! | Chunk    | counted bytes     | Waiting (end of the last chunk), Command                               |
//! | Closed   | –                 | never                                                                  |
//!
//! Replies do not depend on how the input was cut, and replies to pipelined commands leave together, when the buffer has
//! nothing more to read. One exception, on purpose: RFC 2920 3.1 makes DATA the last command of a group. When we answer 354,
//! bytes that are already there are the message, as they would be a moment later. When we refuse DATA, nobody can tell
//! whether such bytes are commands or a message, and reading a message as commands would let its author speak for its
//! sender; so the session ends with 421 (Postfix's `smtpd_forbid_unauth_pipelining` closes too).
//!
//! Never: a message reported as whole before its true end, a reply to its end before the shell said what became of it,
//! a second question while one is open.

mod answer;
mod authentication;
mod commands;
mod config;
mod event;
mod login;
mod receipt;

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use mail_model::{Envelope, Moment, Recipient, Reply, TAKEN_BEFORE};

pub use self::config::{EarlyTalk, Extensions, Pipelining, SessionConfig};
pub use self::event::{
    AbortReason, Action, AuthStep, Authentication, Event, Greeting, MessageStart, Protection, SenderRequest,
    Storage, Verdict,
};

use self::answer::Answer;
use self::login::Login;
use self::receipt::Receipt;
use crate::command::{self, ChunkHeader, Command, SyntaxError};
use crate::dot::{Decoded, DotDecoder};
use crate::line::{Line, LineFault, LineReader};
use crate::{chunk, limits, reply};

#[derive(Debug)]
enum State {
    Greeting,
    Command,
    Waiting(Question),
    Authenticating,
    Data(DotDecoder),
    Chunk { remaining: u64, last: bool },
    Closed,
}

/// What the shell was asked, with what is needed to go on.
#[derive(Debug)]
enum Question {
    Sender(Box<Mail>),
    Recipient(Box<Recipient>),
    Data,
    Chunk(ChunkHeader),
    Stored,
    Tls,
    Client,
    Authentication,
}

/// EHLO or HELO.
#[derive(Debug)]
struct Hello {
    name: Box<str>,
    extended: bool,
}

/// A message between MAIL and its content.
#[derive(Debug)]
struct Mail {
    envelope: Envelope,
    size: Option<u64>,
    once: Option<Box<str>>,
}

/// Why a session is to close.
#[derive(Debug)]
enum Leaving {
    ShuttingDown,
    SentAway(Reply),
}

/// What a client did since its session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Command lines.
    pub commands: u64,
    /// What was refused of all it did.
    pub errors: u64,
}

/// One connection of a client.
#[derive(Debug)]
pub struct Session {
    config: Arc<SessionConfig>,
    state: State,
    protection: Protection,
    believes_xclient: bool,
    knows_repeats: bool,
    login: Login,
    lines: LineReader,
    hello: Option<Hello>,
    mail: Option<Mail>,
    /// There from the 354 or the first BDAT on, until the message is answered.
    receipt: Option<Receipt>,
    /// Replies that were not sent yet.
    replies: BytesMut,
    errors: u32,
    commands_without_mail: u32,
    input_ended: bool,
    /// Why the session is to close as soon as it may.
    leaving: Option<Leaving>,
    usage: Usage,
    began: Moment,
    /// When the client last completed a command or sent content, or we last answered.
    active: Moment,
}

impl Session {
    /// A session on a fresh connection. Its first event is [`Event::Greet`].
    #[must_use]
    pub fn new(config: impl Into<Arc<SessionConfig>>, now: Moment) -> Self {
        let config = config.into();
        Self {
            lines: LineReader::new(config.limits.command_line),
            config,
            state: State::Greeting,
            protection: Protection::None,
            believes_xclient: false,
            knows_repeats: false,
            login: Login::default(),
            hello: None,
            mail: None,
            receipt: None,
            replies: BytesMut::new(),
            errors: 0,
            commands_without_mail: 0,
            input_ended: false,
            leaving: None,
            usage: Usage::default(),
            began: now,
            active: now,
        }
    }

    /// The same with what protects its connection.
    #[must_use]
    pub fn protected(self, protection: Protection) -> Self {
        Self { protection, ..self }
    }

    /// The same with whether its client may say whose session it passes on. RFC 5321 knows no such command; it is Postfix's.
    #[must_use]
    pub fn believing_xclient(self, believes_xclient: bool) -> Self {
        Self { believes_xclient, ..self }
    }

    /// Takes `event`, reads `input` as far as possible and appends what is to be done to `out`.
    /// An answer that nobody asked for is a fault of the shell: the session closes with 421.
    pub fn step(&mut self, now: Moment, event: Event, input: &mut BytesMut, out: &mut Vec<Action>) {
        if matches!(self.state, State::Closed) {
            input.clear();
            return;
        }
        match event {
            Event::Input => {}
            Event::EndOfInput => self.input_ended = true,
            Event::Shutdown => self.leaving = Some(Leaving::ShuttingDown),
            Event::SendAway(reply) => self.leaving = Some(Leaving::SentAway(reply)),
            Event::DeadlineReached => self.deadline_reached(now, out),
            Event::Greet(greeting) => self.greet(now, greeting, input, out),
            Event::Sender(verdict) => self.sender_answered(now, verdict, out),
            Event::Recipient(verdict) => self.recipient_answered(now, verdict, out),
            Event::Message(verdict) => self.message_answered(now, verdict, input, out),
            Event::Stored(storage) => self.stored(now, storage, out),
            Event::Secured => self.secured(now, input, out),
            Event::Authentication(said) => self.authentication_answered(now, said, out),
        }
        self.pump(now, input, out);
    }

    /// When [`Event::DeadlineReached`] is due; `None` while the shell, not the client, is to act.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let limits = &self.config.limits;
        match &self.state {
            State::Greeting | State::Waiting(_) | State::Closed => None,
            State::Command | State::Authenticating => {
                let idle = self.active + limits::span(limits.command_ms);
                let old = self.began + limits::span(limits.session_ms);
                // Between commands, but not between messages: what is begun may be ended.
                Some(if self.is_idle() { idle.min(old.max(self.active)) } else { idle })
            }
            State::Data(_) | State::Chunk { .. } => {
                let silence = self.active + limits::span(limits.data_ms);
                let began = self.receipt.as_ref().map_or(self.active, |receipt| receipt.began);
                let came = self.receipt.as_ref().map_or(0, Receipt::received_octets);
                let earned = came.saturating_mul(1_000).checked_div(limits.data_rate);
                let slow = earned.map(|ms| began + limits::span(limits.data_ms) + limits::span(ms));
                let whole = began + limits::span(limits.message_ms);
                Some(silence.min(whole).min(slow.unwrap_or(whole)))
            }
        }
    }

    /// True if the session waits for bytes of the client: the shell reads.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        matches!(self.state, State::Command | State::Authenticating | State::Data(_) | State::Chunk { .. })
    }

    /// True after [`Action::Close`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// True if the client is between messages: nothing is lost by closing now.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Greeting | State::Command | State::Authenticating | State::Closed)
            && self.mail.is_none()
    }

    /// The name the client gave itself, if it did.
    #[must_use]
    pub fn client_name(&self) -> Option<&str> {
        self.hello.as_ref().map(|hello| &*hello.name)
    }

    /// What the client did so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Errors since the last stored message.
    #[must_use]
    pub fn errors_in_a_row(&self) -> u32 {
        self.errors
    }

    // ---- reading -------------------------------------------------------------------------------------------------

    fn pump(&mut self, now: Moment, input: &mut BytesMut, out: &mut Vec<Action>) {
        while self.wants_input() {
            if let Some(leaving) = self.leaving.take() {
                self.leave(leaving, out);
                break;
            }
            let moved = match &mut self.state {
                State::Command => self.read_command(now, input, out),
                State::Authenticating => self.read_response(now, input, out),
                State::Data(_) => self.read_data(now, input, out),
                State::Chunk { .. } => self.read_chunk(now, input, out),
                State::Greeting | State::Waiting(_) | State::Closed => false,
            };
            if !moved {
                break;
            }
        }
        if matches!(self.state, State::Greeting)
            && let Some(leaving) = self.leaving.take()
        {
            self.leave(leaving, out);
        }
        if self.input_ended && !matches!(self.state, State::Waiting(_) | State::Closed) {
            // RFC 5321 4.1.1.4: what did not end was never sent.
            self.close_silently(AbortReason::ConnectionLost, out);
        }
        if !matches!(self.state, State::Waiting(_) | State::Closed) {
            self.flush(out);
        }
    }

    fn read_command(&mut self, now: Moment, input: &mut BytesMut, out: &mut Vec<Action>) -> bool {
        match self.lines.next(input) {
            Line::Incomplete => return false,
            Line::Refused(fault) => {
                self.usage.commands += 1;
                self.error(answer::line_fault(fault), out);
            }
            Line::Complete(length) => {
                self.usage.commands += 1;
                let parsed = command::parse(input.get(..length).unwrap_or_default());
                input.advance(length + 2);
                let too_long = length + 2 > self.config.limits.command_line;
                match parsed {
                    // RFC 4954 4: only AUTH may be so long.
                    Ok(Command::Auth(request)) => self.authenticate(&request, out),
                    Ok(_) | Err(_) if too_long => self.error(answer::line_fault(LineFault::TooLong), out),
                    Ok(command) if !input.is_empty() && self.must_be_last(&command) => {
                        self.usage.errors += 1;
                        self.close(answer::UNAUTHORIZED_GROUP, AbortReason::Closed, out);
                    }
                    Ok(command) => self.command(now, command, input, out),
                    // What follows such a BDAT cannot be told from commands, so nothing more is read.
                    Err(SyntaxError::ChunkSize) => self.close(answer::CHUNK_SIZE, AbortReason::Closed, out),
                    Err(error) => self.error(answer::syntax(error), out),
                }
            }
        }
        self.active = now;
        true
    }

    fn read_data(&mut self, now: Moment, input: &mut BytesMut, out: &mut Vec<Action>) -> bool {
        let (State::Data(decoder), Some(receipt)) = (&mut self.state, &mut self.receipt) else {
            return false;
        };
        let found = decoder.decode(input);
        receipt.fault(decoder.fault(), out);
        match found {
            Decoded::More => false,
            Decoded::Body(piece) => {
                receipt.take(piece, self.config.limits.message_size, out);
                self.active = now;
                true
            }
            Decoded::End => {
                self.end_of_message(out);
                self.active = now;
                true
            }
        }
    }

    fn read_chunk(&mut self, now: Moment, input: &mut BytesMut, out: &mut Vec<Action>) -> bool {
        let (State::Chunk { remaining, last }, Some(receipt)) = (&mut self.state, &mut self.receipt) else {
            return false;
        };
        let piece = chunk::take(remaining, input);
        if !piece.is_empty() {
            receipt.watch_line_ends(&piece, out);
            receipt.take(piece, self.config.limits.message_size, out);
            self.active = now;
        }
        if *remaining > 0 {
            return false;
        }
        if *last {
            receipt.end_line_ends(out);
            self.end_of_message(out);
            return true;
        }
        self.state = State::Command;
        match receipt.failure() {
            None => self.say(answer::CHUNK_OK),
            Some(failure) => {
                if self.mail.is_none() {
                    self.receipt = None;
                }
                self.refuse(failure, out);
            }
        }
        true
    }

    /// The content is whole: it is refused, or the shell is asked what became of it.
    fn end_of_message(&mut self, out: &mut Vec<Action>) {
        if let Some(failure) = self.receipt.as_ref().and_then(Receipt::failure) {
            self.state = State::Command;
            self.forget_message();
            self.refuse(failure, out);
        } else {
            // From here on its fate is the shell's answer alone.
            self.receipt = None;
            self.ask(Question::Stored, Action::EndOfMessage, out);
        }
    }

    // ---- answers of the shell ------------------------------------------------------------------------------------

    fn ask(&mut self, question: Question, action: Action, out: &mut Vec<Action>) {
        self.state = State::Waiting(question);
        out.push(action);
    }

    /// The open question, if there is one; the session then reads commands unless something else is said.
    fn answered(&mut self, now: Moment) -> Option<Question> {
        match std::mem::replace(&mut self.state, State::Command) {
            State::Waiting(question) => {
                self.active = now;
                Some(question)
            }
            State::Greeting
            | State::Command
            | State::Authenticating
            | State::Data(_)
            | State::Chunk { .. }
            | State::Closed => None,
        }
    }

    fn sender_answered(&mut self, now: Moment, verdict: Verdict, out: &mut Vec<Action>) {
        let Some(Question::Sender(mail)) = self.answered(now) else {
            return self.close(answer::LOCAL_ERROR, AbortReason::Closed, out);
        };
        match verdict {
            Verdict::Accept => {
                self.mail = Some(*mail);
                self.say(answer::SENDER_OK);
            }
            Verdict::Refuse(reply) => self.refuse(Answer::Given(reply), out),
        }
    }

    fn recipient_answered(&mut self, now: Moment, verdict: Verdict, out: &mut Vec<Action>) {
        let (Some(Question::Recipient(recipient)), Some(mail)) = (self.answered(now), &mut self.mail) else {
            return self.close(answer::LOCAL_ERROR, AbortReason::Closed, out);
        };
        match verdict {
            Verdict::Accept => {
                mail.envelope.recipients.push(*recipient);
                self.say(answer::RECIPIENT_OK);
            }
            Verdict::Refuse(reply) => self.refuse(Answer::Given(reply), out),
        }
    }

    fn message_answered(&mut self, now: Moment, verdict: Verdict, input: &BytesMut, out: &mut Vec<Action>) {
        match (self.answered(now), verdict) {
            (Some(Question::Data), Verdict::Accept) => {
                self.receipt = Some(Receipt::open(now));
                self.state = State::Data(DotDecoder::default());
                self.say(answer::GO_AHEAD);
            }
            (Some(Question::Data), Verdict::Refuse(reply)) => {
                self.forget_message();
                self.refuse_data(Answer::Given(reply), input, out);
            }
            (Some(Question::Chunk(header)), verdict) => {
                self.receipt = Some(match verdict {
                    Verdict::Accept => Receipt::open(now),
                    Verdict::Refuse(reply) => Receipt::refused(Answer::Given(reply), now),
                });
                self.state = State::Chunk { remaining: header.octets, last: header.last };
            }
            (
                Some(
                    Question::Sender(_)
                    | Question::Recipient(_)
                    | Question::Stored
                    | Question::Tls
                    | Question::Client
                    | Question::Authentication,
                )
                | None,
                _,
            ) => {
                self.close(answer::LOCAL_ERROR, AbortReason::Closed, out);
            }
        }
    }

    fn stored(&mut self, now: Moment, storage: Storage, out: &mut Vec<Action>) {
        let Some(Question::Stored) = self.answered(now) else {
            return self.close(answer::LOCAL_ERROR, AbortReason::Closed, out);
        };
        self.forget_message();
        let taken = match storage {
            Storage::Stored(id) => format!("2.0.0 queued as {id}"),
            Storage::Repeated(id) => format!("2.0.0 {TAKEN_BEFORE} {id}"),
            Storage::Refused(reply) => return self.refuse(Answer::Given(reply), out),
        };
        self.errors = 0;
        self.commands_without_mail = 0;
        reply::write(&Reply::from_peer(250, &taken), &mut self.replies);
    }

    // ---- greeting, errors, the end -------------------------------------------------------------------------------

    fn greet(&mut self, now: Moment, greeting: Greeting, input: &BytesMut, out: &mut Vec<Action>) {
        // Who passes on a client may send that client's commands right behind, as in any group.
        let reintroduced = matches!(self.state, State::Waiting(Question::Client));
        if !reintroduced && !matches!(self.state, State::Greeting) {
            return self.close(answer::LOCAL_ERROR, AbortReason::Closed, out);
        }
        match greeting {
            Greeting::Refuse(reply) => {
                reply::write(&reply::refusal(reply), &mut self.replies);
                self.close_silently(AbortReason::Closed, out);
            }
            Greeting::NotReady => self.close(answer::NOT_READY, AbortReason::Closed, out),
            Greeting::Ready
                if !reintroduced && !input.is_empty() && self.config.early_talk == EarlyTalk::Refuse =>
            {
                self.close(answer::EARLY_TALK, AbortReason::Closed, out);
            }
            Greeting::Ready => {
                self.replies.extend_from_slice(format!("220 {} ESMTP\r\n", self.config.hostname).as_bytes());
                self.state = State::Command;
                self.active = now;
            }
        }
    }

    fn deadline_reached(&mut self, now: Moment, out: &mut Vec<Action>) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.close(answer::TIMED_OUT, AbortReason::TimedOut, out);
        }
    }

    fn say(&mut self, line: &'static str) {
        self.replies.extend_from_slice(line.as_bytes());
        self.replies.extend_from_slice(b"\r\n");
    }

    /// A command that is answered but brings no message nearer.
    fn without_mail(&mut self, line: &'static str, out: &mut Vec<Action>) {
        self.say(line);
        self.count_command(out);
    }

    fn count_command(&mut self, out: &mut Vec<Action>) {
        self.commands_without_mail += 1;
        if self.commands_without_mail > self.config.limits.commands_without_mail {
            self.close(answer::TOO_MANY_COMMANDS, AbortReason::Closed, out);
        }
    }

    fn error(&mut self, line: &'static str, out: &mut Vec<Action>) {
        self.refuse(Answer::Ours(line), out);
    }

    /// Says no, and counts it: a client that errs without end is sent away.
    fn refuse(&mut self, refusal: Answer, out: &mut Vec<Action>) {
        match refusal {
            Answer::Ours(line) => self.say(line),
            Answer::Given(reply) => reply::write(&reply::refusal(reply), &mut self.replies),
        }
        self.errors += 1;
        self.usage.errors += 1;
        if self.errors > self.config.limits.errors {
            self.close(answer::TOO_MANY_ERRORS, AbortReason::Closed, out);
        }
    }

    /// Back to before MAIL; whatever the shell holds was dealt with.
    fn forget_message(&mut self) {
        self.mail = None;
        self.receipt = None;
    }

    fn abort(&mut self, reason: AbortReason, out: &mut Vec<Action>) {
        if let Some(receipt) = &mut self.receipt {
            receipt.abort(reason, out);
        }
        self.forget_message();
    }

    fn leave(&mut self, leaving: Leaving, out: &mut Vec<Action>) {
        match leaving {
            Leaving::ShuttingDown => self.close(answer::SHUTDOWN, AbortReason::ShuttingDown, out),
            Leaving::SentAway(reply) => {
                reply::write(&reply::refusal(reply), &mut self.replies);
                self.close_silently(AbortReason::Closed, out);
            }
        }
    }

    fn close(&mut self, line: &'static str, reason: AbortReason, out: &mut Vec<Action>) {
        self.say(line);
        self.close_silently(reason, out);
    }

    fn close_silently(&mut self, reason: AbortReason, out: &mut Vec<Action>) {
        self.abort(reason, out);
        self.flush(out);
        out.push(Action::Close);
        self.state = State::Closed;
    }

    fn flush(&mut self, out: &mut Vec<Action>) {
        if !self.replies.is_empty() {
            out.push(Action::Send(self.replies.split().freeze()));
        }
    }
}
