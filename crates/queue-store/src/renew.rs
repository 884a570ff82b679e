//! The owner's sign of life, written by an OS thread of its own every R.
//!
//! A renewal is worth something only if the owner can really work: while a commit hangs, none is written. After each
//! renewal the own fence is read; only if it is zero does the renewal count for the owner's own limit L.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use mail_model::{Epoch, LeaseState};
use queue_format::lease::{RENEW_OFFSET, Renewal};

use crate::appender::{AppendError, read_fence};

use crate::proof::Standing;
use crate::shared::{Command, Shared};
use crate::storage::StoredFile;
use crate::threads::Threads;

enum Order {
    Say(LeaseState),
    WorkBegins,
    Release(Sender<()>),
    Stop,
}

/// The handle of the thread.
#[derive(Debug)]
pub(crate) struct Renewer {
    orders: Sender<Order>,
    threads: Threads,
}

impl Renewer {
    /// Writes the first renewal and starts the thread.
    pub(crate) fn start(shared: Arc<Shared>, epoch: Epoch) -> io::Result<Self> {
        let path = shared.files.lease(epoch);
        let (orders, inbox) = bounded(8);
        let mut worker = Worker {
            file: shared.files.storage.open_write(&path)?,
            fence: shared.files.storage.open_uncached(&path)?,
            shared,
            inbox,
            seq: 0,
            state: LeaseState::Active,
            working: false,
            slowest: Slowest::default(),
        };
        worker.renew();
        let threads = worker.shared.threads.clone();
        threads.spawn("renew", move || worker.run())?;
        Ok(Self { orders, threads })
    }

    /// Says another state from the next renewal on, which is written at once.
    pub(crate) fn say(&self, state: LeaseState) {
        self.orders.send(Order::Say(state)).ok();
    }

    /// The owner has sealed and works: all older epochs are durably fenced.
    pub(crate) fn work_begins(&self) {
        self.orders.send(Order::WorkBegins).ok();
    }

    /// Writes RELEASED as the last renewal, and waits until it is durable.
    pub(crate) fn release(self) {
        let (answer, done) = bounded(1);
        if self.orders.send(Order::Release(answer)).is_ok() {
            self.threads.receive(&done, None).ok();
        }
    }

    /// Ends without another word.
    pub(crate) fn stop(self) {
        self.orders.send(Order::Stop).ok();
    }
}

/// The slowest of the newest thousand writes: p99.9.
#[derive(Default)]
struct Slowest {
    count: u32,
    now: u32,
    before: u32,
}

impl Slowest {
    fn add(&mut self, took: Duration) {
        self.now = self.now.max(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        self.count += 1;
        if self.count >= 1_000 {
            *self = Self { count: 0, now: 0, before: self.now };
        }
    }
    fn micros(&self) -> u32 {
        self.now.max(self.before)
    }
}

struct Worker {
    shared: Arc<Shared>,
    inbox: Receiver<Order>,
    file: Box<dyn StoredFile>,
    fence: Box<dyn StoredFile>,
    seq: u64,
    state: LeaseState,
    working: bool,
    slowest: Slowest,
}

impl Worker {
    fn run(mut self) {
        loop {
            let pause = self.shared.options.timers.renew;
            match self.shared.threads.receive(&self.inbox, Some(pause)) {
                Ok(Order::Say(state)) => self.state = state,
                Ok(Order::WorkBegins) => self.working = true,
                Ok(Order::Release(answer)) => {
                    self.state = LeaseState::Released;
                    self.renew();
                    answer.send(()).ok();
                    return;
                }
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Life without work is no life: a watcher must see a hanging pipeline.
            if self.shared.busy_for() <= self.shared.options.timers.own_limit {
                self.renew();
            }
        }
    }

    fn renew(&mut self) {
        let clock = Arc::clone(&self.shared.options.clock);
        let started = clock.now();
        let result = self.write_and_check();
        self.slowest.add(clock.now().since(started));
        match result {
            // A renewal that nobody outside confirms does not count: after L nothing is begun any more.
            Ok(()) if self.is_proved() => self.shared.renewed.store(started.0, Ordering::Release),
            Ok(()) => {}
            Err(AppendError::Fenced) => {
                self.shared.commands.try_send(Command::Fenced).ok();
            }
            Err(error) => {
                self.shared.commands.try_send(Command::StorageFailed(error.to_string())).ok();
            }
        }
        if let Ok(free) = self.shared.files.storage.free_space(&self.shared.options.dir) {
            self.shared.free_space.store(free, Ordering::Relaxed);
        }
    }

    fn write_and_check(&mut self) -> Result<(), AppendError> {
        self.seq += 1;
        let queued =
            self.shared.work.read().as_ref().and_then(|w| w.books.lock().totals().queued()).unwrap_or(0);
        let renewal = Renewal {
            seq: self.seq,
            state: self.state,
            working: self.working,
            io_p999_us: self.slowest.micros(),
            committed: *self.shared.pulse.committed.lock(),
            queued,
            wall: self.shared.options.clock.wall(),
        };
        self.file.write_at(RENEW_OFFSET, &renewal.encode()[..]).map_err(crate::appender::sick)?;
        self.file.sync_data().map_err(crate::appender::sick)?;
        read_fence(self.fence.as_ref())
    }

    /// An owner that does nothing must notice, too, that it lost what is outside of the storage.
    fn is_proved(&self) -> bool {
        match self.shared.options.proof.as_ref().map(|proof| proof.stands()) {
            None | Some(Standing::Ours) => true,
            Some(Standing::Others) => {
                self.shared.commands.try_send(Command::Fenced).ok();
                false
            }
            Some(Standing::Unknown(_)) => false,
        }
    }
}
