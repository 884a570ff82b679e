//! The task that knows what is due, and the workers it starts.
//!
//! A worker is a task that does one item of a destination and goes on with the next as long as there is one, on the same
//! connection. It ends when nothing is due there, or when others wait for its place.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use mail_model::{Mailbox, Moment, Reply, WallTime};
use queue_format::books::Walk;
use queue_format::record::{MessageKey, decode_envelope};
use queue_store::Refusal;
use routing::DomainPattern;
use schedule::Outcome;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::attempt::Attempt;
use super::connection::Connection;
use super::context::{Context, DeliveryParts, Phase};
use super::destination::{Destination, Lane, Way};
use super::idle::Order;
use super::share::Share;
use super::{give_up, plan};
use crate::bounce;

/// Messages looked up while the books are locked once.
const LOOK_UP_MAX: usize = 64;
/// How often claims and idle connections are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long tasks may take to end once everything was stopped.
const STOP_TIME: Duration = Duration::from_secs(5);
/// How often late messages are looked for. It walks all messages, and opens those that just became late.
const LATE_TICK: Duration = Duration::from_secs(20);
/// How long to wait until a notification that could not be queued is made again.
const BOUNCE_RETRY: Duration = Duration::from_secs(5);

/// How delivery stands, for a monitoring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeliveryFigures {
    /// Messages that wait for a next hop.
    pub(crate) waiting: usize,
    /// Attempts that run.
    pub(crate) running: usize,
    /// The destinations where the most waits.
    pub(crate) lines: Vec<Line>,
}

/// How a destination stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its hosts.
    pub(crate) destination: String,
    /// Messages that wait for it.
    pub(crate) waiting: usize,
    /// It could not be reached the last time.
    pub(crate) unreachable: bool,
}

/// Running delivery. Dropped, it stops.
#[derive(Debug)]
pub struct Delivery {
    context: Arc<Context>,
    dispatcher: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

impl Delivery {
    /// Starts to deliver what is in the queue, on the runtime of the caller. The queue must be active.
    #[must_use]
    pub fn start(parts: DeliveryParts) -> Self {
        let (news, inbox) = mpsc::unbounded_channel();
        let context = Arc::new(Context::new(parts, news));
        let share = Share::open(&context.settings.load().node.state_dir);
        context.schedule.lock().expect_sharers(share.switches());
        let loaded = load(&context);
        tracing::info!(event = "delivery.started", messages = loaded.len());
        let dispatcher = Dispatcher {
            context: Arc::clone(&context),
            inbox,
            workers: JoinSet::new(),
            late: WallTime(0),
            share,
        };
        let task = tokio::spawn(dispatcher.run(loaded));
        Self { context, dispatcher: parking_lot::Mutex::new(Some(task)) }
    }

    /// Says that `key` is durable, or that an operator changed it. Never waits.
    pub fn notice(&self, key: MessageKey) {
        self.context.notice(key);
    }

    /// Says that `key` is durable, with its content if that is at hand. Never waits.
    pub fn accepted(&self, key: MessageKey, content: Bytes) {
        self.context.recent.keep(key, content, self.context.clock.now());
        self.context.notice(key);
    }

    /// Says that an operator wants `key` to be tried now, even where the next hop could not be reached. Never waits.
    pub fn hurry(&self, key: MessageKey) {
        let items = plan::scatter(&self.context, &[key]);
        let now = self.context.clock.now();
        let mut schedule = self.context.schedule.lock();
        for item in items {
            schedule.add(&item.destination, item.key, item.due, item.expires);
            if item.due <= now {
                schedule.end_pause(&item.destination, now);
            }
        }
        drop(schedule);
        self.context.wake.notify_one();
    }

    /// Gives up what waits of a message, as if it had been refused with `reply`: the sender is told. Recipients in a running
    /// attempt are left to it. Durable when it returns: how many were given up, `None` if there is no such message.
    pub async fn give_up(&self, key: MessageKey, reply: &Reply) -> Result<Option<u64>, Refusal> {
        give_up::give_up(&self.context, key, reply).await
    }

    /// Begins no attempt for recipients of a domain until then. Kept when it returns.
    pub(crate) async fn suspend(
        &self,
        pattern: DomainPattern,
        until: WallTime,
        by: String,
    ) -> std::io::Result<()> {
        self.context.suspended.add(pattern, until, by).await
    }

    /// Ends that; false if it was not so.
    pub(crate) async fn unsuspend(&self, pattern: &DomainPattern) -> std::io::Result<bool> {
        let found = self.context.suspended.remove(pattern).await?;
        if found {
            // Whose mail that is stands in each envelope; all are looked at, a few at a time.
            for key in load(&self.context) {
                self.context.notice(key);
            }
        }
        Ok(found)
    }

    /// How much waits and runs, and the `lines_max` destinations where the most waits.
    pub(crate) fn figures(&self, lines_max: usize) -> DeliveryFigures {
        let schedule = self.context.schedule.lock();
        let line = |line: schedule::Line<Destination>| Line {
            destination: line.destination.to_string(),
            waiting: line.waiting,
            unreachable: line.unreachable,
        };
        DeliveryFigures {
            waiting: schedule.waiting(),
            running: schedule.running(),
            lines: schedule.longest(lines_max).into_iter().map(line).collect(),
        }
    }

    /// Begins nothing new, and waits for what runs. After `grace` connections are dropped before their final dot; what
    /// was sent whole and not answered is in doubt.
    pub async fn drain(&self, grace: Duration) {
        self.context.phase.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            *phase = if running { Phase::Draining } else { *phase };
            running
        });
        let Some(mut dispatcher) = self.dispatcher.lock().take() else { return };
        if tokio::time::timeout(grace, &mut dispatcher).await.is_err() {
            self.context.phase.send_replace(Phase::Stopped);
            end(dispatcher).await;
        }
    }

    /// Stops at once: every connection is closed, and no final dot is sent any more.
    pub async fn stop(&self) {
        self.context.phase.send_replace(Phase::Stopped);
        let dispatcher = self.dispatcher.lock().take();
        if let Some(dispatcher) = dispatcher {
            end(dispatcher).await;
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.context.phase.send_replace(Phase::Stopped);
    }
}

async fn end(mut dispatcher: JoinHandle<()>) {
    if tokio::time::timeout(STOP_TIME, &mut dispatcher).await.is_err() {
        // Its workers go with it. What they had not told the journal is in doubt for the next owner.
        dispatcher.abort();
    }
}

/// Every message with something to do, the one that is due first in front.
fn load(context: &Context) -> Vec<MessageKey> {
    let found = context.queue.books(|books| books.agenda().collect());
    let mut found: Vec<(WallTime, MessageKey)> = found.unwrap_or_default();
    found.sort_unstable();
    found.into_iter().map(|(_, key)| key).collect()
}

struct Dispatcher {
    context: Arc<Context>,
    inbox: mpsc::UnboundedReceiver<MessageKey>,
    workers: JoinSet<()>,
    /// Messages that came before were asked whether they are late.
    late: WallTime,
    share: Share,
}

impl Dispatcher {
    async fn run(mut self, loaded: Vec<MessageKey>) {
        let mut phase = self.context.phase.subscribe();
        for keys in loaded.chunks(LOOK_UP_MAX) {
            if !self.context.is_running() {
                break;
            }
            self.enter(keys);
            // Half a million messages are read without keeping everybody else waiting, new mail neither.
            let fresh: Vec<MessageKey> =
                std::iter::from_fn(|| self.inbox.try_recv().ok()).take(LOOK_UP_MAX).collect();
            self.enter(&fresh);
            self.start_workers();
            tokio::task::yield_now().await;
        }
        drop(loaded);
        let (mut swept, mut looked) = (Moment(0), Moment(0));
        let mut keys = Vec::with_capacity(LOOK_UP_MAX);
        while self.context.is_running() {
            self.enter(&keys);
            keys.clear();
            let now = self.context.clock.now();
            let limits = self.context.settings.load().limits.concurrency;
            self.context.schedule.lock().set_limits(limits);
            self.start_workers();
            if now.since(swept) >= TICK {
                swept = now;
                self.sweep(now);
            }
            if now.since(looked) >= LATE_TICK {
                looked = now;
                self.look_for_late().await;
            }
            let wait = self.wait(now);
            tokio::select! {
                _ = phase.wait_for(|phase| *phase != Phase::Running) => {}
                _ = self.inbox.recv_many(&mut keys, LOOK_UP_MAX) => {}
                () = self.context.wake.notified() => {}
                Some(_) = self.workers.join_next() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        // What runs ends by itself, or because it is stopped.
        self.context.idle.close();
        while self.workers.join_next().await.is_some() {}
        self.context.pool.clear();
    }

    /// Puts messages into the schedule.
    fn enter(&self, keys: &[MessageKey]) {
        if keys.is_empty() {
            return;
        }
        let items = plan::scatter(&self.context, keys);
        let mut schedule = self.context.schedule.lock();
        for item in items {
            if let Some(rate) = item.destination.rate() {
                schedule.set_pace(&item.destination, rate.interval());
            }
            schedule.add(&item.destination, item.key, item.due, item.expires);
        }
    }

    fn start_workers(&mut self) {
        let now = self.context.clock.now();
        loop {
            let task = self.context.schedule.lock().next(now);
            let Some(task) = task else { return };
            if let Some(task) = self.context.idle.give(task) {
                self.workers.spawn(serve(Arc::clone(&self.context), task));
            }
        }
    }

    fn sweep(&mut self, now: Moment) {
        let busy = self.context.schedule.lock().busy();
        let changed = self.share.look(busy);
        let mut schedule = self.context.schedule.lock();
        schedule.expect_sharers(self.share.switches());
        for (destination, sharers) in changed {
            schedule.set_sharers(&destination, sharers);
        }
        drop(schedule);
        let cache = self.context.settings.load().delivery.cache;
        self.context.pool.sweep(cache.idle, cache.connections, now);
        self.context.recent.sweep(now);
        let handovers = &self.context.handovers;
        if !handovers.is_empty() {
            self.context.queue.books(|books| handovers.sweep(books));
        }
        let claims = &self.context.claims;
        // Commits come between two sweeps.
        while claims.are_settling() && self.context.queue.books(|books| claims.sweep(books)) == Some(true) {}
    }

    /// Messages that became late since this was last asked. Each comes up once in the life of this owner.
    async fn look_for_late(&mut self) {
        let settings = self.context.settings.load_full();
        let Some(warn) = settings.bounces.warn else { return };
        let line = WallTime(self.context.clock.wall().0.saturating_sub(millis(warn)));
        let since = self.late;
        self.late = line.max(since);
        let mut walk = Walk::new();
        while !walk.is_over() {
            let late = self.context.queue.books(|books| {
                let is_late = |key: &MessageKey| {
                    let Some(message) = books.message(*key) else { return false };
                    let Ok(envelope) = decode_envelope(&message.envelope) else { return false };
                    let mut standings = (0..).zip(&message.standings);
                    standings.any(|(index, standing)| bounce::may_warn(&envelope, index, standing))
                };
                books.accepted_within(since, line, &mut walk).filter(is_late).collect::<Vec<_>>()
            });
            // The queue is not ours any more.
            let Some(late) = late else { return };
            self.bring_up(late);
            tokio::task::yield_now().await;
        }
    }

    /// Lets senders be told of messages, now.
    fn bring_up(&self, late: Vec<MessageKey>) {
        let now = self.context.clock.now();
        let mut schedule = self.context.schedule.lock();
        for key in late {
            schedule.add(&Destination::Bounce, key, now, Moment(u64::MAX));
        }
    }

    fn wait(&self, now: Moment) -> Duration {
        let schedule = self.context.schedule.lock();
        // Not less than a millisecond: a clock reads whole ones.
        let wait =
            schedule.next_wake().map_or(TICK, |wake| wake.since(now).clamp(Duration::from_millis(1), TICK));
        self.context.sleeps_until.store((now + wait).0, Ordering::Relaxed);
        drop(schedule);
        wait
    }
}

/// A worker.
async fn serve(context: Arc<Context>, first: Order) {
    let mut next = Some(first);
    while let Some(order) = next.take() {
        work(&context, order).await;
        next = context.idle.order().await;
    }
}

/// Does an order, and what else is due at its destination.
async fn work(context: &Arc<Context>, first: Order) {
    let mut connection: Option<Connection> = None;
    let mut next = Some(first);
    let (mut last, mut news) = (None, false);
    while let Some(task) = next.take() {
        let outcome = match &task.destination {
            Destination::Bounce => report(context, &task).await,
            Destination::Hop(..)
            | Destination::Discard
            | Destination::Hold
            | Destination::Error(_)
            | Destination::NoRoute => Attempt { context, connection: &mut connection }.carry_out(&task).await,
        };
        let now = context.clock.now();
        let mut schedule = context.schedule.lock();
        schedule.finished(&task.destination, task.item, outcome, now);
        if context.is_running() {
            next = schedule.next_at(&task.destination, now);
        }
        // What is due later is seen to when it is: the dispatcher is woken only for what it does not know of.
        let known = Moment(context.sleeps_until.load(Ordering::Relaxed));
        news = schedule.next_wake().is_some_and(|wake| wake < known);
        last = Some(task.destination);
    }
    if let (Some(connection), Some(Destination::Hop(hop, _))) = (connection, last) {
        let max = context.settings.load().delivery.cache.connections;
        context.pool.put(&hop, connection, max, context.clock.now());
    }
    if news {
        context.wake.notify_one();
    }
}

/// Makes a notification that is due about a message.
async fn report(context: &Arc<Context>, task: &Order) -> Outcome {
    let settings = context.settings.load_full();
    let remote = |index| context.remotes.lock().get(&(task.item, index)).cloned();
    let is_final =
        |address: &Mailbox| Way { settings: &settings, lane: Lane::Mail, address, redirect: None }.is_final();
    let desk = bounce::Desk {
        queue: &context.queue,
        host: &settings.node.hostname,
        settings: &settings.bounces,
        lifetime: settings.retry.lifetime,
        now: context.clock.wall(),
        remote: &remote,
        is_final: &is_final,
    };
    match desk.notify(task.item).await {
        Ok(Some(made)) => {
            context.counters.bounces.add(1);
            context.counters.notifications.add([made.kind], 1);
            let mut remotes = context.remotes.lock();
            for index in made.recipients {
                remotes.remove(&(task.item, index));
            }
            drop(remotes);
            context.notice(made.key);
            // There may be more than one notification tells.
            context.notice(task.item);
        }
        Ok(None) => {}
        Err(refusal) => {
            let id = context.queue.message_id(task.item);
            tracing::warn!(event = "bounce.put_off", %id, error = %refusal);
            context.put_off(&task.destination, task.item, BOUNCE_RETRY);
        }
    }
    Outcome::Reached
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
