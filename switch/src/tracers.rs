//! Who watches SMTP dialogues while they are held: an operator names a direction and whom he wants to see, and reads line after
//! line over the control socket.
//!
//! A dialogue is watched from its beginning, or from the next moment between two messages. What is shown is up to
//! `smtp::transcript`: neither messages nor proofs of identity. Everything is bounded, and nothing waits for a watcher: lines
//! that nobody fetches are dropped and counted, and one that does not ask for [`LEASE`] is forgotten.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use control::switch::{TraceLine, TraceWay, Traced};
use control::{Code, Fault};
use ipnet::IpNet;
use mail_model::{Clock, Moment};
use parking_lot::Mutex;
use smtp::transcript::{Party, Transcript};
use tokio::sync::Notify;

/// Watchers at a time.
const TRACERS_MAX: usize = 4;
/// Lines that wait for a watcher.
const LINES_MAX: usize = 5_000;
/// Lines of one answer.
const ANSWER_MAX: usize = 500;
/// Who asks for so long for nothing is gone.
const LEASE: Duration = Duration::from_secs(30);
/// The longest that an answer waits for a line.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Whom a dialogue is held with.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// Its address, if it has one.
    pub(crate) address: Option<IpAddr>,
    /// How it is called: its host, its host name, the domain that mail is for.
    pub(crate) names: Vec<String>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, self.names.first()) {
            (Some(address), Some(name)) => write!(f, "{name} [{address}]"),
            (Some(address), None) => write!(f, "[{address}]"),
            (None, name) => f.write_str(name.map_or("", String::as_str)),
        }
    }
}

/// Who is to be seen.
#[derive(Debug, PartialEq, Eq)]
enum Filter {
    Everybody,
    Network(IpNet),
    Name(String),
}

impl Filter {
    fn new(text: &str) -> Self {
        let text = text.trim();
        if text.is_empty() {
            return Self::Everybody;
        }
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_or_else(|_| Self::Name(text.to_lowercase()), Self::Network)
    }

    fn shows(&self, subject: &Subject) -> bool {
        match self {
            Self::Everybody => true,
            Self::Network(network) => subject.address.is_some_and(|address| network.contains(&address)),
            Self::Name(name) => subject.names.iter().any(|other| other.to_lowercase().contains(name)),
        }
    }
}

#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<TraceLine>,
    dropped: u64,
}

/// One watcher.
#[derive(Debug)]
struct Tracer {
    id: String,
    way: TraceWay,
    filter: Filter,
    lines: Mutex<Lines>,
    news: Notify,
    asked: AtomicU64,
    gone: AtomicBool,
}

impl Tracer {
    fn push(&self, line: &TraceLine) {
        let mut lines = self.lines.lock();
        if lines.waiting.len() >= LINES_MAX {
            lines.waiting.pop_front();
            lines.dropped += 1;
        }
        lines.waiting.push_back(line.clone());
        drop(lines);
        self.news.notify_one();
    }

    fn fetch(&self) -> Traced {
        let mut lines = self.lines.lock();
        let count = lines.waiting.len().min(ANSWER_MAX);
        let found = lines.waiting.drain(..count).collect();
        Traced { lines: found, dropped: std::mem::take(&mut lines.dropped) }
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// All watchers.
#[derive(Debug)]
pub struct Tracers {
    all: ArcSwap<Vec<Arc<Tracer>>>,
    /// Taken by who changes the list.
    changing: Mutex<()>,
    dialogues: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl Tracers {
    /// Nobody watches.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { all: ArcSwap::default(), changing: Mutex::default(), dialogues: AtomicU64::new(1), clock }
    }

    /// True if nobody watches. Cheap: every session asks.
    pub(crate) fn is_idle(&self) -> bool {
        self.all.load().is_empty()
    }

    /// What a dialogue that begins now is to be listened to with, if somebody wants to see it.
    pub(crate) fn tap(&self, way: TraceWay, subject: impl FnOnce() -> Subject) -> Option<Box<Tap>> {
        let all = self.all.load();
        if all.is_empty() {
            return None;
        }
        let now = self.clock.now();
        if all.iter().any(|tracer| is_late(tracer, now)) {
            self.forget_late(now);
        }
        let subject = subject();
        let wanted = |tracer: &&Arc<Tracer>| {
            tracer.way == way && tracer.filter.shows(&subject) && !is_late(tracer, now)
        };
        let tracers: Vec<Arc<Tracer>> = all.iter().filter(wanted).cloned().collect();
        if tracers.is_empty() {
            return None;
        }
        Some(Box::new(Tap {
            dialogue: self.dialogues.fetch_add(1, Ordering::Relaxed),
            with: subject.to_string(),
            way,
            transcript: Transcript::default(),
            tracers,
            clock: Arc::clone(&self.clock),
        }))
    }

    /// The next lines for a watcher, who is known from his first question on. Waits for one a while.
    pub(crate) async fn ask(
        &self,
        id: String,
        way: TraceWay,
        filter: &str,
        wait: Duration,
    ) -> Result<Traced, Fault> {
        let tracer = self.known(id, way, filter)?;
        let found = tracer.fetch();
        if !found.lines.is_empty() {
            return Ok(found);
        }
        tokio::time::timeout(wait.min(WAIT_MAX), tracer.news.notified()).await.ok();
        tracer.asked.store(self.clock.now().0, Ordering::Relaxed);
        let Traced { lines, dropped } = tracer.fetch();
        Ok(Traced { lines, dropped: dropped + found.dropped })
    }

    fn known(&self, id: String, way: TraceWay, filter: &str) -> Result<Arc<Tracer>, Fault> {
        let now = self.clock.now();
        self.forget_late(now);
        let _changing = self.changing.lock();
        let all = self.all.load_full();
        if let Some(known) = all.iter().find(|tracer| tracer.id == id) {
            known.asked.store(now.0, Ordering::Relaxed);
            return Ok(Arc::clone(known));
        }
        if all.len() >= TRACERS_MAX {
            let text = format!("{TRACERS_MAX} traces run already; end one, or wait {} s", LEASE.as_secs());
            return Err(Fault::new(Code::Busy, text));
        }
        let tracer = Arc::new(Tracer {
            id,
            way,
            filter: Filter::new(filter),
            lines: Mutex::default(),
            news: Notify::new(),
            asked: AtomicU64::new(now.0),
            gone: AtomicBool::new(false),
        });
        self.all.store(Arc::new(all.iter().cloned().chain([Arc::clone(&tracer)]).collect()));
        Ok(tracer)
    }

    fn forget_late(&self, now: Moment) {
        let _changing = self.changing.lock();
        let all = self.all.load_full();
        let (late, kept): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|tracer| is_late(tracer, now));
        if late.is_empty() {
            return;
        }
        for tracer in late {
            tracer.gone.store(true, Ordering::Relaxed);
        }
        self.all.store(Arc::new(kept));
    }
}

fn is_late(tracer: &Tracer, now: Moment) -> bool {
    now.since(Moment(tracer.asked.load(Ordering::Relaxed))) > LEASE
}

/// Listens to one dialogue.
pub(crate) struct Tap {
    dialogue: u64,
    with: String,
    way: TraceWay,
    transcript: Transcript,
    tracers: Vec<Arc<Tracer>>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("dialogue", &self.dialogue).finish_non_exhaustive()
    }
}

impl Tap {
    /// True if nobody listens any more.
    pub(crate) fn is_over(&self) -> bool {
        self.tracers.iter().all(|tracer| tracer.is_gone())
    }

    /// Bytes that came from the other side.
    pub(crate) fn came(&mut self, bytes: &[u8]) {
        self.hear(if self.way == TraceWay::In { Party::Client } else { Party::Server }, bytes);
    }

    /// Bytes that went to the other side.
    pub(crate) fn went(&mut self, bytes: &[u8]) {
        self.hear(if self.way == TraceWay::In { Party::Server } else { Party::Client }, bytes);
    }

    fn hear(&mut self, by: Party, bytes: &[u8]) {
        self.tracers.retain(|tracer| !tracer.is_gone());
        if self.tracers.is_empty() || bytes.is_empty() {
            return;
        }
        let mut spoken = Vec::new();
        self.transcript.hear(by, bytes, &mut spoken);
        for line in spoken {
            self.tell(if line.by == Party::Client { "C" } else { "S" }, line.text);
        }
    }

    fn tell(&self, by: &str, text: String) {
        let line = TraceLine {
            at_ms: self.clock.wall().0,
            dialogue: self.dialogue,
            with: self.with.clone(),
            by: by.to_owned(),
            text,
        };
        for tracer in &self.tracers {
            tracer.push(&line);
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.tell("-", "(ended)".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use daemon_kit::SystemClock;

    use super::*;

    fn subject(address: &str, name: &str) -> Subject {
        Subject { address: address.parse().ok(), names: vec![name.to_owned()] }
    }

    async fn fetched(tracers: &Tracers, id: &str, filter: &str) -> Traced {
        tracers.ask(id.to_owned(), TraceWay::In, filter, Duration::ZERO).await.unwrap()
    }

    #[tokio::test]
    async fn a_watcher_sees_whom_it_named_and_nobody_else() {
        let tracers = Tracers::new(Arc::new(SystemClock));
        assert!(tracers.tap(TraceWay::In, || subject("192.0.2.1", "a.test")).is_none());
        for (id, filter) in [("net", "192.0.2.0/24"), ("name", "B.test"), ("all", "")] {
            fetched(&tracers, id, filter).await;
        }
        let mut tap = tracers.tap(TraceWay::In, || subject("192.0.2.1", "a.test")).unwrap();
        tap.went(b"220 hi\r\n");
        tap.came(b"NOOP\r\n");
        drop(tap);
        assert!(tracers.tap(TraceWay::Out, || subject("192.0.2.1", "b.test")).is_none());
        let shown = |found: Traced| {
            found.lines.into_iter().map(|line| format!("{} {}", line.by, line.text)).collect::<Vec<_>>()
        };
        for (id, wanted) in [("net", 3), ("name", 0), ("all", 3)] {
            let lines = shown(fetched(&tracers, id, "").await);
            assert_eq!(lines.len(), wanted, "{id}: {lines:?}");
        }
        drop(tracers.tap(TraceWay::In, || subject("192.0.2.1", "x.b.test")).unwrap());
        assert_eq!(shown(fetched(&tracers, "name", "").await), ["- (ended)"]);
    }

    #[tokio::test]
    async fn lines_that_nobody_fetches_are_dropped_and_counted() {
        let tracers = Tracers::new(Arc::new(SystemClock));
        fetched(&tracers, "1", "").await;
        let mut tap = tracers.tap(TraceWay::In, || subject("192.0.2.1", "a.test")).unwrap();
        for _ in 0..LINES_MAX + 7 {
            tap.came(b"NOOP\r\n");
        }
        let found = fetched(&tracers, "1", "").await;
        assert_eq!((found.lines.len(), found.dropped), (ANSWER_MAX, 7));
        for id in ["2", "3", "4"] {
            fetched(&tracers, id, "").await;
        }
        let fifth = tracers.ask("5".to_owned(), TraceWay::In, "", Duration::ZERO).await;
        assert_eq!(fifth.unwrap_err().code, Code::Busy);
    }
}
