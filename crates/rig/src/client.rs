//! The load generator: sessions that send probes at an even rate, as a careful MTA would.
//!
//! A session takes the next number, waits until it is due, and sends it until a 250 or a 5yz reply comes or the run ends. After
//! any failure it goes on with the same number on a new connection, so that through a balancer it comes to a living server.
//!
//! | what happened | what is recorded | what is done |
//! |---|---|---|
//! | 250 to the final dot | `accepted` | next number |
//! | 5yz anywhere | `refused` | next number |
//! | 4yz, 421, no connection, cut before the final dot | `submissions` | sent again |
//! | final dot sent, no reply | `cuts_after_dot` | sent again: it may be durable, the client cannot know |
//!
//! It never sends a message again that had its 250.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mail_model::{Clock, Moment};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::content::{Content, Message};
use crate::dialogue::{Answer, Dialogue, DialogueError};
use crate::pace::{Pace, Rate};
use crate::record::{Accepted, Probe};

/// How long a session waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, and for each reply.
    pub reply: Duration,
    /// Before a message is sent again, the first time; it doubles with each time, up to 16 times this.
    pub retry: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { reply: Duration::from_secs(5), retry: Duration::from_millis(50) }
    }
}

/// What mail is sent, where and how fast.
#[derive(Debug, Clone)]
pub struct Load {
    /// The server, or the balancer before it.
    pub target: SocketAddr,
    /// The run's name, in every probe tag. Letters and digits.
    pub run: String,
    /// How fast new messages are made.
    pub rate: Rate,
    /// Connections at one time.
    pub sessions: usize,
    /// Bytes of a message.
    pub message_size_bytes: usize,
    /// The reverse path.
    pub sender: String,
    /// The recipients of every message, all different.
    pub recipients: Vec<String>,
    /// A connection is closed with QUIT after so many.
    pub messages_per_connection: u32,
    /// Stops by itself after so many numbers; `None`: when told to.
    pub total: Option<u64>,
    /// Decides the bodies.
    pub seed: u64,
    /// How long a session waits for what.
    pub patience: Patience,
}

impl Load {
    /// A load with modest values: 100 messages of 4 KiB per second on 10 connections, one recipient, until stopped.
    #[must_use]
    pub fn new(target: SocketAddr, run: &str) -> Self {
        Self {
            target,
            run: run.to_owned(),
            rate: Rate::PerSecond(100),
            sessions: 10,
            message_size_bytes: 4096,
            sender: "probe@client.test".to_owned(),
            recipients: vec!["probe@example.test".to_owned()],
            messages_per_connection: 20,
            total: None,
            seed: 1,
            patience: Patience::default(),
        }
    }

    /// Starts the sessions, on the runtime of the caller. `clock` gives the moments of the records.
    #[must_use]
    pub fn start(self, clock: Arc<dyn Clock>) -> LoadRun {
        let content = Content::new(&self.run, &self.sender, self.seed, self.message_size_bytes);
        let course = Arc::new(Course {
            content,
            clock,
            began: Instant::now(),
            pace: Mutex::new(Pace::new(self.rate)),
            probes: Mutex::default(),
            ended: AtomicBool::new(false),
            tally: watch::Sender::default(),
            stopping: watch::Sender::new(false),
            load: self,
        });
        let mut sessions = JoinSet::new();
        for _ in 0..course.load.sessions.max(1) {
            sessions.spawn(Session { course: Arc::clone(&course), connection: None }.run());
        }
        LoadRun { course, sessions }
    }
}

/// A run in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LoadTally {
    /// Numbers begun.
    pub begun: u64,
    /// Messages with a 250.
    pub accepted: u64,
    /// Messages with a 5yz.
    pub refused: u64,
    /// Transactions that failed and were, or will be, done again.
    pub retries: u64,
    /// Transactions cut between the final dot and its reply.
    pub cuts_after_dot: u64,
}

/// A run that goes on. Its sessions are cut when it is dropped.
#[derive(Debug)]
pub struct LoadRun {
    course: Arc<Course>,
    sessions: JoinSet<()>,
}

impl LoadRun {
    /// The numbers so far.
    #[must_use]
    pub fn tally(&self) -> LoadTally {
        *self.course.tally.borrow()
    }

    /// The numbers as they change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LoadTally> {
        self.course.tally.subscribe()
    }

    /// Begins no new message from now on. Those begun are still sent.
    pub fn stop(&self) {
        self.course.stopping.send_replace(true);
    }

    /// A copy of the records so far, in the order of numbers.
    #[must_use]
    pub fn probes(&self) -> Vec<Probe> {
        self.course.probes.lock().clone()
    }

    /// Waits until a run with a total, or one that was stopped, has nothing left to send, but no longer than `patience`; then
    /// cuts what is left. Answers the records of all messages, in the order of numbers.
    pub async fn finish(mut self, patience: Duration) -> Vec<Probe> {
        let deadline = Instant::now() + patience;
        while let Ok(Some(_)) = timeout_at(deadline, self.sessions.join_next()).await {}
        self.course.ended.store(true, Ordering::Relaxed);
        self.sessions.shutdown().await;
        std::mem::take(&mut *self.course.probes.lock())
    }
}

/// What all sessions share.
#[derive(Debug)]
struct Course {
    load: Load,
    content: Content,
    clock: Arc<dyn Clock>,
    began: Instant,
    pace: Mutex<Pace>,
    /// Number n stands at n - 1.
    probes: Mutex<Vec<Probe>>,
    ended: AtomicBool,
    tally: watch::Sender<LoadTally>,
    stopping: watch::Sender<bool>,
}

impl Course {
    /// When the next message is due; `None` if there is no further one.
    fn due(&self) -> Option<Instant> {
        let due = self.pace.lock().take(self.began.elapsed());
        (!*self.stopping.borrow()).then(|| self.began + due)
    }

    /// Begins the next number, unless the total is reached.
    fn begin(&self) -> Option<(u64, Message)> {
        let number = {
            let mut probes = self.probes.lock();
            let number = probes.len() as u64 + 1;
            if self.load.total.is_some_and(|total| number > total) {
                return None;
            }
            probes.push(Probe {
                number,
                size_bytes: 0,
                checksum: 0,
                recipients: self.load.recipients.len(),
                first_submitted: None,
                submissions: 0,
                cuts_after_dot: 0,
                accepted: None,
                refused: None,
            });
            number
        };
        let message = self.content.message(number);
        self.note(number, |probe, tally, _| {
            probe.size_bytes = message.size_bytes;
            probe.checksum = message.checksum;
            tally.begun += 1;
        });
        Some((number, message))
    }

    fn note(&self, number: u64, change: impl FnOnce(&mut Probe, &mut LoadTally, Moment)) {
        let now = self.clock.now();
        let mut probes = self.probes.lock();
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        if let Some(probe) = place.and_then(|place| probes.get_mut(place)) {
            self.tally.send_modify(|tally| change(probe, tally, now));
        }
    }
}

/// How a transaction that got no 250 ended.
#[derive(Debug)]
enum Failure {
    /// 5yz: never again.
    Refused(Answer),
    /// Anything else: on a new connection.
    Again,
}

impl From<DialogueError> for Failure {
    fn from(_: DialogueError) -> Self {
        Self::Again
    }
}

impl From<Answer> for Failure {
    fn from(answer: Answer) -> Self {
        if answer.is_permanent() { Self::Refused(answer) } else { Self::Again }
    }
}

/// An open connection after its hello.
#[derive(Debug)]
struct Connection {
    dialogue: Dialogue,
    pipelining: bool,
    size: bool,
    messages: u32,
}

/// One session: at most one connection at a time.
#[derive(Debug)]
struct Session {
    course: Arc<Course>,
    connection: Option<Connection>,
}

impl Session {
    async fn run(mut self) {
        let mut stopping = self.course.stopping.subscribe();
        while let Some(due) = self.course.due() {
            if due > Instant::now() {
                tokio::select! {
                    () = sleep_until(due) => {}
                    _ = stopping.wait_for(|stop| *stop) => break,
                }
            }
            let Some((number, message)) = self.course.begin() else { break };
            self.send(number, &message).await;
        }
        self.quit().await;
    }

    /// Sends one message until it is accepted or refused for good.
    async fn send(&mut self, number: u64, message: &Message) {
        let mut pause = self.course.load.patience.retry;
        let pause_max = pause * 16;
        while !self.course.ended.load(Ordering::Relaxed) {
            match self.transact(number, message).await {
                Ok(answer) => {
                    self.course.note(number, |probe, tally, at| {
                        probe.accepted = Some(Accepted { at, text: answer.text().to_owned() });
                        tally.accepted += 1;
                    });
                    return;
                }
                Err(Failure::Refused(answer)) => {
                    self.connection = None;
                    self.course.note(number, |probe, tally, _| {
                        probe.refused = Some(format!("{} {}", answer.code, answer.text()));
                        tally.refused += 1;
                    });
                    return;
                }
                Err(Failure::Again) => {
                    self.connection = None;
                    self.course.note(number, |_, tally, _| tally.retries += 1);
                    sleep(pause).await;
                    pause = (pause * 2).min(pause_max);
                }
            }
        }
    }

    /// One transaction. After an error the connection must not be used again.
    async fn transact(&mut self, number: u64, message: &Message) -> Result<Answer, Failure> {
        let course = Arc::clone(&self.course);
        if self.connection.as_ref().is_some_and(|open| open.messages >= course.load.messages_per_connection) {
            self.quit().await;
        }
        let open = match &mut self.connection {
            Some(open) => open,
            None => self.connection.insert(Connection::open(&course.load).await?),
        };
        course.note(number, |probe, _, now| {
            probe.submissions += 1;
            probe.first_submitted.get_or_insert(now);
        });
        open.envelope(&course.load, message.size_bytes).await?;
        // Counted before the bytes leave, so that a session that is cut at any point from here on is counted.
        let cut = |change: fn(u64) -> u64| {
            move |probe: &mut Probe, tally: &mut LoadTally, _: Moment| {
                probe.cuts_after_dot =
                    u32::try_from(change(u64::from(probe.cuts_after_dot))).unwrap_or(u32::MAX);
                tally.cuts_after_dot = change(tally.cuts_after_dot);
            }
        };
        course.note(number, cut(|cuts| cuts + 1));
        if let Err(error) = open.dialogue.send(&message.wire).await {
            // The last bytes, the final dot among them, never left.
            course.note(number, cut(|cuts| cuts.saturating_sub(1)));
            return Err(error.into());
        }
        let answer = open.dialogue.reply().await?;
        course.note(number, cut(|cuts| cuts.saturating_sub(1)));
        open.messages += 1;
        if answer.is_positive() { Ok(answer) } else { Err(answer.into()) }
    }

    async fn quit(&mut self) {
        if let Some(mut open) = self.connection.take() {
            // Manners only: nothing depends on the reply.
            drop(open.dialogue.command("QUIT").await);
        }
    }
}

impl Connection {
    async fn open(load: &Load) -> Result<Self, Failure> {
        let mut dialogue = Dialogue::connect(load.target, load.patience.reply).await?;
        let greeting = dialogue.reply().await?;
        if !greeting.is_positive() {
            // A server that will not serve now is none that refuses the message.
            return Err(Failure::Again);
        }
        let hello = dialogue.command("EHLO client.test").await?;
        let (pipelining, size) = if hello.is_positive() {
            (hello.extension("PIPELINING").is_some(), hello.extension("SIZE").is_some())
        } else {
            let hello = dialogue.command("HELO client.test").await?;
            if !hello.is_positive() {
                return Err(Failure::Again);
            }
            (false, false)
        };
        Ok(Self { dialogue, pipelining, size, messages: 0 })
    }

    /// MAIL, RCPT and DATA, in one write where the server can take it. Returns when DATA was answered with 354.
    async fn envelope(&mut self, load: &Load, size_bytes: u64) -> Result<(), Failure> {
        let size = if self.size { format!(" SIZE={size_bytes}") } else { String::new() };
        let mut commands = vec![format!("MAIL FROM:<{}>{size}\r\n", load.sender)];
        commands.extend(load.recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>\r\n")));
        commands.push("DATA\r\n".to_owned());
        if self.pipelining {
            self.dialogue.send(commands.concat()).await?;
        }
        // The first refusal decides. Where DATA was accepted all the same, the connection is closed before any content, and the
        // server must forget the transaction. RFC 5321 4.1.1.4.
        for command in &commands {
            if !self.pipelining {
                self.dialogue.send(command).await?;
            }
            let answer = self.dialogue.reply().await?;
            if !answer.is_positive() && answer.code != 354 {
                return Err(answer.into());
            }
        }
        Ok(())
    }
}
