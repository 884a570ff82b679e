//! What each command does to a session: which order is kept, what is refused, what the shell is asked.

use std::sync::Arc;

use bytes::BytesMut;
use mail_model::{Envelope, Moment, ReversePath};

use super::answer::{self, Answer};
use super::config::Pipelining;
use super::event::{AbortReason, Action, MessageStart, Protection, SenderRequest};
use super::receipt::Receipt;
use super::{Hello, Mail, Question, Session, State};
use crate::command::{ChunkHeader, Command, MailFrom, RcptTo};
use crate::line::LineReader;
use crate::once;
use crate::parameter::MailParameters;
use crate::reply;
use crate::xclient::{self, ClientClaim, Said};

impl Session {
    pub(super) fn command(&mut self, now: Moment, command: Command, input: &BytesMut, out: &mut Vec<Action>) {
        match command {
            Command::Mail(mail) => self.mail(mail, out),
            Command::Rcpt(to) => self.recipient(to, out),
            Command::Data => self.data(input, out),
            Command::Bdat(header) => self.chunk(now, header, out),
            Command::Quit => self.close(answer::GOODBYE, AbortReason::Closed, out),
            Command::Ehlo(name) => self.hello(Hello { name, extended: true }, out),
            Command::Helo(name) => self.hello(Hello { name, extended: false }, out),
            Command::Rset => {
                self.abort(AbortReason::Reset, out);
                self.without_mail(answer::OK, out);
            }
            Command::Noop => self.without_mail(answer::OK, out),
            Command::Help => self.without_mail(answer::HELP, out),
            Command::Vrfy => self.without_mail(answer::NOT_VERIFIED, out),
            Command::Auth(request) => self.authenticate(&request, out),
            Command::StartTls => self.start_tls(input, out),
            Command::Xclient(claim) => self.client_is(claim, out),
            Command::Done(names) => self.done_with(names, out),
            Command::NotImplemented => self.error(answer::NOT_IMPLEMENTED, out),
        }
    }

    /// RFC 2920 3.1: the client must wait for the reply to this command, and we were told to insist on it.
    pub(super) fn must_be_last(&self, command: &Command) -> bool {
        let grouped = match command {
            Command::Rset | Command::Mail(_) | Command::Rcpt(_) | Command::Bdat(_) | Command::Done(_) => {
                self.config.extensions.pipelining && self.hello.as_ref().is_some_and(|hello| hello.extended)
            }
            // What follows QUIT is never read, and nobody is harmed by it; STARTTLS and XCLIENT look after themselves;
            // behind AUTH stands what its mechanism wants (RFC 4954 4).
            Command::Quit | Command::StartTls | Command::Xclient(_) | Command::Auth(_) => true,
            Command::Data
            | Command::Ehlo(_)
            | Command::Helo(_)
            | Command::Noop
            | Command::Help
            | Command::Vrfy
            | Command::NotImplemented => false,
        };
        self.config.pipelining == Pipelining::Strict && !grouped
    }

    fn hello(&mut self, hello: Hello, out: &mut Vec<Action>) {
        // RFC 5321 4.1.4: EHLO in the middle resets like RSET.
        self.abort(AbortReason::Reset, out);
        let config = Arc::clone(&self.config);
        let hostname = config.hostname.as_str();
        if hello.extended {
            let auth = self.offer();
            let size = format!("SIZE {}", config.limits.message_size);
            let offered = config.extensions;
            let lines = [
                (true, hostname),
                (offered.pipelining, "PIPELINING"),
                (true, &size),
                (offered.eight_bit_mime, "8BITMIME"),
                (offered.smtputf8, "SMTPUTF8"),
                (offered.chunking, "CHUNKING"),
                (offered.dsn, "DSN"),
                // RFC 8689 2: only on a connection under TLS.
                (offered.require_tls && self.protection == Protection::Tls, "REQUIRETLS"),
                (self.protection == Protection::Offered, "STARTTLS"),
                (self.believes_xclient, xclient::OFFER),
                (self.knows_repeats, once::OFFER),
                (auth.is_some(), auth.as_deref().unwrap_or_default()),
                (true, "ENHANCEDSTATUSCODES"),
            ];
            let lines = lines.into_iter().filter_map(|(offered, line)| offered.then_some(line));
            reply::write_lines(250, lines, &mut self.replies);
        } else {
            reply::write_lines(250, std::iter::once(hostname), &mut self.replies);
        }
        self.hello = Some(hello);
        self.count_command(out);
    }

    /// RFC 3207 4.2: back to the state after the greeting, and what the client said in clear is forgotten.
    pub(super) fn secured(&mut self, now: Moment, input: &mut BytesMut, out: &mut Vec<Action>) {
        let Some(Question::Tls) = self.answered(now) else {
            return self.close(answer::LOCAL_ERROR, AbortReason::Closed, out);
        };
        input.clear();
        self.protection = Protection::Tls;
        self.hello = None;
        self.lines = LineReader::new(self.line_octets_max());
        self.forget_message();
    }

    /// RFC 3207 4. What stands behind the command in clear may be anybody's: it is never read as commands, and its sender is
    /// sent away.
    fn start_tls(&mut self, input: &BytesMut, out: &mut Vec<Action>) {
        let extended = self.hello.as_ref().is_some_and(|hello| hello.extended);
        match self.protection {
            Protection::None => self.error(answer::NOT_IMPLEMENTED, out),
            // RFC 3207 4.2: not offered after it was done, and not done twice.
            Protection::Tls => self.error(answer::TLS_ACTIVE, out),
            Protection::Offered if !extended => self.error(answer::EXTENDED_HELLO_FIRST, out),
            Protection::Offered if self.mail.is_some() => self.error(answer::TLS_IN_MAIL, out),
            Protection::Offered if !input.is_empty() => {
                self.close(answer::UNSYNCHRONIZED_TLS, AbortReason::Closed, out);
            }
            Protection::Offered => {
                self.say(answer::READY_FOR_TLS);
                self.flush(out);
                self.ask(Question::Tls, Action::StartTls, out);
            }
        }
    }

    /// Postfix's `XCLIENT_README`: what was said before is forgotten, and the client is greeted anew.
    fn client_is(&mut self, claim: Option<Box<ClientClaim>>, out: &mut Vec<Action>) {
        if !self.believes_xclient {
            return self.error(answer::XCLIENT_DENIED, out);
        }
        if self.mail.is_some() || self.receipt.is_some() {
            return self.error(answer::XCLIENT_IN_MAIL, out);
        }
        let Some(claim) = claim else {
            return self.error(answer::XCLIENT_MALFORMED, out);
        };
        let extended = !matches!(claim.extended, Said::Is(false));
        self.hello = match &claim.helo {
            Said::Is(name) => Some(Hello { name: name.clone(), extended }),
            Said::Nothing | Said::Unavailable => None,
        };
        // Whoever that is has shown no password.
        self.login.done = false;
        self.knows_repeats = false;
        self.flush(out);
        self.ask(Question::Client, Action::ClientIs(claim), out);
    }

    /// The same with whether its client may name what it hands over, because a repeat will be known. See [`crate::once`].
    #[must_use]
    pub fn knowing_repeats(self, knows_repeats: bool) -> Self {
        Self { knows_repeats, ..self }
    }

    fn done_with(&mut self, names: Option<Vec<Box<str>>>, out: &mut Vec<Action>) {
        match names {
            _ if !self.knows_repeats => self.error(answer::DONE_DENIED, out),
            None => self.error(answer::DONE_MALFORMED, out),
            Some(names) => {
                out.push(Action::Release(names));
                self.without_mail(answer::OK, out);
            }
        }
    }

    fn mail(&mut self, mail: MailFrom, out: &mut Vec<Action>) {
        let Some(hello) = &self.hello else {
            return self.error(answer::HELLO_FIRST, out);
        };
        if self.mail.is_some() {
            return self.error(answer::NESTED_MAIL, out);
        }
        // RFC 6409 4.3.
        if let Some(refusal) = self.must_authenticate() {
            return self.error(refusal, out);
        }
        let MailFrom { reverse_path, parameters } = mail;
        let offered = self.config.extensions;
        let not_offered = (!hello.extended && parameters != MailParameters::default())
            || (parameters.body.is_some() && !offered.eight_bit_mime)
            || (parameters.smtputf8 && !offered.smtputf8)
            || (parameters.require_tls && !(offered.require_tls && self.protection == Protection::Tls))
            || (parameters.once.is_some() && !self.knows_repeats)
            || (parameters.submitter.is_some() && self.login.mechanisms.is_empty())
            || ((parameters.ret.is_some() || parameters.envid.is_some()) && !offered.dsn);
        if not_offered {
            return self.error(answer::NOT_OFFERED, out);
        }
        let international = matches!(&reverse_path, ReversePath::Mailbox(m) if m.is_international());
        if international && !parameters.smtputf8 {
            return self.error(answer::INTERNATIONAL, out);
        }
        // RFC 1870 6.1: a declared size above the limit is refused here already.
        if parameters.size.is_some_and(|size| size > self.config.limits.message_size) {
            return self.error(answer::TOO_LARGE, out);
        }
        let mut envelope = Envelope::from_sender(reverse_path);
        envelope.body = parameters.body.unwrap_or_default();
        envelope.smtputf8 = parameters.smtputf8;
        envelope.require_tls = parameters.require_tls;
        envelope.ret = parameters.ret;
        envelope.envid = parameters.envid;
        let request = SenderRequest {
            reverse_path: envelope.reverse_path.clone(),
            size: parameters.size,
            body: envelope.body,
            smtputf8: envelope.smtputf8,
        };
        let mail = Box::new(Mail { envelope, size: parameters.size, once: parameters.once });
        self.ask(Question::Sender(mail), Action::CheckSender(Box::new(request)), out);
    }

    fn recipient(&mut self, to: RcptTo, out: &mut Vec<Action>) {
        let RcptTo { recipient, international } = to;
        let Some(mail) = &self.mail else {
            return self.error(answer::MAIL_FIRST, out);
        };
        if self.receipt.is_some() {
            return self.error(answer::CHUNKS_BEGUN, out);
        }
        let wishes = recipient.notify.is_some() || recipient.original.is_some();
        let extended = self.hello.as_ref().is_some_and(|hello| hello.extended);
        if wishes && !(extended && self.config.extensions.dsn) {
            return self.error(answer::NOT_OFFERED, out);
        }
        if international && !mail.envelope.smtputf8 {
            return self.error(answer::INTERNATIONAL, out);
        }
        // RFC 5321 4.5.3.1.10: 452, so that the client sends the rest in another message.
        if mail.envelope.recipients.len() >= usize::from(self.config.limits.recipients) {
            return self.say(answer::TOO_MANY_RECIPIENTS);
        }
        let question = Question::Recipient(Box::new(recipient.clone()));
        self.ask(question, Action::CheckRecipient(Box::new(recipient)), out);
    }

    fn data(&mut self, input: &BytesMut, out: &mut Vec<Action>) {
        let refusal = match &self.mail {
            _ if self.receipt.is_some() => answer::CHUNKS_BEGUN,
            None => answer::MAIL_FIRST,
            Some(mail) if mail.envelope.recipients.is_empty() => answer::NO_RECIPIENTS,
            Some(_) => return self.begin(Question::Data, None, out),
        };
        self.refuse_data(Answer::Ours(refusal), input, out);
    }

    /// Refuses DATA, and closes if the client did not wait for that: see the module's header.
    pub(super) fn refuse_data(&mut self, refusal: Answer, input: &BytesMut, out: &mut Vec<Action>) {
        self.refuse(refusal, out);
        if !input.is_empty() && !self.is_closed() {
            self.close(answer::UNSYNCHRONIZED, AbortReason::Closed, out);
        }
    }

    fn chunk(&mut self, now: Moment, header: ChunkHeader, out: &mut Vec<Action>) {
        let limit = self.config.limits.message_size;
        let offered =
            self.config.extensions.chunking && self.hello.as_ref().is_some_and(|hello| hello.extended);
        // RFC 3030 2: the octets follow the command whatever we think of it, so they are swallowed.
        let refusal = match (&mut self.receipt, &self.mail) {
            (Some(receipt), _) => {
                if receipt.received_octets().saturating_add(header.octets) > limit {
                    receipt.too_large(out);
                }
                self.state = State::Chunk { remaining: header.octets, last: header.last };
                return;
            }
            (None, _) if !offered => answer::NOT_IMPLEMENTED,
            (None, None) => answer::MAIL_FIRST,
            (None, Some(mail)) if mail.envelope.recipients.is_empty() => answer::NO_RECIPIENTS,
            (None, Some(_)) if header.octets > limit => answer::TOO_LARGE,
            (None, Some(_)) => {
                let size = header.last.then_some(header.octets);
                return self.begin(Question::Chunk(header), size, out);
            }
        };
        self.receipt = Some(Receipt::refused(Answer::Ours(refusal), now));
        self.state = State::Chunk { remaining: header.octets, last: header.last };
    }

    /// Asks whether the content may come.
    fn begin(&mut self, question: Question, size: Option<u64>, out: &mut Vec<Action>) {
        let (Some(mail), Some(hello)) = (&mut self.mail, &self.hello) else {
            return;
        };
        // The session needs no more of it than that there is one.
        let empty = Envelope::from_sender(ReversePath::Null);
        let envelope = std::mem::replace(&mut mail.envelope, empty);
        let secured = self.protection == Protection::Tls;
        // Nobody authenticates in clear.
        let protocol = match (envelope.smtputf8, hello.extended, secured, self.login.done) {
            (true, _, false, _) => "UTF8SMTP",
            (true, _, true, false) => "UTF8SMTPS",
            (true, _, true, true) => "UTF8SMTPSA",
            (false, true, false, _) => "ESMTP",
            (false, true, true, false) => "ESMTPS",
            (false, true, true, true) => "ESMTPSA",
            // RFC 3848 has no name for HELO under TLS.
            (false, false, _, _) => "SMTP",
        };
        let (size, once) = (mail.size.or(size), mail.once.take());
        let start = MessageStart { envelope, client_name: hello.name.clone(), protocol, size, once };
        self.ask(question, Action::BeginMessage(Box::new(start)), out);
    }
}
