//! The shell of `smtp::transaction`: writes what it says, reads replies, feeds it the content.

use std::time::Duration;

use bytes::Bytes;
use mail_model::{EnhancedStatus, Envelope, RecipientIndex, Reply};
use queue_store::{Announced, ContentError, ContentReader, Queue};
use smtp::limits::SendTimeouts;
use smtp::transaction::{Action, Completion, ConnectionState, Event, RecipientResult, Transaction};
use tokio::sync::watch;
use tokio::time::timeout;

use super::connection::{Broken, Connection};
use super::context::Phase;

/// Writes are gathered up to so many octets.
const GATHER_MAX: usize = 64 * 1024;

/// Content whose first piece was read already: what is damaged there is found before anybody is bothered.
#[derive(Debug)]
pub(crate) struct Content {
    /// Octets in all.
    pub(crate) size: u64,
    first: Option<Bytes>,
    rest: Option<ContentReader>,
}

impl Content {
    /// Content that is at hand.
    pub(crate) fn held(body: Bytes) -> Self {
        Self { size: body.len() as u64, first: Some(body), rest: None }
    }

    /// Reads the first piece.
    pub(crate) async fn open(reader: ContentReader) -> Result<Self, ContentError> {
        let size = reader.size();
        let (rest, piece) = read_piece(reader).await?;
        Ok(Self { size, first: piece.transpose()?, rest })
    }

    /// True if nothing of it was given away: another transaction may begin with it.
    pub(crate) fn is_whole(&self) -> bool {
        self.first.is_some() || self.size == 0
    }

    async fn next(&mut self) -> Option<Result<Bytes, ContentError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        match read_piece(self.rest.take()?).await {
            Ok((rest, piece)) => {
                self.rest = rest;
                piece
            }
            Err(error) => Some(Err(error)),
        }
    }
}

type Piece = (Option<ContentReader>, Option<Result<Bytes, ContentError>>);

/// The disk may be slow, and nobody else shall wait for it.
async fn read_piece(mut reader: ContentReader) -> Result<Piece, ContentError> {
    if reader.is_at_end() {
        return Ok((None, None));
    }
    if let Some(piece) = reader.piece_in_memory() {
        return Ok((Some(reader), Some(Ok(piece))));
    }
    let read = tokio::task::spawn_blocking(move || {
        let piece = reader.next_piece();
        (Some(reader), piece)
    });
    let stopped = |_| ContentError::Unreadable {
        segment: mail_model::SegmentId::default(),
        what: "the program ends".to_owned(),
    };
    read.await.map_err(stopped)
}

/// How a transfer ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The peer, or the loss of it, decided about each recipient.
    Done(Completion),
    /// The connection had served before and was dead: nothing was said in this transaction.
    Stale,
    /// The content is not what was accepted. No final dot was sent.
    Damaged(ContentError, Completion),
}

/// One transaction on `connection`.
pub(crate) struct Transfer<'a> {
    pub(crate) connection: &'a mut Connection,
    pub(crate) timeouts: &'a SendTimeouts,
    pub(crate) phase: watch::Receiver<Phase>,
    /// Asked right before the final dot whether this owner may act.
    pub(crate) queue: &'a Queue,
    /// Durable before the final dot.
    pub(crate) attempt: &'a mut Announced,
    /// The name of the message, and those that the peer may forget, if it knows repeats.
    pub(crate) name: &'a str,
    pub(crate) over: &'a [Box<str>],
    pub(crate) heard: bool,
    pub(crate) damage: Option<ContentError>,
}

impl Transfer<'_> {
    /// Runs to its end.
    pub(crate) async fn run(
        mut self,
        envelope: &Envelope,
        recipients: &[RecipientIndex],
        content: &mut Content,
    ) -> Ended {
        let used = self.connection.served > 0;
        self.connection.begin_gathering();
        if self.connection.needs_reset {
            let limit = Duration::from_millis(self.timeouts.mail_ms);
            if within(&mut self.phase, limit, self.connection.reset()).await.is_err() {
                return Ended::Stale;
            }
        }
        let extensions = self.connection.extensions;
        let transaction = Transaction::new(extensions, envelope, recipients, content.size);
        let mut transaction = transaction.named(self.name, self.over);
        let mut actions = Vec::new();
        transaction.step(Event::Begin, &mut actions);
        let completion = loop {
            match self.carry_out(&mut transaction, std::mem::take(&mut actions), content).await {
                Next::Done(completion) => break completion,
                Next::Step(event) => transaction.step(event, &mut actions),
                Next::Stopped => {
                    let reply = Reply::local(451, EnhancedStatus::new(4, 3, 2), "delivery was stopped");
                    transaction.step(Event::Abandoned(reply), &mut actions);
                    self.heard = true;
                }
                Next::Broken(Broken(why)) => {
                    let text = format!("{}: {why}", self.connection.host);
                    let reply = Reply::local(451, EnhancedStatus::new(4, 4, 2), text);
                    transaction.step(Event::Abandoned(reply), &mut actions);
                }
            }
        };
        self.connection.served += 1;
        self.connection.needs_reset = completion.connection == ConnectionState::NeedsReset;
        let undecided = completion.connection == ConnectionState::MustClose
            && completion.results.iter().all(|(_, result)| matches!(result, RecipientResult::Deferred(_)));
        match self.damage {
            Some(error) => Ended::Damaged(error, completion),
            None if used && undecided && !self.heard => Ended::Stale,
            None => Ended::Done(completion),
        }
    }

    /// Does what the machine says; answers with what happened next.
    async fn carry_out(
        &mut self,
        transaction: &mut Transaction,
        actions: Vec<Action>,
        content: &mut Content,
    ) -> Next {
        let mut confirm = false;
        let mut stream = false;
        for action in actions {
            match action {
                Action::Write(bytes) => self.connection.gathered.extend_from_slice(&bytes),
                Action::StreamBody => stream = true,
                Action::ConfirmFinalDot => confirm = true,
                Action::Done(completion) => return Next::Done(completion),
            }
        }
        if self.connection.gathered.len() > GATHER_MAX
            && let Err(next) = self.flush(transaction).await
        {
            return next;
        }
        if confirm {
            return self.leave().await;
        }
        if stream || transaction.awaited_replies() == 0 {
            return self.next_piece(content).await;
        }
        if let Err(next) = self.flush(transaction).await {
            return next;
        }
        let limit = transaction.timeout(self.timeouts);
        match within(&mut self.phase, limit, self.connection.reply()).await {
            Ok(reply) => {
                // A connection that waited may be greeted with 421 when it is used: that is about the wait.
                self.heard |= reply.code != 421;
                Next::Step(Event::Reply(reply))
            }
            Err(next) => next,
        }
    }

    /// Whether the final dot may be sent: the attempt is durable, and this owner still is one.
    async fn leave(&mut self) -> Next {
        let durable = tokio::select! {
            biased;
            _ = self.phase.wait_for(|phase| *phase == Phase::Stopped) => return Next::Stopped,
            durable = self.attempt.durable() => durable,
        };
        match durable.and_then(|_| self.queue.may_act()) {
            Ok(()) => Next::Step(Event::FinalDotConfirmed),
            Err(refusal) => {
                let status = EnhancedStatus::new(4, 3, 2);
                Next::Step(Event::Abandoned(Reply::local(451, status, format!("not sent: {refusal}"))))
            }
        }
    }

    async fn next_piece(&mut self, content: &mut Content) -> Next {
        match content.next().await {
            Some(Ok(piece)) => Next::Step(Event::Body(piece)),
            None => Next::Step(Event::BodyEnd),
            Some(Err(error)) => {
                self.heard = true;
                let status = EnhancedStatus::new(4, 3, 0);
                let reply = Reply::local(451, status, "the stored message cannot be read");
                if matches!(error, ContentError::Damaged { .. }) {
                    self.damage = Some(error);
                }
                Next::Step(Event::Abandoned(reply))
            }
        }
    }

    async fn flush(&mut self, transaction: &Transaction) -> Result<(), Next> {
        if self.connection.gathered.is_empty() {
            return Ok(());
        }
        let limit = transaction.timeout(self.timeouts);
        within(&mut self.phase, limit, self.connection.flush()).await?;
        Ok(())
    }
}

/// What happened next.
enum Next {
    Done(Completion),
    Step(Event),
    Stopped,
    Broken(Broken),
}

/// Waits for `work`, but not longer than `limit`, and not after delivery was stopped.
async fn within<T>(
    phase: &mut watch::Receiver<Phase>,
    limit: Duration,
    work: impl Future<Output = Result<T, Broken>>,
) -> Result<T, Next> {
    tokio::select! {
        biased;
        _ = phase.wait_for(|phase| *phase == Phase::Stopped) => Err(Next::Stopped),
        done = timeout(limit, work) => match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(broken)) => Err(Next::Broken(broken)),
            Err(_) => Err(Next::Broken(Broken("no answer in time".to_owned()))),
        },
    }
}
