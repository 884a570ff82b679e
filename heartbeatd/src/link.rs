//! Heartbeats to and from the peers: one socket and one OS thread for each path, so that nothing else that stalls in
//! this program can silence them.
//!
//! A datagram that cannot be opened, was seen before, or comes from a run that has not proved itself is counted and has no
//! effect.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::heartbeat::{
    ClusterKey, DATAGRAM_BYTES_MAX, Header, Heard, Heartbeat, Peer, Standing, Unopened, open, seal,
};
use daemon_kit::SystemClock;
use mail_model::{Clock, InstanceId, Moment, NodeId};
use parking_lot::Mutex;

use crate::plan::Plan;

/// What is known of a peer from its heartbeats.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) addresses: Vec<SocketAddr>,
    /// When it was heard last, on each path.
    pub(crate) heard: Vec<Option<Moment>>,
    /// What it said last; none before it proved itself.
    pub(crate) beat: Option<Heartbeat>,
}

impl Report {
    /// Paths on which it was heard within `suspect`.
    pub(crate) fn paths_up(&self, now: Moment, suspect: Duration) -> u32 {
        let up = self.heard.iter().filter(|at| at.is_some_and(|at| now.since(at) <= suspect)).count();
        u32::try_from(up).unwrap_or(u32::MAX)
    }
}

struct PeerLink {
    peer: Peer,
    report: Report,
}

/// Datagrams that had no effect.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ignored {
    pub(crate) unopened: BTreeMap<Unopened, u64>,
    pub(crate) replayed: u64,
    pub(crate) unproved: u64,
}

struct State {
    me: NodeId,
    cluster: String,
    key: ClusterKey,
    incarnation: InstanceId,
    counter: u64,
    suspect: Duration,
    content: Heartbeat,
    /// A drill's partition: nothing goes out, and what comes in is dropped.
    cut: bool,
    peers: BTreeMap<NodeId, PeerLink>,
    ignored: Ignored,
}

/// The link. Ends with its last clone's [`Link::stop`], or the program.
#[derive(Clone)]
pub(crate) struct Link {
    state: Arc<Mutex<State>>,
    stopped: Arc<AtomicBool>,
}

impl Link {
    /// Opens the sockets and starts the threads; `None` for a stand-alone node.
    pub(crate) fn start(plan: &Plan) -> Result<Option<Self>> {
        let Some(key) = plan.key.clone() else { return Ok(None) };
        let peers = plan.peers.iter().map(|peer| {
            let heard = vec![None; peer.addresses.len().max(plan.heard_at.len())];
            let report = Report { addresses: peer.addresses.clone(), heard, beat: None };
            (peer.id.clone(), PeerLink { peer: Peer::default(), report })
        });
        let state = State {
            me: plan.me.clone(),
            cluster: plan.cluster.clone(),
            key,
            incarnation: daemon_kit::instance_id(),
            counter: 0,
            suspect: plan.timers.suspect,
            content: Heartbeat::default(),
            cut: false,
            peers: peers.collect(),
            ignored: Ignored::default(),
        };
        let link = Self { state: Arc::new(Mutex::new(state)), stopped: Arc::default() };
        for (path, address) in plan.heard_at.iter().enumerate() {
            let socket = UdpSocket::bind(address).with_context(|| {
                format!(
                    "hear heartbeats on {address}; is another heartbeatd running, or cluster.nodes wrong?"
                )
            })?;
            let (link, interval) = (link.clone(), plan.timers.heartbeat);
            std::thread::Builder::new()
                .name(format!("heartbeat-{path}"))
                .spawn(move || link.run(path, &socket, interval))
                .context("start a heartbeat thread")?;
        }
        Ok(Some(link))
    }

    /// What goes out from now on. Whom this node hears is added when it is sent.
    pub(crate) fn say(&self, content: Heartbeat) {
        self.state.lock().content = content;
    }

    /// Cuts all links, or joins them again.
    pub(crate) fn set_cut(&self, cut: bool) {
        self.state.lock().cut = cut;
    }

    /// The peers now.
    pub(crate) fn reports(&self) -> BTreeMap<NodeId, Report> {
        self.state.lock().peers.iter().map(|(node, link)| (node.clone(), link.report.clone())).collect()
    }

    /// What had no effect so far.
    pub(crate) fn ignored(&self) -> Ignored {
        self.state.lock().ignored.clone()
    }

    /// Ends the threads soon.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn run(&self, path: usize, socket: &UdpSocket, interval: Duration) {
        let mut next = SystemClock.now();
        let mut datagram = [0; DATAGRAM_BYTES_MAX + 1];
        while !self.stopped.load(Ordering::Relaxed) {
            let now = SystemClock.now();
            if now >= next {
                // After a pause of this process one datagram goes out, not all that were missed.
                next = now + interval;
                for (address, bytes) in self.outgoing(now, path) {
                    // An unreachable peer is what heartbeats are there to find out.
                    socket.send_to(&bytes, address).ok();
                }
            }
            let wait = next.since(SystemClock.now()).max(Duration::from_millis(1));
            if socket.set_read_timeout(Some(wait)).is_err() {
                std::thread::sleep(wait);
                continue;
            }
            if let Ok((len, _)) = socket.recv_from(&mut datagram) {
                self.incoming(SystemClock.now(), path, datagram.get(..len).unwrap_or_default());
            }
        }
    }

    fn outgoing(&self, now: Moment, path: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.cut {
            return Vec::new();
        }
        let heard: Vec<Heard> =
            state.peers.iter().map(|(node, link)| heard(node, &link.report, now, state.suspect)).collect();
        let mut datagrams = Vec::new();
        for (node, link) in &state.peers {
            let Some(address) = link.report.addresses.get(path) else { continue };
            let beat = Heartbeat {
                heard: heard.clone(),
                challenge: link.peer.challenge(),
                echo: link.peer.echo(),
                ..state.content.clone()
            };
            state.counter += 1;
            let header = Header {
                path: u8::try_from(path).unwrap_or(u8::MAX),
                incarnation: state.incarnation,
                counter: state.counter,
                from: state.me.clone(),
                to: node.clone(),
            };
            match seal(&state.key, &state.cluster, &header, &beat) {
                Ok(bytes) => datagrams.push((*address, bytes)),
                Err(error) => tracing::error!(event = "link.too_long", peer = %node, %error),
            }
        }
        datagrams
    }

    fn incoming(&self, now: Moment, path: usize, datagram: &[u8]) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.cut {
            return;
        }
        let (header, beat) = match open(&state.key, &state.cluster, &state.me, datagram) {
            Ok(opened) => opened,
            Err(why) => {
                *state.ignored.unopened.entry(why).or_default() += 1;
                return;
            }
        };
        let Some(link) = state.peers.get_mut(&header.from) else {
            *state.ignored.unopened.entry(Unopened::Misdirected).or_default() += 1;
            return;
        };
        let fresh = random();
        match link.peer.receive(header.incarnation, header.counter, beat.challenge, beat.echo, fresh) {
            Standing::Believed => {}
            Standing::Proved => tracing::info!(event = "link.peer_proved", peer = %header.from, path),
            Standing::Unproved => {
                state.ignored.unproved += 1;
                return;
            }
            Standing::Replayed => {
                state.ignored.replayed += 1;
                return;
            }
        }
        if let Some(heard) = link.report.heard.get_mut(path) {
            *heard = Some(now);
        }
        link.report.beat = Some(beat);
    }
}

fn heard(node: &NodeId, report: &Report, now: Moment, suspect: Duration) -> Heard {
    let bits = report
        .heard
        .iter()
        .take(32)
        .rev()
        .fold(0, |bits, at| (bits << 1) | u32::from(at.is_some_and(|at| now.since(at) <= suspect)));
    Heard { node: node.clone(), paths: bits }
}

/// A random number, from the kernel.
fn random() -> u64 {
    let low = daemon_kit::instance_id().0 & u128::from(u64::MAX);
    u64::try_from(low).unwrap_or_default()
}
