//! Threads that run one at a time, by virtual time: the story is the seed's, not the machine's.
//!
//! Each thread of the production code is a real thread, but only one runs. It goes on until it reads or writes the disk,
//! waits, or ends; then the one whose time comes first goes next. Threads belong to processes, and a process may be
//! killed or paused between any two steps. The threads of one that was killed unwind where they stand, and whatever
//! they touch on the way is out of their reach already.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::chance::Chance;

/// Microseconds since the world began.
pub(crate) type Time = u64;

pub(crate) const MS: Time = 1_000;
pub(crate) const SECOND: Time = 1_000_000;

/// More steps than any story takes: something turns in a circle.
const STEPS_MAX: u64 = 3_000_000;

/// A process, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId(usize);

/// The process of the one who tells the story: it is never hurt.
pub(crate) const NARRATOR: ProcessId = ProcessId(0);

type Ready = Box<dyn Fn() -> bool + Send>;

enum Status {
    Going,
    At(Time),
    Resting { until: Time, ready: Ready },
    Done,
}

struct Actor {
    name: String,
    process: ProcessId,
    status: Status,
    turn: Arc<Condvar>,
}

#[derive(Default)]
struct Process {
    dead: bool,
    paused_until: Time,
    /// Operations on the disk so far.
    operations: u64,
    /// It dies at this one.
    dies_at: Option<u64>,
    /// It is paused at this one, for so long.
    pauses_at: Option<(u64, Time)>,
}

struct Inner {
    now: Time,
    chance: Chance,
    actors: Vec<Actor>,
    living: Vec<usize>,
    processes: Vec<Process>,
    going: usize,
    steps: u64,
    /// What happened, as a number: two runs of one seed must have the same.
    trace: u64,
    story: Vec<String>,
    failure: Option<String>,
}

/// What a process meets at an operation on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    GoesOn,
    Dies,
}

/// The scheduler. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Scheduler(Arc<Mutex<Inner>>);

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scheduler")
    }
}

/// The payload of a thread that unwinds because its process was killed.
struct Killed;

thread_local! {
    static ME: Cell<usize> = const { Cell::new(0) };
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

fn micros(span: Duration) -> Time {
    u64::try_from(span.as_micros()).unwrap()
}

impl Inner {
    /// Who goes next. Time moves on to that one's.
    fn pick(&mut self) -> usize {
        let mut best: Option<(Time, usize)> = None;
        for &index in &self.living {
            let actor = &mut self.actors[index];
            if let Status::Resting { ready, .. } = &actor.status
                && ready()
            {
                actor.status = Status::At(self.now + self.chance.below(200));
            }
            let process = &self.processes[actor.process.0];
            let at = match &actor.status {
                Status::Going | Status::Done => continue,
                Status::At(at) | Status::Resting { until: at, .. } => (*at).max(process.paused_until),
            };
            let at = if process.dead { self.now } else { at };
            if best.is_none_or(|(first, _)| at < first) {
                best = Some((at, index));
            }
        }
        let (at, index) = best.unwrap();
        self.now = self.now.max(at);
        self.steps += 1;
        self.trace = (self.trace ^ self.now ^ (index as u64) << 40).wrapping_mul(0x100_0000_01B3);
        self.actors[index].status = Status::Going;
        self.going = index;
        index
    }
}

impl Scheduler {
    /// A world in which only the calling thread exists, as the narrator.
    pub(crate) fn new(seed: u64) -> Self {
        let narrator = Actor {
            name: "narrator".to_owned(),
            process: NARRATOR,
            status: Status::Going,
            turn: Arc::default(),
        };
        ME.set(0);
        Self(Arc::new(Mutex::new(Inner {
            now: SECOND,
            chance: Chance::new(seed),
            actors: vec![narrator],
            living: vec![0],
            processes: vec![Process::default()],
            going: 0,
            steps: 0,
            trace: 0,
            story: Vec::new(),
            failure: None,
        })))
    }

    pub(crate) fn now(&self) -> Time {
        self.0.lock().now
    }

    pub(crate) fn trace(&self) -> u64 {
        self.0.lock().trace
    }

    /// Draws from the world's chance.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Chance) -> T) -> T {
        draw(&mut self.0.lock().chance)
    }

    /// Notes what a reader of the story should know.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        let mut inner = self.0.lock();
        let line = format!("{:>6}.{:03} ms  {}", inner.now / MS, inner.now % MS, what());
        inner.story.push(line);
    }

    pub(crate) fn story(&self) -> Vec<String> {
        self.0.lock().story.clone()
    }

    /// What went wrong in a thread, if anything did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.0.lock().failure.clone()
    }

    /// The name of the calling thread.
    pub(crate) fn my_name(&self) -> String {
        self.0.lock().actors[ME.get()].name.clone()
    }

    pub(crate) fn new_process(&self) -> ProcessId {
        let mut inner = self.0.lock();
        inner.processes.push(Process::default());
        ProcessId(inner.processes.len() - 1)
    }

    /// Kills a process. If the caller is of it, this does not return.
    pub(crate) fn kill(&self, process: ProcessId) {
        let mine = {
            let mut inner = self.0.lock();
            inner.processes[process.0].dead = true;
            inner.actors[ME.get()].process == process
        };
        if mine && !std::thread::panicking() {
            resume_unwind(Box::new(Killed));
        }
    }

    pub(crate) fn is_dead(&self, process: ProcessId) -> bool {
        self.0.lock().processes[process.0].dead
    }

    pub(crate) fn is_paused(&self, process: ProcessId) -> bool {
        let inner = self.0.lock();
        inner.processes[process.0].paused_until > inner.now
    }

    pub(crate) fn pause(&self, process: ProcessId, span: Time) {
        let mut inner = self.0.lock();
        let until = inner.now + span;
        let known = &mut inner.processes[process.0].paused_until;
        *known = until.max(*known);
    }

    pub(crate) fn resume(&self, process: ProcessId) {
        self.0.lock().processes[process.0].paused_until = 0;
    }

    /// The process dies at the `count`th operation on the disk from now.
    pub(crate) fn let_die(&self, process: ProcessId, count: u64) {
        let process = &mut self.0.lock().processes[process.0];
        process.dies_at = Some(process.operations + count);
    }

    /// The process is paused at the `count`th operation on the disk from now.
    pub(crate) fn let_pause(&self, process: ProcessId, count: u64, span: Time) {
        let process = &mut self.0.lock().processes[process.0];
        process.pauses_at = Some((process.operations + count, span));
    }

    /// An operation on the disk begins: counts it, and says whether the process dies of it.
    pub(crate) fn operation(&self, process: ProcessId) -> Fate {
        let mut inner = self.0.lock();
        let now = inner.now;
        let process = &mut inner.processes[process.0];
        process.operations += 1;
        if let Some((_, span)) = process.pauses_at.take_if(|(at, _)| *at <= process.operations) {
            process.paused_until = process.paused_until.max(now + span);
        }
        let dies = process.dies_at.is_some_and(|at| at <= process.operations);
        if dies { Fate::Dies } else { Fate::GoesOn }
    }

    /// Starts a thread of `process`.
    pub(crate) fn spawn(&self, process: ProcessId, name: &str, body: impl FnOnce() + Send + 'static) {
        let turn = Arc::new(Condvar::new());
        let me = {
            let mut inner = self.0.lock();
            let status = Status::At(inner.now + inner.chance.below(300));
            inner.actors.push(Actor { name: name.to_owned(), process, status, turn: Arc::clone(&turn) });
            let me = inner.actors.len() - 1;
            inner.living.push(me);
            me
        };
        let scheduler = self.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || scheduler.live(me, body)).unwrap();
    }

    fn live(&self, me: usize, body: impl FnOnce()) {
        ME.set(me);
        let mut inner = self.0.lock();
        Self::await_turn(me, &mut inner);
        let stillborn = inner.processes[inner.actors[me].process.0].dead;
        drop(inner);
        let end = if stillborn { Ok(()) } else { catch_unwind(AssertUnwindSafe(body)) };
        let mut inner = self.0.lock();
        if let Err(what) = end
            && !what.is::<Killed>()
        {
            let text = what.downcast_ref::<String>().map(String::as_str);
            let text = text.or(what.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            let failure = format!("thread {} panicked: {text}", inner.actors[me].name);
            inner.failure.get_or_insert(failure);
        }
        inner.actors[me].status = Status::Done;
        inner.living.retain(|living| *living != me);
        let next = inner.pick();
        inner.actors[next].turn.notify_one();
    }

    fn await_turn(me: usize, inner: &mut MutexGuard<'_, Inner>) {
        let turn = Arc::clone(&inner.actors[me].turn);
        while inner.going != me {
            turn.wait(inner);
        }
    }

    /// Lets others go until `status` says otherwise.
    fn give_way(&self, status: impl FnOnce(&Inner) -> Status) {
        // Whoever unwinds does not wait any more.
        if std::thread::panicking() {
            return;
        }
        let me = ME.get();
        let mut inner = self.0.lock();
        if inner.steps > STEPS_MAX {
            inner.failure.get_or_insert_with(|| "the story does not end".to_owned());
        }
        inner.actors[me].status = status(&inner);
        let next = inner.pick();
        if next != me {
            inner.actors[next].turn.notify_one();
            Self::await_turn(me, &mut inner);
        }
        let dead = inner.processes[inner.actors[me].process.0].dead;
        drop(inner);
        if dead {
            resume_unwind(Box::new(Killed));
        }
    }

    /// Rests for `span`.
    pub(crate) fn sleep(&self, span: Time) {
        self.give_way(|inner| Status::At(inner.now + span));
    }

    /// Rests until `ready`, and for `limit` at most.
    pub(crate) fn rest(&self, limit: Time, ready: impl Fn() -> bool + Send + 'static) {
        self.give_way(|inner| Status::Resting { until: inner.now + limit, ready: Box::new(ready) });
    }

    /// Waits for what `future` comes to; `None` if that takes longer than `limit`.
    pub(crate) fn wait_within<F: Future>(&self, limit: Time, future: F) -> Option<F::Output> {
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&flag));
        let mut future = pin!(future);
        let end = self.now().saturating_add(limit);
        loop {
            flag.0.store(false, Ordering::Release);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(output);
            }
            let now = self.now();
            if now >= end {
                return None;
            }
            let woken = Arc::clone(&flag);
            self.rest(end - now, move || woken.0.load(Ordering::Acquire));
        }
    }

    /// Waits for what `future` comes to.
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.wait_within(Time::MAX / 4, future).unwrap()
    }

    /// Ends every process but the narrator's, and waits until their threads are gone.
    pub(crate) fn end(&self) {
        self.0.lock().processes.iter_mut().skip(1).for_each(|process| process.dead = true);
        while self.0.lock().living.len() > 1 {
            self.sleep(MS);
        }
    }
}

/// The scheduler as the threads of one queue see it.
#[derive(Debug)]
pub(crate) struct Threads {
    pub(crate) scheduler: Scheduler,
    pub(crate) process: ProcessId,
}

impl queue_store::threads::Scheduler for Threads {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> std::io::Result<()> {
        self.scheduler.spawn(self.process, name, body);
        Ok(())
    }

    fn rest(&self, limit: Duration, ready: Ready) {
        self.scheduler.rest(micros(limit), ready);
    }
}
