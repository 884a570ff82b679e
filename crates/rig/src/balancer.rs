//! A small TCP balancer: it takes connections at one address and hands each to the next healthy backend, round robin.
//!
//! | a backend is | when |
//! |---|---|
//! | healthy | its last check passed |
//! | down | a check failed or took too long, or a connection to it was refused |
//! | disabled | the operator said so: it gets no new connections, open ones go on |
//!
//! When a backend goes down, its open connections are cut, so that no client waits for the dead. With no backend left, a
//! client's connection is closed at once. It understands nothing of what it carries and holds no more of it than one read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::listen::listener;

/// The most bytes of an answer to a health check that are looked at.
const ANSWER_BYTES_MAX: usize = 512;

/// How the balancer knows that a backend lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It greets a connection to its own address with 220.
    Greeting,
    /// `GET /health/ready` at this address is answered with 200.
    Ready(SocketAddr),
}

/// A server behind the balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is checked.
    pub health: Health,
}

/// How a balancer is started.
#[derive(Debug, Clone)]
pub struct BalancerOptions {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// In the order of the numbers that name them.
    pub backends: Vec<Backend>,
    /// Between two checks of one backend.
    pub check_interval: Duration,
    /// The longest a check, or a connection to a backend, may take.
    pub check_timeout: Duration,
}

impl BalancerOptions {
    /// A balancer on a free port of 127.0.0.1 that checks every 200 ms and waits no longer than 500 ms.
    #[must_use]
    pub fn new(backends: Vec<Backend>) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            backends,
            check_interval: Duration::from_millis(200),
            check_timeout: Duration::from_millis(500),
        }
    }
}

#[derive(Debug)]
struct Place {
    backend: Backend,
    enabled: AtomicBool,
    healthy: watch::Sender<bool>,
}

#[derive(Debug)]
struct Shared {
    places: Vec<Place>,
    next: AtomicUsize,
    check_interval: Duration,
    check_timeout: Duration,
    /// Goes up with every change of health, for those who wait for one.
    changes: watch::Sender<u64>,
}

impl Shared {
    fn found(&self, place: &Place, healthy: bool) {
        let changed = place.healthy.send_if_modified(|was| std::mem::replace(was, healthy) != healthy);
        if changed {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    fn healthy(&self) -> Vec<bool> {
        self.places.iter().map(|place| *place.healthy.borrow()).collect()
    }
}

/// A running balancer. It stops when dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Mutex<Option<JoinHandle<()>>>,
}

impl Balancer {
    /// Listens and serves, on the runtime of the caller. Backends count as healthy until a check says otherwise.
    pub fn start(options: BalancerOptions) -> io::Result<Self> {
        let listener = listener(options.address)?;
        let address = listener.local_addr()?;
        let place =
            |backend| Place { backend, enabled: AtomicBool::new(true), healthy: watch::Sender::new(true) };
        let shared = Arc::new(Shared {
            places: options.backends.into_iter().map(place).collect(),
            next: AtomicUsize::new(0),
            check_interval: options.check_interval,
            check_timeout: options.check_timeout,
            changes: watch::Sender::new(0),
        });
        let tasks = tokio::spawn(run(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, tasks: Mutex::new(Some(tasks)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives a backend new connections, or none. Open ones go on. A number that names no backend changes nothing.
    pub fn set_enabled(&self, backend: usize, enabled: bool) {
        if let Some(place) = self.shared.places.get(backend) {
            place.enabled.store(enabled, Ordering::Relaxed);
        }
    }

    /// Which backends are healthy, enabled or not.
    #[must_use]
    pub fn healthy(&self) -> Vec<bool> {
        self.shared.healthy()
    }

    /// Waits until the health of the backends is as wanted; answers whether it came to that within `patience`.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&[bool]) -> bool, patience: Duration) -> bool {
        let mut changes = self.shared.changes.subscribe();
        let waiting = changes.wait_for(|_| wanted(&self.shared.healthy()));
        timeout(patience, waiting).await.is_ok_and(|seen| seen.is_ok())
    }

    /// Stops listening and cuts all connections.
    pub async fn stop(&self) {
        let tasks = self.tasks.lock().take();
        if let Some(tasks) = tasks {
            tasks.abort();
            // An aborted task ends with an error that says so.
            drop(tasks.await);
        }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if let Some(tasks) = self.tasks.lock().take() {
            tasks.abort();
        }
    }
}

/// Checks and takes connections until aborted; all it started ends with it.
async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    for number in 0..shared.places.len() {
        tasks.spawn(watch_over(number, Arc::clone(&shared)));
    }
    loop {
        tokio::select! {
            taken = listener.accept() => {
                if let Ok((client, _)) = taken {
                    tasks.spawn(carry(client, Arc::clone(&shared)));
                }
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Checks one backend for ever.
async fn watch_over(number: usize, shared: Arc<Shared>) {
    let Some(place) = shared.places.get(number) else { return };
    loop {
        let checked = timeout(shared.check_timeout, check(place.backend)).await;
        shared.found(place, matches!(checked, Ok(Ok(true))));
        sleep(shared.check_interval).await;
    }
}

async fn check(backend: Backend) -> io::Result<bool> {
    let (address, question, wanted) = match backend.health {
        Health::Greeting => (backend.address, None, "220"),
        Health::Ready(address) => (
            address,
            Some("GET /health/ready HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n"),
            "HTTP/1.1 200",
        ),
    };
    let mut stream = TcpStream::connect(address).await?;
    if let Some(question) = question {
        stream.write_all(question.as_bytes()).await?;
    }
    let mut answer = Vec::new();
    while answer.len() < ANSWER_BYTES_MAX && !answer.contains(&b'\n') {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    if question.is_none() {
        stream.write_all(b"QUIT\r\n").await?;
    }
    Ok(answer.starts_with(wanted.as_bytes()))
}

/// Carries one connection from its beginning to its end.
async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let first = shared.next.fetch_add(1, Ordering::Relaxed);
    let count = shared.places.len();
    for place in (0..count).filter_map(|step| shared.places.get(first.wrapping_add(step) % count)) {
        if !place.enabled.load(Ordering::Relaxed) || !*place.healthy.borrow() {
            continue;
        }
        match timeout(shared.check_timeout, TcpStream::connect(place.backend.address)).await {
            Ok(Ok(server)) => {
                let mut health = place.healthy.subscribe();
                tokio::select! {
                    // Either way both connections are closed; why one of them ended is not the balancer's business.
                    ended = relay(client, server) => drop(ended),
                    _ = health.wait_for(|healthy| !healthy) => {}
                }
                return;
            }
            Ok(Err(_)) | Err(_) => shared.found(place, false),
        }
    }
}

/// Copies both ways until the server is done. A client that closes its side can still read the replies.
async fn relay(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let forth = async {
        copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await?;
        std::future::pending::<io::Result<()>>().await
    };
    let back = async {
        copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::select! {
        ended = forth => ended,
        ended = back => ended,
    }
}
