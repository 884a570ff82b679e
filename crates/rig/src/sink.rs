//! A capturing SMTP server: the far end of every proof. It records each message it takes before it says 250, behaves as
//! badly as it is told to, and notes every breach of the protocol by the client that talks to it.
//!
//! It parses in whole buffers and keeps no content unless asked, so that it is never the slowest part of a measurement.
//! It never sends mail, and it never forgets a record until told to.

mod behaviour;
mod intake;
mod session;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use mail_model::{Clock, Moment};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

pub use behaviour::{Act, Behaviour, Extensions, Rule, Stage};

use crate::listen::listener;
use crate::record::{Delivery, ProbeTag};
use session::{Flow, Outcome, Session, Turn};

/// The most violations that are kept; more are only counted.
const VIOLATIONS_MAX: usize = 1000;
/// Bytes asked for with one read.
const READ_BYTES: usize = 64 * 1024;

/// How a sink is started.
#[derive(Debug, Clone)]
pub struct SinkOptions {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// How it answers.
    pub behaviour: Behaviour,
    /// Messages up to this size are kept whole in their record; 0 keeps none.
    pub keep_bytes_max: u64,
    /// Gives [`Delivery::at`].
    pub clock: Arc<dyn Clock>,
}

impl SinkOptions {
    /// A sink on a free port of 127.0.0.1 that takes everything and keeps no content.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            behaviour: Behaviour::default(),
            keep_bytes_max: 0,
            clock,
        }
    }
}

/// A breach of the protocol by a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// When it was seen.
    pub at: Moment,
    /// The client.
    pub peer: SocketAddr,
    /// What it did.
    pub what: &'static str,
}

/// What a sink has seen so far, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SinkTally {
    /// Connections taken.
    pub connections: u64,
    /// Messages taken.
    pub deliveries: u64,
    /// Different probes among them.
    pub probes: u64,
    /// Breaches of the protocol.
    pub violations: u64,
    /// When the latest message came.
    pub latest: Option<Moment>,
}

/// Rules with the count of how often each acted.
#[derive(Debug)]
struct Manner {
    behaviour: Behaviour,
    acted: Vec<AtomicU64>,
}

impl Manner {
    fn new(behaviour: Behaviour) -> Arc<Self> {
        let acted = behaviour.rules.iter().map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { behaviour, acted })
    }

    fn rule(&self, stage: Stage, local_part: &str) -> Option<(Duration, Act)> {
        let matching = self.behaviour.rules.iter().zip(&self.acted).find(|(rule, acted)| {
            rule.matches(stage, local_part)
                && rule.times.is_none_or(|times| acted.fetch_add(1, Ordering::Relaxed) < times)
        });
        matching.map(|(rule, _)| (rule.delay, rule.act.clone()))
    }
}

#[derive(Debug, Default)]
struct Ledger {
    deliveries: Vec<Delivery>,
    seen: HashSet<ProbeTag>,
    violations: Vec<Violation>,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    keep_bytes_max: u64,
    manner: watch::Sender<Arc<Manner>>,
    ledger: Mutex<Ledger>,
    tally: watch::Sender<SinkTally>,
}

impl Shared {
    fn record(&self, peer: SocketAddr, outcome: &mut Outcome) {
        if outcome.deliveries.is_empty() && outcome.faults.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut ledger = self.ledger.lock();
        for what in outcome.faults.drain(..) {
            if ledger.violations.len() < VIOLATIONS_MAX {
                ledger.violations.push(Violation { at: now, peer, what });
            }
            self.tally.send_modify(|tally| tally.violations += 1);
        }
        for delivery in outcome.deliveries.drain(..) {
            let new = delivery.probe.clone().is_some_and(|tag| ledger.seen.insert(tag));
            let at = delivery.at;
            ledger.deliveries.push(delivery);
            self.tally.send_modify(|tally| {
                tally.deliveries += 1;
                tally.probes += u64::from(new);
                tally.latest = Some(at);
            });
        }
    }
}

/// A running sink. It stops when dropped; its records can be read until then, also after [`Sink::stop`].
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Sink {
    /// Listens and serves, on the runtime of the caller.
    pub fn start(options: SinkOptions) -> io::Result<Self> {
        let listener = listener(options.address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            clock: options.clock,
            keep_bytes_max: options.keep_bytes_max,
            manner: watch::Sender::new(Manner::new(options.behaviour)),
            ledger: Mutex::default(),
            tally: watch::Sender::default(),
        });
        let listening = tokio::spawn(listen(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, listening: Mutex::new(Some(listening)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers so from the next command on, in open sessions too. Counts of rules begin anew.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.manner.send_replace(Manner::new(behaviour));
    }

    /// What was seen so far, in numbers.
    #[must_use]
    pub fn tally(&self) -> SinkTally {
        *self.shared.tally.borrow()
    }

    /// The tally as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<SinkTally> {
        self.shared.tally.subscribe()
    }

    /// Waits until the tally is as wanted; answers whether it came to that within `patience`.
    pub async fn wait_for(&self, wanted: impl FnMut(&SinkTally) -> bool, patience: Duration) -> bool {
        let mut tally = self.watch();
        timeout(patience, tally.wait_for(wanted)).await.is_ok_and(|seen| seen.is_ok())
    }

    /// A copy of all records, in the order of their coming.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.ledger.lock().deliveries.clone()
    }

    /// Looks at all records without a copy. Nothing is recorded meanwhile.
    pub fn inspect<T>(&self, look: impl FnOnce(&[Delivery]) -> T) -> T {
        look(&self.shared.ledger.lock().deliveries)
    }

    /// Breaches of the protocol by clients, the first thousand.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.ledger.lock().violations.clone()
    }

    /// Stops listening and cuts all sessions. The records stay.
    pub async fn stop(&self) {
        let listening = self.listening.lock().take();
        if let Some(listening) = listening {
            listening.abort();
            // An aborted task ends with an error that says so.
            drop(listening.await);
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.lock().take() {
            listening.abort();
        }
    }
}

/// Takes connections until aborted; its sessions end with it.
async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => {
                // A connection that was reset before it was taken is no fault of the sink.
                if let Ok((stream, peer)) = taken {
                    shared.tally.send_modify(|tally| tally.connections += 1);
                    sessions.spawn(serve(stream, peer, Arc::clone(&shared)));
                }
            }
            Some(_) = sessions.join_next() => {}
        }
    }
}

/// Serves one connection. An error of the connection ends it, and concerns nobody else.
async fn serve(mut stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    drop(stream.set_nodelay(true));
    drop(converse(&mut stream, peer, &shared).await);
}

async fn converse(stream: &mut TcpStream, peer: SocketAddr, shared: &Shared) -> io::Result<()> {
    let mut session = Session::new(shared.keep_bytes_max);
    let mut input = BytesMut::with_capacity(READ_BYTES);
    let mut outcome = Outcome::default();
    let mut flow = turn(shared, &mut outcome, |turn| session.greet(turn));
    loop {
        // On record before the reply says so.
        shared.record(peer, &mut outcome);
        if !outcome.output.is_empty() {
            stream.write_all(&outcome.output).await?;
            outcome.output.clear();
        }
        match flow {
            Flow::Close => return stream.shutdown().await,
            Flow::Wait(delay) => tokio::time::sleep(delay).await,
            Flow::Read => {
                input.reserve(READ_BYTES / 4);
                if stream.read_buf(&mut input).await? == 0 {
                    turn(shared, &mut outcome, |turn| session.client_closed(&input, turn));
                    shared.record(peer, &mut outcome);
                    return Ok(());
                }
            }
        }
        flow = turn(shared, &mut outcome, |turn| session.step(&mut input, turn));
    }
}

/// Lets the session take one step under the behaviour of this moment.
fn turn<T>(shared: &Shared, outcome: &mut Outcome, step: impl FnOnce(&mut Turn<'_>) -> T) -> T {
    let manner = Arc::clone(&shared.manner.borrow());
    let rules = |stage: Stage, local_part: &str| manner.rule(stage, local_part);
    step(&mut Turn { now: shared.clock.now(), behaviour: &manner.behaviour, rules: &rules, outcome })
}
