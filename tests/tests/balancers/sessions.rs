//! Clients that do not try again: each session sends one message and ends, and how it ended is kept.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daemon_kit::SystemClock;
use mail_model::{Clock, Moment};

use crate::nodes::until;

/// One session.
#[derive(Debug, Clone)]
struct Session {
    began: Moment,
    fault: Option<String>,
}

/// All of them.
pub(crate) struct Sessions {
    done: Arc<Mutex<Vec<Session>>>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

/// What clients saw of a node's end.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) sessions: usize,
    pub(crate) failed: usize,
    /// Sessions begun after the ejection that failed.
    pub(crate) failed_after: usize,
    /// From the kill to the beginning of the last session that failed.
    pub(crate) gap_ms: u128,
    pub(crate) ejected_ms: u128,
}

impl fmt::Display for Told {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, failed, failed_after, gap_ms, ejected_ms } = self;
        write!(
            out,
            "{sessions} sessions, {failed} failed, {failed_after} of them begun after the ejection; \
             ejected after {ejected_ms} ms, the last that failed began {gap_ms} ms after the kill"
        )
    }
}

impl Sessions {
    /// So many clients, one session after the other, until the end.
    pub(crate) fn start(target: SocketAddr, clients: usize) -> Self {
        let (done, stop) = (Arc::<Mutex<Vec<Session>>>::default(), Arc::<AtomicBool>::default());
        let clients = (0..clients).map(|_| {
            let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let began = SystemClock.now();
                    let fault = session(target).err().map(|error| format!("{error:#}"));
                    if let Ok(mut done) = done.lock() {
                        done.push(Session { began, fault });
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
        });
        let clients = clients.collect();
        Self { done, stop, clients }
    }

    fn all(&self) -> Vec<Session> {
        self.done.lock().map(|done| done.clone()).unwrap_or_default()
    }

    /// Waits until so many sessions more sent their message.
    pub(crate) fn succeeded(&self, more: usize) -> Result<()> {
        let good = || self.all().iter().filter(|session| session.fault.is_none()).count();
        let wanted = good() + more;
        until(&format!("{more} more sessions; the last faults: {:?}", self.failures().last()), || {
            good() >= wanted
        })
    }

    /// What went wrong so far.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.all().into_iter().filter_map(|session| session.fault).collect()
    }

    /// Ends them and counts.
    pub(crate) fn end(self, killed: Moment, ejected: Moment) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().ok();
        }
        let all = self.done.lock().map(|done| done.clone()).unwrap_or_default();
        let failed: Vec<&Session> = all.iter().filter(|session| session.fault.is_some()).collect();
        let last = failed.iter().map(|session| session.began).max();
        Told {
            sessions: all.len(),
            failed: failed.len(),
            failed_after: failed.iter().filter(|session| session.began > ejected).count(),
            gap_ms: last.map_or(0, |last| last.since(killed).as_millis()),
            ejected_ms: ejected.since(killed).as_millis(),
        }
    }
}

fn session(target: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect_timeout(&target, Duration::from_secs(5)).context("connect")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut replies = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    expect(&mut replies, "220")?;
    for (command, code) in [
        ("EHLO client.example.test\r\n", "250"),
        ("MAIL FROM:<a@example.test>\r\n", "250"),
        ("RCPT TO:<b@example.test>\r\n", "250"),
        ("DATA\r\n", "354"),
        ("Subject: x\r\n\r\nx\r\n.\r\n", "250"),
        ("QUIT\r\n", "221"),
    ] {
        stream.write_all(command.as_bytes()).with_context(|| command.trim().to_owned())?;
        expect(&mut replies, code).with_context(|| command.trim().to_owned())?;
    }
    Ok(())
}

fn expect(replies: &mut impl BufRead, code: &str) -> Result<()> {
    loop {
        let mut line = String::new();
        ensure!(replies.read_line(&mut line)? > 0, "the connection ended");
        ensure!(line.starts_with(code), "{}", line.trim());
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}
