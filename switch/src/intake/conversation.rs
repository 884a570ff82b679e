//! One connection of a client: the shell around `smtp::session::Session`. It owns the socket and the buffer, answers the
//! session's questions, and waits for bytes, for the session's deadline and for its own orders at once.
//!
//! It reads nothing while a question is open, so a slow disk slows the client down and fills no memory.

mod guard;
mod line;
mod permission;
mod repeat;

use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mail_model::{EnhancedStatus, Envelope, Reply};
use message::{Completion, Received};
use policy::limits::Kind;
use queue_format::record::{MessageKey, encode_envelope};
use routing::ClientCertificate;
use settings::{ListenerKind, TlsMode};
use smtp::session::{
    AbortReason, Action, Event, Greeting, MessageStart, Protection, Session, Storage, Usage, Verdict,
};
use smtp::xclient::ClientClaim;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::admission::Place;
use super::checks::Checked;
use super::inspection::{Exhibit, Inspection};
use super::login::Login;
use super::named::{self, Named};
use super::outcome::{self, Remaining};
use super::parts::{Door, Parts, Phase};
use super::recipients;
use super::upload::{self, Heading, NotStored, Upload};
use super::visitor::{self, Visitor};
use crate::tls::Stream;

/// Bytes asked for with one read while commands are awaited, and while a message is.
const READ_COMMANDS: usize = 4 << 10;
const READ_CONTENT: usize = 16 << 10;
/// And while a message is that came in reads as long as the one before.
const READ_LARGE: usize = 64 << 10;
/// Replies are gathered up to so many octets.
const OUTPUT_MAX: usize = 16 << 10;
/// How long a client has to read our last reply and to close, and how much it may still say.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 << 10;

/// What is known of a message before its content, for who looks at it then.
#[derive(Debug)]
struct Inspected {
    inspection: Arc<Inspection>,
    trusted: bool,
    helo: String,
    envelope: Envelope,
}

/// A connection and what is under way on it.
#[derive(Debug)]
pub(crate) struct Conversation {
    stream: Stream,
    visitor: Visitor,
    place: Place,
    door: Door,
    parts: Arc<Parts>,
    phase: watch::Receiver<Phase>,
    session: Session,
    login: Login,
    /// Whose certificate the client showed.
    certificate: Option<ClientCertificate>,
    /// The longest a client may take to read a reply.
    patience: Duration,
    input: BytesMut,
    /// The last read was all that there was room for.
    filled: bool,
    actions: Vec<Action>,
    upload: Option<Upload>,
    /// What DNS said of the client and of its sender.
    checked: Checked,
    /// Replies that are not written yet: those to commands that came together leave together.
    output: Vec<u8>,
    /// What inspectors are told of the message that comes, if somebody looks at it.
    inspected: Option<Inspected>,
    /// The message that comes bears a name.
    named: Option<Named>,
    /// Accepted messages whose 250 is not written yet.
    unreplied: Vec<MessageKey>,
    /// What the client did, as far as it was counted.
    counted: Usage,
    /// Why the client is to be sent away.
    overdone: Option<Reply>,
    /// A 421 was said that the session does not know of: close after it is written.
    hang_up: bool,
}

impl Conversation {
    /// A conversation on a fresh connection.
    pub(crate) fn new(
        stream: TcpStream,
        visitor: Visitor,
        place: Place,
        parts: Arc<Parts>,
        door: Door,
    ) -> Self {
        let settings = parts.settings.load();
        let config = settings.limits.session.clone();
        let front = visitor::is_front(&settings, door, visitor.client);
        let knows_repeats = named::is_offered(&parts, &settings, door, visitor.client);
        let mechanisms = match door.kind {
            ListenerKind::Relay => Vec::new(),
            ListenerKind::Submission => settings.auth.mechanisms.clone(),
        };
        let has_certificate = parts.tls.load().listener(door.index).is_some();
        let protection = match door.mode {
            TlsMode::Implicit => Protection::Tls,
            TlsMode::StartTls if has_certificate => Protection::Offered,
            TlsMode::StartTls => Protection::None,
        };
        Self {
            stream: Stream::plain(stream),
            visitor,
            place,
            door,
            phase: parts.phase.clone(),
            patience: Duration::from_millis(config.limits.command_ms),
            session: Session::new(config, parts.clock.now())
                .protected(protection)
                .believing_xclient(front)
                .knowing_repeats(knows_repeats)
                .authenticating(mechanisms),
            login: Login::default(),
            certificate: None,
            input: BytesMut::new(),
            filled: false,
            actions: Vec::new(),
            upload: None,
            checked: Checked::default(),
            output: Vec::new(),
            inspected: None,
            named: None,
            unreplied: Vec::new(),
            counted: Usage::default(),
            overdone: None,
            hang_up: false,
            parts,
        }
    }

    /// Converses until either side closes.
    pub(crate) async fn run(mut self) {
        if let Err(error) = self.converse().await {
            tracing::debug!(event = "session.cut", client = %self.visitor.client, %error);
        }
        if let Some(upload) = self.upload.take() {
            upload.abandon(&self.parts.queue);
        }
        self.linger().await;
    }

    async fn converse(&mut self) -> io::Result<()> {
        self.stream.socket()?.set_nodelay(true)?;
        self.let_watch();
        if self.door.mode == TlsMode::Implicit {
            self.shake_hands().await?;
        }
        self.hear_early_talk().await?;
        if !self.input.is_empty() {
            self.parts.counters.refusals.add(["connection", "early_talk"], 1);
            tracing::info!(event = "session.early_talk", client = %self.visitor.client);
        }
        let greeting = if self.parts.gate.is_open() {
            Greeting::Ready
        } else {
            self.parts.counters.refusals.add(["connection", "not_ready"], 1);
            Greeting::NotReady
        };
        let mut event = Event::Greet(greeting);
        loop {
            self.session.step(self.parts.clock.now(), event, &mut self.input, &mut self.actions);
            self.watch().await;
            let answer = self.carry_out().await?;
            if let Some(answer) = answer
                && !self.session.is_closed()
            {
                event = answer;
                continue;
            }
            self.flush().await?;
            if self.session.is_closed() || self.hang_up {
                return Ok(());
            }
            self.let_watch();
            event = match self.overdone.take() {
                Some(reply) => Event::SendAway(reply),
                None => self.next_event().await,
            };
        }
    }

    /// RFC 5321 4.3.1: a client waits for the greeting. What is here before it was said too early.
    async fn hear_early_talk(&mut self) -> io::Result<()> {
        let delay = self.greet_delay();
        if !delay.is_zero() {
            return self.listen(delay).await;
        }
        if self.stream.is_tls() {
            let mut byte = [0];
            if self.stream.read_now(&mut byte).is_ok_and(|count| count > 0) {
                self.input.extend_from_slice(&byte);
            }
            return Ok(());
        }
        let mut byte = [MaybeUninit::uninit()];
        // tokio does not know yet whether the socket can be read, so the kernel is asked.
        let heard = SockRef::from(self.stream.socket()?).peek(&mut byte).is_ok_and(|count| count > 0);
        if heard {
            self.input.reserve(READ_COMMANDS);
            self.stream.read_buf(&mut self.input).await?;
        }
        Ok(())
    }

    async fn next_event(&mut self) -> Event {
        let size = match (&self.upload, self.filled) {
            (None, _) => READ_COMMANDS,
            (Some(_), false) => READ_CONTENT,
            (Some(_), true) => READ_LARGE,
        };
        if self.input.is_empty() && self.upload.is_none() && self.input.capacity() > READ_CONTENT {
            // A large buffer is for a message, not for a client that thinks.
            self.input = BytesMut::new();
        }
        loop {
            match *self.phase.borrow_and_update() {
                Phase::Closing => return Event::Shutdown,
                Phase::Finishing if self.session.is_idle() => return Event::Shutdown,
                Phase::Finishing | Phase::Open => {}
            }
            let left = self.session.deadline().map(|deadline| deadline.since(self.parts.clock.now()));
            self.input.reserve(size);
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.input) => return match read {
                    Ok(0) | Err(_) => Event::EndOfInput,
                    Ok(count) => {
                        self.filled = count >= size;
                        Event::Input
                    }
                },
                changed = self.phase.changed() => if changed.is_err() { return Event::Shutdown },
                () = sleep(left.unwrap_or(self.patience)) => return Event::DeadlineReached,
            }
        }
    }

    /// Does what the session said, in its order. The answer to its question, if it has one.
    async fn carry_out(&mut self) -> io::Result<Option<Event>> {
        let mut answer = None;
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Send(bytes) => {
                    self.output.extend_from_slice(&bytes);
                    if self.output.len() > OUTPUT_MAX {
                        self.flush().await?;
                    }
                }
                Action::CheckSender(request) => {
                    self.checked.mail_is_from(&request.reverse_path);
                    let verdict = self.bounded(Kind::Message);
                    let verdict = verdict.unwrap_or_else(|| self.judge_sender(&request));
                    answer = Some(Event::Sender(verdict));
                }
                Action::CheckRecipient(recipient) => {
                    let verdict = self.bounded(Kind::Recipient).unwrap_or_else(|| self.judge(&recipient));
                    answer = Some(Event::Recipient(self.checked(verdict, &recipient.address).await));
                }
                Action::BeginMessage(start) => answer = Some(Event::Message(self.begin(&start))),
                Action::Body(bytes) => {
                    if let Some(named) = &mut self.named {
                        named.take(&bytes);
                    }
                    if let Some(upload) = &mut self.upload {
                        upload.take(&self.parts.queue, &bytes).await;
                    }
                }
                Action::EndOfMessage => {
                    // The disk may take its time.
                    self.flush().await?;
                    answer = Some(Event::Stored(self.store().await?));
                }
                Action::StartTls => {
                    self.flush().await?;
                    self.shake_hands().await?;
                    answer = Some(Event::Secured);
                }
                Action::Authenticate(step) => {
                    let (parts, client) = (&self.parts, self.visitor.client);
                    let settings = parts.settings.load_full();
                    let (auth, clock) = (&settings.auth, &*parts.clock);
                    let said = self.login.step(&parts.logins, auth, clock, client, step).await;
                    answer = Some(Event::Authentication(said));
                }
                Action::ClientIs(claim) => answer = Some(Event::Greet(self.reintroduce(&claim))),
                Action::Release(names) => named::release(&self.parts.queue, &names),
                Action::AbortMessage(reason) => self.abort(reason),
                Action::Close => {}
            }
        }
        self.actions = actions;
        Ok(answer)
    }

    /// Writes the replies that wait.
    async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(&self.output).await?;
            // TLS may hold back what it was given.
            self.stream.flush().await
        };
        match timeout(self.patience, write).await {
            Ok(written) => written?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        self.output.clear();
        // Replies leave in order, so whatever was accepted before this write has its 250 now.
        for key in self.unreplied.drain(..) {
            self.parts.queue.replied(key);
        }
        Ok(())
    }

    /// A front says whose session it passes on. That client is counted like one that came by itself.
    fn reintroduce(&mut self, claim: &ClientClaim) -> Greeting {
        let visitor = self.visitor.passed_on(claim);
        let limits = &self.parts.settings.load().limits;
        if let Err(crowded) = self.place.move_to(self.parts.clock.now(), visitor.counted(), limits) {
            tracing::info!(event = "intake.turned_away", client = %visitor.client, scope = crowded.name(), told = true);
            let status = EnhancedStatus::new(4, 7, 0);
            return Greeting::Refuse(Reply::local(
                421,
                status,
                "too many connections from you, try again later",
            ));
        }
        self.visitor = visitor;
        self.login = Login::default();
        // It is the front's.
        self.certificate = None;
        if self.parts.gate.is_open() { Greeting::Ready } else { Greeting::NotReady }
    }

    /// Whether there is room for a message of this size, at MAIL (RFC 1870 6.1) and again when the content comes.
    fn admit(&self, size: u64) -> Verdict {
        match self.parts.queue.admit(size) {
            Ok(()) => Verdict::Accept,
            Err(refusal) => {
                let mut reply = upload::reply(&refusal);
                self.parts.counters.refusals.add(["sender", upload::reason(&reply)], 1);
                if reply.code == 421 {
                    // The session goes on, so it is no 421 yet: the order to close comes by its own way.
                    reply.code = 451;
                }
                Verdict::Refuse(reply)
            }
        }
    }

    fn begin(&mut self, start: &MessageStart) -> Verdict {
        let verdict = self.admit(start.size.unwrap_or(0));
        if matches!(verdict, Verdict::Refuse(_)) {
            return verdict;
        }
        let settings = self.parts.settings.load();
        let envelope = match recipients::rewritten(&settings, &start.envelope) {
            Ok(envelope) => envelope,
            Err(reply) => return Verdict::Refuse(reply),
        };
        let key = self.parts.queue.next_key();
        let at = self.parts.clock.wall();
        let field = Received {
            helo: &start.client_name,
            client: self.visitor.client,
            client_name: self.visitor.name.as_deref(),
            certificate: self.certificate.as_ref().and_then(|shown| shown.subject.as_deref()),
            by: &settings.limits.session.hostname,
            with: start.protocol,
            id: &self.parts.queue.message_id(key).to_string(),
            at,
        }
        .to_string();
        let heading = Heading {
            key,
            received: at,
            from: envelope.reverse_path.to_string(),
            recipients: envelope.recipients.len(),
            origin: self.origin(&start.client_name),
            envelope: encode_envelope(&envelope),
            handover: None,
        };
        self.named = start.once.clone().map(|name| Named::begin(name, &start.envelope));
        let size = start.size.unwrap_or(0);
        let upload = Upload::begin(heading, &field, &settings.limits, size);
        let hostname = &settings.limits.session.hostname;
        let listener = settings.listeners.get(self.door.index);
        let upload = if listener.is_some_and(|listener| listener.add_missing_fields) {
            upload.completed(Completion::new(at, &self.parts.queue.message_id(key).to_string(), hostname))
        } else {
            upload
        };
        let trusted = self.is_trusted(&settings);
        let inspection = self.parts.inspection.load_full();
        // Probe mail of a drill, which its seal let in, is no affair of filters.
        let probe = start.envelope.recipients.iter().all(|to| routing::is_drill(&to.address));
        let looked_at = !probe && inspection.looks_at(self.door.index, trusted);
        self.upload = Some(if looked_at { upload.kept_whole(&settings.limits) } else { upload });
        self.inspected = looked_at.then(|| Inspected {
            inspection,
            trusted,
            helo: start.client_name.to_string(),
            envelope: start.envelope.clone(),
        });
        Verdict::Accept
    }

    async fn store(&mut self) -> io::Result<Storage> {
        let Some(mut upload) = self.upload.take() else {
            let reply = Reply::local(451, EnhancedStatus::new(4, 3, 0), "local error");
            return Ok(Storage::Refused(reply));
        };
        // Held until it is stored, or is not.
        let _turn = match self.named.take() {
            None => None,
            Some(named) => match self.recognise(named, &mut upload).await {
                Ok(turn) => Some(turn),
                Err(storage) => return Ok(storage),
            },
        };
        let (heading, size, client) = (upload.heading(), upload.size(), self.visitor.client);
        let (key, from) = (heading.key, heading.from.clone());
        let id = self.parts.queue.message_id(key);
        let inspected = self.inspect(&mut upload).await;
        let recipients = upload.heading().recipients;
        let stored = match inspected {
            Ok(remaining) => {
                let stored = upload.finish(&self.parts.queue, &remaining.fields).await;
                if stored.is_ok() {
                    remaining.follow(&self.parts, key, recipients).await;
                }
                stored
            }
            Err(reply) => {
                upload.abandon(&self.parts.queue);
                Err(NotStored::Refused(reply))
            }
        };
        match stored {
            Ok(content) => {
                (self.parts.notice)(key, content);
                let counters = &self.parts.counters;
                counters.accepted.add(1);
                counters.accepted_bytes.add(size);
                counters.accepted_recipients.add(recipients as u64);
                self.unreplied.push(key);
                let tls = self.stream.is_tls();
                let user = self.login.account().map(|account| &*account.name);
                let certificate = self.certificate.as_ref().map(tracing::field::display);
                tracing::info!(event = "message.accepted", %id, %client, tls, user, certificate, from, recipients, size);
                Ok(Storage::Stored(id.to_string()))
            }
            Err(NotStored::Unsettled) => {
                tracing::info!(event = "message.unsettled", %id, %client, from, recipients, size);
                Err(io::Error::other("nobody here knows whether the message was stored"))
            }
            Err(NotStored::Refused(reply)) => {
                self.parts.counters.refusals.add(["message", upload::reason(&reply)], 1);
                tracing::info!(event = "message.refused", %id, %client, from, recipients, size, %reply);
                if reply.code == 421 {
                    // What else the client has sent is not answered: 421 is the last reply.
                    self.hang_up = true;
                    self.input.clear();
                }
                Ok(Storage::Refused(reply))
            }
        }
    }

    /// What the inspectors of this listener say of a whole message, or why it is not taken.
    async fn inspect(&mut self, upload: &mut Upload) -> Result<Remaining, Reply> {
        let Some(Inspected { inspection, trusted, helo, envelope }) = self.inspected.take() else {
            return Ok(Remaining::default());
        };
        let whole = upload.whole(&self.parts.queue).await;
        let Some((content, room)) = whole else { return Ok(Remaining::default()) };
        let exhibit = Exhibit {
            id: self.parts.queue.message_id(upload.heading().key).to_string(),
            client: self.visitor.client,
            client_name: self.visitor.name.clone(),
            user: self.login.account().map(|account| account.name.to_string()),
            trusted,
            helo,
            envelope,
            content,
        };
        let settings = self.parts.settings.load_full();
        let who = (&*inspection, self.door.index);
        outcome::inspected(&self.parts, &settings, who, exhibit, room, upload).await
    }

    fn abort(&mut self, reason: AbortReason) {
        self.named = None;
        if let Some(upload) = self.upload.take() {
            upload.abandon(&self.parts.queue);
            self.parts.counters.aborted.add(1);
            tracing::info!(event = "message.aborted", client = %self.visitor.client, size = upload.size(), ?reason);
        }
    }

    /// Closes so that our last reply arrives: a socket closed over unread bytes would send a reset, and the client would
    /// drop what it had not read.
    async fn linger(mut self) {
        // Under TLS there is a last word to write, which a client may refuse to read.
        if !timeout(LINGER, self.stream.shutdown()).await.is_ok_and(|done| done.is_ok()) {
            return;
        }
        self.input = BytesMut::with_capacity(READ_COMMANDS);
        let drained = async {
            let mut dropped = 0;
            while dropped < LINGER_BYTES_MAX {
                self.input.clear();
                match self.stream.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => dropped += count,
                }
            }
        };
        // The client had its time, whether it closed or not.
        timeout(LINGER, drained).await.ok();
    }
}
