//! AUTH: the exchange as SMTP frames it. RFC 4954.
//!
//! | command or line                         | reply                        | then           |
//! |-----------------------------------------|------------------------------|----------------|
//! | AUTH where nobody may                   | 502 5.5.1                    | Command        |
//! | AUTH before EHLO, in a message, twice   | 503 5.5.1                    | Command        |
//! | AUTH in clear                           | 538 5.7.11                   | Command        |
//! | AUTH with a mechanism not offered       | 504 5.5.4                    | Command        |
//! | a response that is no base64            | 501 5.5.2                    | Command        |
//! | `*`                                     | 501 5.7.0                    | Command        |
//! | a line that is too long                 | 500 5.5.6                    | Command        |
//! | a message of the mechanism              | what the shell answers: 334, 235, 4yz, 5yz | Authenticating, Command |
//!
//! Never: a mechanism offered without TLS, since a password in clear is everybody's.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use mail_model::{Moment, Reply};

use super::answer::{self, Answer};
use super::event::{AbortReason, Action, AuthStep, Authentication, Protection};
use super::{Question, Session, State};
use crate::command::AuthRequest;
use crate::line::{Line, LineFault, LineReader};
use crate::sasl::{self, Mechanism};

impl Session {
    /// The same for mail submission (RFC 6409): these mechanisms are offered under TLS, and no message begins before one of
    /// them was used. With none nothing changes.
    #[must_use]
    pub fn authenticating(self, mechanisms: impl Into<Arc<[Mechanism]>>) -> Self {
        let mut session = self;
        session.login.mechanisms = mechanisms.into();
        session.lines = LineReader::new(session.line_octets_max());
        session
    }

    /// The longest line that is read: that of an exchange where there may be one.
    pub(super) fn line_octets_max(&self) -> usize {
        let command = self.config.limits.command_line;
        if self.login.mechanisms.is_empty() { command } else { command.max(sasl::LINE_OCTETS_MAX) }
    }

    /// What EHLO offers; `None` if nothing.
    pub(super) fn offer(&self) -> Option<String> {
        if self.login.mechanisms.is_empty() || self.protection != Protection::Tls {
            return None;
        }
        let names = self.login.mechanisms.iter().map(|mechanism| format!(" {}", mechanism.name()));
        Some(names.fold("AUTH".to_owned(), |line, name| line + &name))
    }

    /// Why no message may begin yet.
    pub(super) fn must_authenticate(&self) -> Option<&'static str> {
        if self.login.mechanisms.is_empty() || self.login.done {
            None
        } else if self.protection == Protection::Tls {
            Some(answer::AUTHENTICATE_FIRST)
        } else {
            // RFC 3207 4.
            Some(answer::TLS_FIRST)
        }
    }

    pub(super) fn authenticate(&mut self, request: &AuthRequest, out: &mut Vec<Action>) {
        let extended = self.hello.as_ref().is_some_and(|hello| hello.extended);
        let refusal = if self.login.mechanisms.is_empty() {
            answer::NOT_IMPLEMENTED
        } else if !extended {
            answer::EXTENDED_HELLO_FIRST
        } else if self.login.done {
            answer::AUTHENTICATED_ALREADY
        } else if self.mail.is_some() {
            answer::AUTH_IN_MAIL
        } else if self.protection != Protection::Tls {
            answer::AUTH_IN_CLEAR
        } else {
            let mechanism = Mechanism::named(&request.mechanism);
            let Some(mechanism) = mechanism.filter(|mechanism| self.login.mechanisms.contains(mechanism))
            else {
                return self.error(answer::NO_SUCH_MECHANISM, out);
            };
            let initial = match request.initial.as_deref() {
                None => Some(None),
                // RFC 4954 4: an initial response of no octets.
                Some("=") => Some(Some(Vec::new())),
                Some(text) => sasl::decode(text.as_bytes()).map(Some),
            };
            let Some(initial) = initial else { return self.error(answer::NOT_BASE64, out) };
            let step = AuthStep::Begin { mechanism, initial: initial.map(Bytes::from) };
            return self.ask(Question::Authentication, Action::Authenticate(step), out);
        };
        self.error(refusal, out);
    }

    /// The next line of an exchange.
    pub(super) fn read_response(&mut self, now: Moment, input: &mut BytesMut, out: &mut Vec<Action>) -> bool {
        let line = match self.lines.next(input) {
            Line::Incomplete => return false,
            Line::Refused(fault) => Err(match fault {
                LineFault::TooLong => answer::AUTH_LINE_TOO_LONG,
                LineFault::BareLineFeed | LineFault::BareCarriageReturn => answer::line_fault(fault),
            }),
            Line::Complete(length) => {
                let line = input.split_to(length);
                input.advance(2);
                match &line[..] {
                    b"*" => Err(answer::AUTH_CANCELLED),
                    line => sasl::decode(line).ok_or(answer::NOT_BASE64),
                }
            }
        };
        self.active = now;
        // A line that is no message ends the exchange.
        self.state = State::Command;
        match line {
            Ok(message) => {
                let step = AuthStep::Response(message.into());
                self.ask(Question::Authentication, Action::Authenticate(step), out);
            }
            Err(refusal) => self.error(refusal, out),
        }
        true
    }

    pub(super) fn authentication_answered(
        &mut self,
        now: Moment,
        authentication: Authentication,
        out: &mut Vec<Action>,
    ) {
        let Some(Question::Authentication) = self.answered(now) else {
            return self.close(answer::LOCAL_ERROR, AbortReason::Closed, out);
        };
        match authentication {
            Authentication::Challenge(message) => {
                self.replies.extend_from_slice(format!("334 {}\r\n", sasl::encode(&message)).as_bytes());
                self.state = State::Authenticating;
            }
            Authentication::Accepted => {
                self.login.done = true;
                self.without_mail(answer::AUTHENTICATED, out);
            }
            Authentication::Refused(reply) => self.not_authenticated(reply, out),
        }
    }

    fn not_authenticated(&mut self, reply: Reply, out: &mut Vec<Action>) {
        let counts = reply.code >= 500;
        self.refuse(Answer::Given(reply), out);
        if counts && !self.is_closed() {
            self.login.failed += 1;
            if self.login.failed >= self.config.limits.failed_authentications {
                self.close(answer::TOO_MANY_FAILURES, AbortReason::Closed, out);
            }
        }
    }
}
