//! Where lines of the log wait for their thread, so that nobody who delivers mail waits for who reads the log, and many lines
//! leave in one write.
//!
//! A line of level WARN or ERROR is written at once, and what waits before it, too: whatever comes next, it was said. The
//! others wait for a few milliseconds, and are lost if the process is killed in that time.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::journal::Journal;

/// How long the thread lets lines gather.
const GATHER: Duration = Duration::from_millis(5);
/// When so many bytes wait, who speaks writes: a slow reader slows the program down and fills no memory.
const WAITING_MAX: usize = 1 << 20;

/// Where they go.
#[derive(Debug)]
pub(super) enum Outlet {
    Stderr,
    /// What waits are entries.
    Journal(Journal),
}

#[derive(Debug)]
struct Shared {
    outlet: Outlet,
    /// Taken before `waiting` by who writes, so that lines keep their order.
    writing: Mutex<Vec<u8>>,
    waiting: Mutex<Vec<u8>>,
    filled: Condvar,
}

/// All lines of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<Shared>);

impl Lines {
    /// Starts the thread that writes. It ends with the process.
    pub(super) fn start(outlet: Outlet) -> io::Result<Self> {
        let lines = Self(Arc::new(Shared {
            outlet,
            writing: Mutex::default(),
            waiting: Mutex::default(),
            filled: Condvar::default(),
        }));
        let own = lines.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let mut waiting = own.0.waiting.lock();
                own.0.filled.wait_while(&mut waiting, |waiting| waiting.is_empty());
                drop(waiting);
                std::thread::sleep(GATHER);
                own.write_out();
            }
        })?;
        Ok(lines)
    }

    /// Writes what waits.
    pub(super) fn write_out(&self) {
        let mut writing = self.0.writing.lock();
        std::mem::swap(&mut *writing, &mut *self.0.waiting.lock());
        // Standard error is the last resort: if it is gone there is nobody to tell.
        match &self.0.outlet {
            Outlet::Stderr => io::stderr().write_all(&writing).ok(),
            Outlet::Journal(journal) => io::stderr().write_all(journal.send(&writing).as_bytes()).ok(),
        };
        writing.clear();
    }

    fn add(&self, line: &[u8], urgent: bool) {
        let mut waiting = self.0.waiting.lock();
        let first = waiting.is_empty();
        waiting.extend_from_slice(line);
        let full = waiting.len() > WAITING_MAX;
        drop(waiting);
        if urgent || full {
            self.write_out();
        } else if first {
            self.0.filled.notify_one();
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, urgent: true }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        // A level is the greater the less it matters.
        Line { lines: self, urgent: *meta.level() <= Level::WARN }
    }
}

/// One line.
#[derive(Debug)]
pub(super) struct Line<'a> {
    lines: &'a Lines,
    urgent: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lines.add(bytes, self.urgent);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
