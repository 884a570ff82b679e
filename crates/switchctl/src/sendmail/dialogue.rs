//! SMTP on standard input and output while no switch is there to speak it: a message that is taken lies in the maildrop, as with
//! every other option, and its 250 is said when it is on disk.
//!
//! A letter in the maildrop has the same wishes for all its recipients, so DSN is not offered. Never: a message in two letters.

use std::io::{self, Read, Write};

use bytes::BytesMut;
use control::maildrop::Letter;
use daemon_kit::SystemClock;
use mail_model::{Clock, EnhancedStatus, Envelope, Mailbox, Reply};
use smtp::session::{
    Action, EarlyTalk, Event, Extensions, Greeting, Session, SessionConfig, Storage, Verdict,
};

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// A dialogue, and the message under way.
struct Dialogue<W, L> {
    /// Leaves a message in the maildrop; under which name, or why not.
    leave: L,
    session: Session,
    output: W,
    envelope: Option<Envelope>,
    content: Vec<u8>,
    closed: bool,
}

/// Holds one, to its end or that of `input`.
pub(super) fn hold(
    config: &SessionConfig,
    leave: impl FnMut(&Letter, &[u8]) -> Result<String, String>,
    mut input: impl Read,
    output: impl Write,
) -> io::Result<()> {
    let extensions = Extensions { dsn: false, require_tls: false, ..Extensions::default() };
    // Who writes into a pipe waits for nobody.
    let config = SessionConfig { extensions, early_talk: EarlyTalk::Tolerate, ..config.clone() };
    let session = Session::new(config, SystemClock.now());
    let mut dialogue =
        Dialogue { leave, session, output, envelope: None, content: Vec::new(), closed: false };
    let mut buffer = BytesMut::new();
    dialogue.step(Event::Greet(Greeting::Ready), &mut buffer)?;
    let mut piece = vec![0; PIECE];
    loop {
        if dialogue.closed {
            return Ok(());
        }
        let read = input.read(&mut piece)?;
        buffer.extend_from_slice(piece.get(..read).unwrap_or_default());
        dialogue.step(if read == 0 { Event::EndOfInput } else { Event::Input }, &mut buffer)?;
        if read == 0 {
            return Ok(());
        }
    }
}

impl<W: Write, L: FnMut(&Letter, &[u8]) -> Result<String, String>> Dialogue<W, L> {
    /// Takes an event, and answers the questions that follow from it.
    fn step(&mut self, event: Event, input: &mut BytesMut) -> io::Result<()> {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let mut actions = Vec::new();
            self.session.step(SystemClock.now(), event, input, &mut actions);
            for action in actions {
                next = self.act(action)?;
            }
        }
        Ok(())
    }

    /// The answer, if it is a question; that is the last of its step.
    fn act(&mut self, action: Action) -> io::Result<Option<Event>> {
        Ok(match action {
            Action::Send(bytes) => {
                self.output.write_all(&bytes)?;
                self.output.flush()?;
                None
            }
            Action::CheckSender(_) => Some(Event::Sender(Verdict::Accept)),
            Action::CheckRecipient(_) => Some(Event::Recipient(Verdict::Accept)),
            Action::BeginMessage(start) => {
                self.content.clear();
                self.envelope = Some(start.envelope);
                Some(Event::Message(Verdict::Accept))
            }
            Action::Body(bytes) => {
                self.content.extend_from_slice(&bytes);
                None
            }
            Action::EndOfMessage => Some(Event::Stored(self.store())),
            Action::AbortMessage(_) => {
                self.envelope = None;
                None
            }
            // None of it is offered, so none of it is asked.
            Action::Release(_) => None,
            Action::StartTls | Action::ClientIs(_) | Action::Authenticate(_) | Action::Close => {
                self.closed = true;
                None
            }
        })
    }

    fn store(&mut self) -> Storage {
        let refused = |text: String| Storage::Refused(Reply::local(451, EnhancedStatus::new(4, 3, 0), text));
        let Some(envelope) = self.envelope.take() else { return refused("no message was begun".to_owned()) };
        let to: Vec<Mailbox> = envelope.recipients.into_iter().map(|to| to.address).collect();
        let letter = Letter::new(&envelope.reverse_path, &to, !self.content.is_ascii());
        match (self.leave)(&letter, &self.content) {
            Ok(name) => Storage::Stored(name),
            Err(why) => refused(why),
        }
    }
}
