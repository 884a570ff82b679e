//! A switch around the production queue: clients are served, mail is delivered, the queue is handed back. What it does, in
//! which order, is what `switch/src/intake` and `switch/src/delivery` do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::instance::{Order, State};
use mail_model::{
    BootId, Clock, Domain, Envelope, Mailbox, QueueId, Recipient, RecipientIndex, ReversePath, Role, WallTime,
};
use parking_lot::Mutex;
use queue_format::record::{
    Content, Failure, MessageKey, MessageRecord, OutcomeGroup, OutcomeRecord, RecipientState, Verdict,
    encode_envelope,
};
use queue_store::{AppendError, Queue, QueueOptions, Refusal};
use schedule::{ConcurrencyLimits, Outcome, RetryPolicy};

use crate::ledger::{Name, content};
use crate::scheduler::{MS, ProcessId, SECOND, Threads, Time};
use crate::site::{Node, Running, Site};
use crate::weakness::Weakness;

/// Small, so that segments are closed, carried forward and removed within one story.
const SEGMENT_SIZE: u64 = 32 << 10;
const SESSIONS: usize = 3;
const WORKERS: usize = 3;
const HOPS: u64 = 2;
const WAIT_MAX: Duration = Duration::from_secs(4);

type Agenda = schedule::Queue<u64, MessageKey>;

#[derive(Clone)]
struct Switch {
    site: Site,
    node: Node,
    process: ProcessId,
    queue: Queue,
    agenda: Arc<Mutex<Agenda>>,
    draining: Arc<Mutex<bool>>,
}

/// Starts a switch for `queue` on a node, and returns at once.
pub(crate) fn start(
    site: &Site,
    node: usize,
    queue: &QueueId,
    role: Role,
    order: Option<Order>,
) -> ProcessId {
    let process = site.scheduler.new_process();
    site.enter(Running {
        process,
        node,
        queue: queue.clone(),
        state: State::Init,
        handle: None,
        drain: None,
    });
    let (site, queue) = (site.clone(), queue.clone());
    let scheduler = site.scheduler.clone();
    scheduler.spawn(process, "main", move || live(&site, node, process, &queue, role, order));
    process
}

fn live(site: &Site, node: usize, process: ProcessId, queue: &QueueId, role: Role, order: Option<Order>) {
    let node = site.nodes[node].clone();
    let scheduler = &site.scheduler;
    let mount = site.disk.mount(process, node.index, node.cache);
    let options = QueueOptions {
        dir: Site::dir(queue),
        cluster: "sim".into(),
        queue: queue.clone(),
        owner: node.id.clone(),
        instance: site.instance(),
        boot: BootId(node.index as u128 + 1),
        role,
        order,
        timers: site.timers,
        segment_size: SEGMENT_SIZE,
        free_space_reserve: 4 * SEGMENT_SIZE,
        clock: Arc::new(node.clock.clone()),
        proof: None,
    };
    let threads = Threads { scheduler: scheduler.clone(), process };
    match Queue::open_simulated(Arc::new(mount), Arc::new(threads), options) {
        Ok(queue) => {
            site.update(process, |running| running.handle = Some(queue.clone()));
            let pause =
                RetryPolicy { first: Duration::from_secs(1), max: WAIT_MAX, ..RetryPolicy::default() };
            let agenda = Agenda::new(ConcurrencyLimits::default(), pause);
            let (agenda, draining) = (Arc::new(Mutex::new(agenda)), Arc::default());
            Switch { site: site.clone(), node, process, queue, agenda, draining }.run(role);
        }
        Err(error) => scheduler.tell(|| format!("switch {queue} on {}: {error}", node.id)),
    }
    scheduler.kill(process);
}

impl Switch {
    fn run(&self, role: Role) {
        let scheduler = &self.site.scheduler;
        let mut state = self.queue.state();
        let mut works = false;
        loop {
            let now = *state.borrow_and_update();
            self.site.update(self.process, |running| running.state = now);
            scheduler.tell(|| {
                let (queue, node, epoch) = (self.queue.id(), &self.node.id, self.queue.epoch());
                format!("queue {queue} on {node} {:?}: {} epoch {epoch}", self.process, now.as_str())
            });
            if now.is_final() {
                return;
            }
            if now == State::Active && !works {
                works = true;
                self.begin(role);
            }
            loop {
                if let Some(grace) = self.drain_order() {
                    return self.drain(grace);
                }
                if scheduler.wait_within(100 * MS, state.changed()).is_some() {
                    break;
                }
            }
        }
    }

    fn drain_order(&self) -> Option<Time> {
        let mut order = None;
        self.site.update(self.process, |running| order = running.drain.take());
        order
    }

    /// Begins nothing, waits for what runs, and gives the queue up.
    fn drain(&self, grace: Time) {
        let scheduler = &self.site.scheduler;
        scheduler.tell(|| format!("queue {} on {}: drains", self.queue.id(), self.node.id));
        *self.draining.lock() = true;
        self.queue.drain();
        let end = scheduler.now() + grace;
        while scheduler.now() < end && self.agenda.lock().running() > 0 {
            scheduler.sleep(20 * MS);
        }
        scheduler.wait(self.queue.release());
        let state = *self.queue.state().borrow();
        scheduler.tell(|| format!("queue {} on {}: {}", self.queue.id(), self.node.id, state.as_str()));
    }

    fn begin(&self, role: Role) {
        let now = self.node.clock.wall();
        let waiting: Option<Vec<(MessageKey, WallTime)>> = self.queue.books(|books| {
            let due = |(key, message): (MessageKey, queue_format::books::Message)| {
                (key, message.standings.iter().map(|s| s.due).min().unwrap_or(now))
            };
            books.messages().map(due).collect()
        });
        let mut waiting = waiting.unwrap_or_default();
        waiting.sort_unstable();
        for (key, due) in waiting {
            self.plan(key, due.since(now));
        }
        for _ in 0..WORKERS {
            let switch = self.clone();
            self.site.scheduler.spawn(self.process, "delivery", move || switch.deliver());
        }
        // A secondary listens nowhere.
        if role == Role::Primary {
            for _ in 0..SESSIONS {
                let switch = self.clone();
                self.site.scheduler.spawn(self.process, "session", move || switch.serve());
            }
        }
    }

    fn plan(&self, key: MessageKey, after: Duration) {
        let now = self.node.clock.now();
        let expires = now + Duration::from_hours(100);
        // As in `delivery/context.rs`: no wait is longer than the longest, whatever was done to the wall clock.
        let due = now + after.min(WAIT_MAX);
        self.agenda.lock().add(&(key.sequence % HOPS), key, due, expires);
    }

    fn name(&self, key: MessageKey) -> Name {
        (self.queue.id().clone(), key)
    }

    /// A client that sends one message after the other.
    fn serve(&self) {
        let site = &self.site;
        while !site.ledger.is_closed() && !*self.draining.lock() {
            let (pause, len, recipients, pieces) = site.scheduler.draw(|chance| {
                let recipients = 1 + chance.below(3);
                (chance.between(20, 400) * MS, chance.index(3_000), recipients, chance.one_in(8))
            });
            site.scheduler.sleep(pause);
            if self.queue.admit(len as u64).is_err() {
                continue;
            }
            let recipients = RecipientIndex::try_from(recipients).unwrap();
            let key = self.queue.next_key();
            let answer = if pieces {
                self.send_in_pieces(key, 9_000 + len, recipients)
            } else {
                self.send(key, len, recipients, Content::Inline)
            };
            match answer {
                Ok(()) | Err(Refusal::Append(AppendError::Full | AppendError::ContentGone)) => {}
                Err(_) => return,
            }
        }
    }

    fn send_in_pieces(&self, key: MessageKey, len: usize, recipients: RecipientIndex) -> Result<(), Refusal> {
        let body = Bytes::from(content(&self.name(key), len));
        let mut chunks = Vec::new();
        for start in (0..len).step_by(4_000) {
            let piece = body.slice(start..len.min(start + 4_000));
            match self.site.scheduler.wait(self.queue.append_chunk(key, piece)) {
                Ok(chunk) => chunks.push(chunk),
                Err(error) => {
                    self.queue.abandon(key);
                    return Err(error);
                }
            }
            self.site.scheduler.sleep(5 * MS);
        }
        self.send(key, len, recipients, Content::Chunks(chunks))
    }

    fn send(
        &self,
        key: MessageKey,
        len: usize,
        recipients: RecipientIndex,
        how: Content,
    ) -> Result<(), Refusal> {
        let name = self.name(key);
        let number = self.site.ledger.offer(&name, len, recipients);
        let body = if how == Content::Inline { Bytes::from(content(&name, len)) } else { Bytes::new() };
        let record = MessageRecord {
            key,
            received: self.node.clock.wall(),
            size: len as u64,
            origin: "client".into(),
            envelope: envelope(recipients),
            content: how,
            settles: None,
            handover: None,
        };
        self.site.scheduler.wait(self.queue.accept(record, body))?;
        // The 250 is on its way: nothing of this process stands between it and the client.
        self.site.ledger.acknowledge(number);
        self.queue.replied(key);
        self.plan(key, Duration::ZERO);
        Ok(())
    }

    /// A worker that delivers what is due.
    fn deliver(&self) {
        let scheduler = &self.site.scheduler;
        loop {
            let task = self.agenda.lock().next(self.node.clock.now());
            let Some(task) = task.filter(|_| !*self.draining.lock()) else {
                scheduler.sleep(scheduler.draw(|chance| chance.between(20, 60)) * MS);
                continue;
            };
            let outcome = self.attempt(task.item);
            self.agenda.lock().finished(&task.destination, task.item, outcome, self.node.clock.now());
        }
    }

    /// One transaction. `delivery/attempt.rs` has this order: content, ATTEMPT durable, leave to act, final dot, OUTCOME.
    fn attempt(&self, key: MessageKey) -> Outcome {
        let (site, scheduler, name) = (&self.site, &self.site.scheduler, self.name(key));
        let waiting = self.queue.books(|books| {
            let message = books.message(key)?;
            let queued =
                (0..).zip(message.standings.iter()).filter(|(_, s)| s.state == RecipientState::Queued);
            Some(queued.map(|(index, _)| index).collect::<Vec<RecipientIndex>>())
        });
        let Some(Some(recipients)) = waiting else { return Outcome::Untried };
        if recipients.is_empty() {
            return Outcome::Untried;
        }
        let found = self.read(key);
        site.ledger.check_content(&name, &found);
        if found.is_err() {
            self.plan(key, Duration::from_millis(300));
            return Outcome::Untried;
        }
        let luck = scheduler.draw(|chance| chance.below(100));
        if site.weakness == Weakness::LazyAttempt && luck < 84 {
            site.ledger.deliver(&name, &recipients);
        }
        let wall = self.node.clock.wall();
        let began = scheduler.wait(self.queue.begin_attempt(key, recipients.clone(), "hop".into(), wall));
        let Ok(number) = began else {
            self.plan(key, Duration::from_millis(500));
            return Outcome::Untried;
        };
        scheduler.sleep(scheduler.draw(|chance| chance.below(10 * MS)));
        let later = Verdict::Deferred { due: self.node.clock.wall() + Duration::from_secs(1) };
        let may_end = luck >= 90 || self.queue.may_act().is_ok();
        // Between the leave and the dot anything may happen: that is what the doubt is for.
        scheduler.sleep(scheduler.draw(|chance| chance.below(MS)));
        let (verdict, reach) = match luck {
            _ if !may_end => (later, Outcome::Untried),
            0..84 => (Verdict::Delivered, Outcome::Reached),
            84..87 => (Verdict::InDoubt { due: self.node.clock.wall() }, Outcome::Reached),
            87..90 => (Verdict::Failed { how: Failure::Bounced, owed: false }, Outcome::Reached),
            90..96 => (later, Outcome::Reached),
            _ => (later, Outcome::Unreachable(7)),
        };
        match verdict {
            Verdict::Delivered if site.weakness == Weakness::LazyAttempt => {}
            Verdict::Delivered | Verdict::DeliveredOwed | Verdict::InDoubt { .. } => {
                site.ledger.deliver(&name, &recipients);
            }
            Verdict::Failed { .. } => site.ledger.refuse(&name, &recipients),
            Verdict::Deferred { .. } | Verdict::InDoubtHeld => {}
        }
        scheduler.sleep(scheduler.draw(|chance| chance.below(10 * MS)));
        let outcome = OutcomeRecord {
            message: key,
            attempt: Some((self.queue.epoch(), number)),
            at: self.node.clock.wall(),
            groups: vec![OutcomeGroup { verdict, reply: None, recipients }],
        };
        self.conclude(key, verdict, outcome);
        reach
    }

    fn conclude(&self, key: MessageKey, verdict: Verdict, outcome: OutcomeRecord) {
        let scheduler = &self.site.scheduler;
        if verdict == Verdict::Delivered {
            scheduler.wait(self.queue.settle_lazily(outcome)).ok();
            return;
        }
        loop {
            match scheduler.wait(self.queue.settle(outcome.clone())) {
                Err(Refusal::Full | Refusal::Append(AppendError::Full)) => scheduler.sleep(SECOND / 2),
                Ok(()) => break,
                Err(_) => return,
            }
        }
        match verdict {
            Verdict::Deferred { due } | Verdict::InDoubt { due } => {
                self.plan(key, due.since(self.node.clock.wall()));
            }
            Verdict::Delivered | Verdict::DeliveredOwed | Verdict::Failed { .. } | Verdict::InDoubtHeld => {}
        }
    }

    fn read(&self, key: MessageKey) -> Result<Vec<u8>, String> {
        let mut last = "not live".to_owned();
        // Between the look into the books and the read a message may have moved to a younger segment.
        for _ in 0..2 {
            let mut reader = self.queue.content(key).ok_or("not live")?;
            let mut bytes = Vec::new();
            let end = loop {
                match reader.next_piece() {
                    None => break Ok(()),
                    Some(Ok(piece)) => bytes.extend_from_slice(&piece),
                    Some(Err(error)) => break Err(error.to_string()),
                }
            };
            match end {
                Ok(()) => return Ok(bytes),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn envelope(recipients: RecipientIndex) -> Vec<u8> {
    let domain = Domain::new("example.test").unwrap();
    let sender = Mailbox::new("from", domain.clone()).unwrap();
    let mut envelope = Envelope::from_sender(ReversePath::Mailbox(sender));
    for number in 0..recipients {
        let to = Mailbox::new(&format!("to{number}"), domain.clone()).unwrap();
        envelope.recipients.push(Recipient::plain(to));
    }
    encode_envelope(&envelope)
}
