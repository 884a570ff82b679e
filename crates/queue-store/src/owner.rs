//! The thread that takes, holds and gives up the ownership of one queue: the shell of `cluster::instance`.
//!
//! It carries out one action after the other, in the machine's order, and feeds the result back. It decides nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::instance::{Action, Event, Instance, State};
use cluster::observe::LeaseView;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use mail_model::{Epoch, LeaseState, Reason, Role, SegmentId, WallTime};
use queue_format::lease::{Claim, Fence};
use queue_format::record::{Doubt, OutcomeGroup, OutcomeRecord, Record, Verdict};
use queue_format::replay::{Plan, Replay, ReplayError, replay};
use queue_format::scan::Bodies;

use crate::ahead::replay_ahead;
use crate::appender::{AppendError, Appender, Draft, Identity};
use crate::clean;
use crate::effect;
use crate::files::{ClaimResult, QueueFiles};
use crate::fitness;
use crate::journal::Journal;
use crate::lock::Lock;
use crate::metrics::Recovery;
use crate::point::crash_point;
use crate::proof::Standing;
use crate::renew::Renewer;
use crate::shared::{Command, OpenError, QueueOptions, Shared, Work};
use crate::threads::Threads;

/// Sees to it that the directory is there, is this queue's, and that its file system can carry one.
pub(crate) fn look(
    files: &QueueFiles,
    options: &QueueOptions,
    lock: &Lock,
    is_disk: bool,
) -> Result<(), OpenError> {
    let claimed = inspect_lease(files, options, lock)?;
    // Unless it was told that the queue has no owner yet, it expects one that others wrote.
    let told_of_none = options.order.is_some_and(|order| order.expected == Epoch(0));
    if options.role == Role::Secondary && !claimed && !told_of_none {
        return Err(OpenError::Absent { dir: options.dir.clone(), queue: options.queue.clone() });
    }
    files.make_dirs().map_err(|error| OpenError::Directory { dir: options.dir.clone(), error })?;
    if !is_disk {
        return Ok(());
    }
    fitness::check(files, options.instance).map_err(|unfit| OpenError::Unfit {
        dir: options.dir.clone(),
        what: unfit.what,
        error: unfit.error,
    })
}

/// Refuses a directory that is not this queue's, before anything is touched. True if the queue was ever claimed.
fn inspect_lease(files: &QueueFiles, options: &QueueOptions, lock: &Lock) -> Result<bool, OpenError> {
    let foreign = |what: String| OpenError::Foreign { dir: options.dir.clone(), what };
    let unreadable = |error: io::Error| {
        if error.kind() == io::ErrorKind::InvalidData {
            foreign(format!(
                "{error}; run the version of mailswitch that wrote it, or name another directory"
            ))
        } else {
            OpenError::Directory { dir: options.dir.clone(), error }
        }
    };
    let Some(top) = files.top_epoch().map_err(unreadable)? else { return Ok(false) };
    let claim = files.read_claim(top).map_err(unreadable)?;
    if claim.cluster != options.cluster || claim.queue != options.queue {
        return Err(foreign(format!(
            "it is queue '{}' of cluster '{}', not '{}' of '{}'; set queue.dir and cluster.id to the right ones",
            claim.queue, claim.cluster, options.queue, options.cluster
        )));
    }
    let same_place = claim.owner == options.owner && claim.role == options.role && claim.boot == options.boot;
    if same_place && !lock.looks_free().unwrap_or(true) {
        return Err(OpenError::Busy(options.queue.clone()));
    }
    Ok(true)
}

/// Starts the thread.
pub(crate) fn start(shared: Arc<Shared>, lock: Lock, inbox: Receiver<Command>) -> io::Result<()> {
    let threads = shared.threads.clone();
    threads.spawn("owner", move || {
        let machine = Instance::new(shared.options.owner.clone(), shared.options.role, shared.options.order);
        // Without a proof to wait for it was looked at already.
        let looked_at = shared.options.proof.is_none();
        Owner { shared, lock, inbox, machine, renewer: None, replay: None, looked_at }.run();
    })
}

struct Owner {
    shared: Arc<Shared>,
    lock: Lock,
    inbox: Receiver<Command>,
    machine: Instance,
    renewer: Option<Renewer>,
    replay: Option<Replay>,
    /// The directory is this queue's, and can carry it.
    looked_at: bool,
}

impl Owner {
    fn run(mut self) {
        let mut event = Event::Started;
        loop {
            let mut actions = Vec::new();
            self.machine.step(self.shared.options.clock.now(), &event, &mut actions);
            let state = self.machine.state();
            self.shared.course.lock().enter(state, self.shared.options.clock.now());
            // Whoever sees FENCED must see it before anything else happens; whoever sees RELEASED may open the queue anew.
            let told_last = matches!(state, State::Released | State::GaveUp);
            if !told_last {
                self.shared.state.send_replace(state);
            }
            let answer = actions.into_iter().fold(None, |_, action| self.carry_out(action));
            if state.is_final() {
                self.lock.release();
                if told_last {
                    self.shared.state.send_replace(state);
                }
                return;
            }
            event = answer.unwrap_or_else(|| self.wait(None));
        }
    }

    /// The next command as an event. Without a limit it waits for ever.
    fn wait(&mut self, limit: Option<Duration>) -> Event {
        match self.shared.threads.receive(&self.inbox, limit) {
            Ok(Command::Drained) if self.machine.state() == State::Draining => self.write_clean(),
            Ok(Command::Drained) => {
                // The order to release says both: begin, and nothing runs.
                self.shared.commands.try_send(Command::Drained).ok();
                Event::DrainRequested
            }
            Ok(Command::Drain) | Err(RecvTimeoutError::Disconnected) => Event::DrainRequested,
            Ok(Command::Fenced | Command::JournalEnded(AppendError::Fenced)) => Event::FenceSeen,
            Ok(Command::StorageFailed(what)) => self.storage_failed(&what),
            Ok(Command::JournalEnded(error)) => self.storage_failed(&error),
            Err(RecvTimeoutError::Timeout) => self.read_top_lease(),
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::ReadTopLease { wait: true } => Some(self.wait(Some(self.shared.options.timers.observe))),
            Action::ReadTopLease { wait: false } => Some(self.read_top_lease()),
            Action::Claim { epoch, reason } => Some(self.claim(epoch, reason)),
            Action::FenceOlder { below } => Some(self.fence_older(below)),
            Action::Scan => Some(self.scan()),
            Action::Seal => Some(self.seal()),
            Action::BecomeActive => {
                self.become_active();
                None
            }
            Action::Drain => {
                if let Some(renewer) = &self.renewer {
                    renewer.say(LeaseState::Draining);
                }
                None
            }
            Action::Release => {
                if let Some(renewer) = self.renewer.take() {
                    renewer.release();
                }
                Some(Event::Released)
            }
            Action::Stop => {
                self.stop();
                None
            }
        }
    }

    fn storage_failed(&self, what: &dyn std::fmt::Display) -> Event {
        tracing::error!(event = "queue.storage_failed", queue = %self.shared.options.queue, what = %what);
        Event::StorageFailed
    }

    fn read_top_lease(&mut self) -> Event {
        if let Some(proof) = &self.shared.options.proof {
            // Not mounted here, or nobody says so: what lies in the directory is not the queue.
            if proof.begin() != Standing::Ours {
                return Event::Unreadable;
            }
            if !self.looked_at
                && let Err(error) = look(&self.shared.files, &self.shared.options, &self.lock, true)
            {
                return self.storage_failed(&error);
            }
            self.looked_at = true;
        }
        match read_top(&self.shared.files) {
            Ok(lease) => {
                let lock_is_mine = self.lock_try();
                Event::TopLease { lease, lock_is_mine }
            }
            Err(error) => {
                tracing::warn!(event = "lease.unreadable", queue = %self.shared.options.queue, %error);
                Event::Unreadable
            }
        }
    }

    fn lock_try(&self) -> bool {
        self.lock.try_take().unwrap_or_else(|error| {
            // Locks only speed things up: without one the window decides.
            tracing::warn!(event = "queue.lock_failed", queue = %self.shared.options.queue, %error);
            false
        })
    }

    fn claim(&mut self, epoch: Epoch, reason: Reason) -> Event {
        let options = &self.shared.options;
        let ms = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
        let claim = Claim {
            cluster: options.cluster.clone(),
            queue: options.queue.clone(),
            epoch,
            owner: options.owner.clone(),
            instance: options.instance,
            boot: options.boot,
            role: options.role,
            previous: Epoch(epoch.0 - 1),
            reason,
            renew_ms: ms(options.timers.renew),
            window_ms: ms(options.timers.window),
            wall: options.clock.wall(),
        };
        let won = match self.shared.files.claim(&claim) {
            Ok(result) => result == ClaimResult::Won,
            Err(error) => return self.storage_failed(&error),
        };
        if !won {
            tracing::info!(event = "queue.claim_lost", queue = %options.queue, epoch = epoch.0);
            return Event::Claimed { won };
        }
        crash_point("claim::linked");
        self.shared.epoch.store(epoch.0, Ordering::Release);
        tracing::info!(event = "queue.claimed", queue = %options.queue, epoch = epoch.0, %reason, role = %options.role);
        // From here on others must see that somebody is at work.
        match Renewer::start(Arc::clone(&self.shared), epoch) {
            Ok(renewer) => self.renewer = Some(renewer),
            Err(error) => return self.storage_failed(&error),
        }
        Event::Claimed { won }
    }

    /// Fences every older epoch that could still act, from the top down to the first that came to work.
    ///
    /// By induction every older epoch is fenced then: an owner says *working* only after this same walk was durable, so
    /// below one that worked all is fenced; a taker that died between claim and seal never says it, so the walk goes on
    /// past it. A renewal that cannot be read counts as *not working*: too many fences do no harm.
    fn fence_older(&self, below: Epoch) -> Event {
        let fence = Fence { by_epoch: below, by_node: self.shared.options.owner.clone() };
        for epoch in (1..below.0).rev().map(Epoch) {
            if let Err(error) = self.shared.files.fence(epoch, &fence) {
                return self.storage_failed(&error);
            }
            crash_point("fence::written");
            let worked = self.shared.files.read_renewal(epoch).is_ok_and(|r| r.is_some_and(|r| r.working));
            if worked {
                break;
            }
        }
        Event::FencedOlder
    }

    fn scan(&mut self) -> Event {
        let options = &self.shared.options;
        let plan = Plan {
            cluster: options.cluster.clone(),
            queue: options.queue.clone(),
            before: Some(self.machine.epoch()),
            bodies: Bodies::Tail,
            ignore_digests: false,
        };
        let files = self.shared.files.as_ref();
        let found = match self.shared.threads {
            Threads::System => replay_ahead(files, &plan),
            Threads::Simulated(_) => replay(files, &plan),
        };
        match found {
            Ok(replay) => {
                if let Err(error) = self.settle(&replay) {
                    return self.storage_failed(&error);
                }
                self.replay = Some(replay);
                Event::Scanned
            }
            Err(ReplayError::Source(error)) => self.storage_failed(&error),
            Err(error @ ReplayError::Foreign { .. }) => self.storage_failed(&error),
        }
    }

    /// What was read is about to be sealed, so it must be on stable storage: of each epoch that may have written since
    /// its last sync, the last segment, and the one that announces it.
    fn settle(&self, replay: &Replay) -> io::Result<()> {
        for end in replay.ends.iter().filter(|end| end.number > 0) {
            let before = end.segment.number.checked_sub(1);
            if let Some(number) = before {
                self.shared.files.settle(SegmentId { number, ..end.segment })?;
            }
            self.shared.files.settle(end.segment)?;
        }
        Ok(())
    }

    fn seal(&mut self) -> Event {
        let Some(replay) = self.replay.take() else { return self.storage_failed(&"nothing was scanned") };
        match self.open_for_work(replay) {
            Ok(()) => Event::Sealed,
            Err(AppendError::Fenced) => Event::FenceSeen,
            Err(error) => self.storage_failed(&error),
        }
    }

    fn open_for_work(&self, replay: Replay) -> Result<(), AppendError> {
        let shared = &self.shared;
        let options = &shared.options;
        shared.course.lock().recovery = Some(report(options, self.machine.epoch(), &replay));
        let doubtful: Vec<Doubt> = replay.books.open_attempts().cloned().collect();
        let sizes = segment_sizes(&shared.files, &replay).map_err(crate::appender::sick)?;
        let identity = Identity {
            cluster: options.cluster.clone(),
            queue: options.queue.clone(),
            owner: options.owner.clone(),
            instance: options.instance,
            epoch: self.machine.epoch(),
            proof: options.proof.clone(),
        };
        let mut appender = Appender::begin(
            shared.files.as_ref().clone(),
            identity,
            Arc::clone(&options.clock),
            replay.books,
            replay.ends,
            sizes,
            options.segment_size,
        )?;
        appender.reserve = options.free_space_reserve;
        let now = options.clock.wall();
        let mut outcomes = Vec::with_capacity(doubtful.len());
        for doubt in &doubtful {
            let mut outcome = Record::Outcome(in_doubt(doubt, now));
            if effect::reduce(&appender.books.lock(), &mut outcome) {
                outcomes.push(Draft::bare(outcome));
            }
        }
        appender.commit(outcomes)?;
        for segment in replay.leftovers.iter().chain(&replay.orphans) {
            clean::remove_files(&appender, *segment);
        }
        *shared.pulse.committed.lock() = appender.committed();
        let books = Arc::clone(&appender.books);
        let commands = shared.commands.clone();
        let journal = Journal::start(appender, Arc::clone(&shared.pulse), &shared.threads, move |error| {
            commands.send(Command::JournalEnded(error)).ok();
        })
        .map_err(crate::appender::sick)?;
        *shared.work.write() = Some(Work { journal, books });
        Ok(())
    }

    fn become_active(&self) {
        if let Some(renewer) = &self.renewer {
            renewer.work_begins();
        }
        let messages = self.shared.work.read().as_ref().map_or(0, |work| work.books.lock().len());
        let options = &self.shared.options;
        let epoch = self.machine.epoch().0;
        tracing::info!(event = "queue.active", queue = %options.queue, epoch, role = %options.role, messages);
    }

    /// Writes CLEAN as the last record. No other thread writes any more: whoever could was told to stop.
    fn write_clean(&self) -> Event {
        let Some(work) = self.shared.work.read().clone() else { return Event::Drained };
        match work.journal.close() {
            Ok(()) => Event::Drained,
            Err(AppendError::Fenced) => Event::FenceSeen,
            Err(error) => self.storage_failed(&error),
        }
    }

    fn stop(&mut self) {
        *self.shared.work.write() = None;
        if let Some(renewer) = self.renewer.take() {
            renewer.stop();
        }
        let options = &self.shared.options;
        let state = self.machine.state().as_str();
        tracing::info!(event = "queue.stopped", queue = %options.queue, epoch = self.machine.epoch().0, state);
    }
}

/// The top lease as the machines see it.
pub(crate) fn read_top(files: &QueueFiles) -> io::Result<Option<LeaseView>> {
    let Some(epoch) = files.top_epoch()? else { return Ok(None) };
    let claim = files.read_claim(epoch)?;
    let (seq, renewal) = files.watch_renewal(epoch)?;
    Ok(Some(LeaseView {
        epoch,
        owner: claim.owner,
        role: claim.role,
        seq,
        state: renewal.as_ref().map(|r| r.state),
        working: renewal.as_ref().is_some_and(|r| r.working),
        window_ms: claim.window_ms,
        renew_ms: claim.renew_ms,
        queued: renewal.as_ref().map_or(0, |r| r.queued),
    }))
}

/// Nobody knows how this attempt ended: counted, named, and tried again.
fn in_doubt(doubt: &Doubt, now: WallTime) -> OutcomeRecord {
    OutcomeRecord {
        message: doubt.message,
        attempt: Some((doubt.epoch, doubt.attempt)),
        at: now,
        groups: vec![OutcomeGroup {
            verdict: Verdict::InDoubt { due: now },
            reply: None,
            recipients: doubt.recipients.clone(),
        }],
    }
}

fn segment_sizes(files: &QueueFiles, replay: &Replay) -> io::Result<BTreeMap<SegmentId, u64>> {
    use queue_format::replay::QueueSource;
    use queue_format::scan::Source;
    let gone = |s: &SegmentId| replay.leftovers.contains(s) || replay.orphans.contains(s);
    let other = |error: queue_format::scan::SourceError| io::Error::other(error);
    let mut sizes = BTreeMap::new();
    for segment in files.segments().map_err(other)?.into_iter().filter(|s| !gone(s)) {
        if let Some(bytes) = files.open(segment).map_err(other)? {
            sizes.insert(segment, bytes.len());
        }
    }
    Ok(sizes)
}

fn report(options: &QueueOptions, epoch: Epoch, replay: &Replay) -> Recovery {
    let queue = &options.queue;
    for fault in &replay.faults {
        tracing::error!(event = "queue.fault", %queue, %fault);
    }
    let in_doubt = replay.books.open_attempts().count();
    let messages = replay.books.len();
    let previous = Epoch(epoch.0.saturating_sub(1));
    let unreplied = replay.books.unreplied(previous);
    let faults = replay.faults.len();
    tracing::info!(
        event = "queue.recovered",
        %queue,
        messages,
        in_doubt,
        late_frames = replay.late_frames,
        torn = replay.torn,
        unreplied,
        faults,
    );
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Recovery {
        in_doubt: count(in_doubt),
        late_frames: replay.late_frames,
        unreplied: count(unreplied),
        faults: count(faults),
    }
}
