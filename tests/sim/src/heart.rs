//! A node's heartbeatd around the production machines: what `heartbeatd/src/node.rs` does, without sockets and children
//! of an operating system. Each function that mirrors one there has its name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cluster::heartbeat::{Heartbeat, InstanceDead, Peer, Standing};
use cluster::instance::{Order, State};
use cluster::observe::LeaseView;
use cluster::restart::{Own, Restart, Step};
use cluster::takeover::{Action, Event, OwnWatch, PeerView, Takeover, Verdict, View, Watch};
use mail_model::{Clock, InstanceId, Moment, NodeId, QueueId, Role};
use parking_lot::Mutex;
use queue_store::observe;
use queue_store::storage::Storage;

use crate::network::{Datagram, Network, PATHS};
use crate::scheduler::{MS, ProcessId, Time};
use crate::site::{Node, SPOOL, Site};
use crate::switch;

/// Free bytes below which this node takes no further queue.
const ROOM_BYTES: u64 = 96 << 10;

struct Watched {
    machine: Takeover,
    last: Moment,
    lease: Option<LeaseView>,
    seen: bool,
    lock_free: bool,
    room: bool,
    look_now: Arc<AtomicBool>,
}

#[derive(Default)]
struct Link {
    peer: Peer,
    heard: [Option<Moment>; PATHS],
    beat: Option<Heartbeat>,
}

struct Inner {
    queues: BTreeMap<QueueId, Watched>,
    own: OwnWatch,
    restart: Restart,
    own_ended: bool,
    links: BTreeMap<usize, Link>,
    counter: u64,
    probe_for: BTreeSet<QueueId>,
    probing: bool,
    /// The process that was started last for each queue.
    children: BTreeMap<QueueId, ProcessId>,
    /// What was decided by which rule, for the story and for who judges it.
    decided: Vec<(QueueId, Verdict)>,
}

/// A heartbeatd that runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Heart {
    site: Site,
    node: Node,
    network: Network,
    pub(crate) process: ProcessId,
    incarnation: InstanceId,
    inner: Arc<Mutex<Inner>>,
}

/// What is to be done outside the lock.
enum Todo {
    Act(QueueId, Action),
    StartPrimary,
}

impl Heart {
    /// Starts it, and returns at once.
    pub(crate) fn start(site: &Site, network: &Network, node: usize) -> Self {
        let node = site.nodes[node].clone();
        let now = node.clock.now();
        let order: Vec<NodeId> = site.nodes.iter().map(|node| node.id.clone()).collect();
        let watched = |queue: QueueId| {
            let watch = Watch {
                me: node.id.clone(),
                queue: queue.clone(),
                timers: site.timers,
                order: order.clone(),
                promoted: false,
            };
            let watched = Watched {
                machine: Takeover::new(watch),
                last: now,
                lease: None,
                seen: false,
                lock_free: false,
                room: true,
                look_now: Arc::default(),
            };
            (queue, watched)
        };
        let others = site.nodes.iter().map(|other| other.index).filter(|other| *other != node.index);
        let inner = Inner {
            queues: site.queues().into_iter().map(watched).collect(),
            own: OwnWatch::default(),
            restart: Restart::default(),
            own_ended: false,
            links: others.map(|other| (other, Link::default())).collect(),
            counter: 0,
            probe_for: BTreeSet::new(),
            probing: false,
            children: BTreeMap::new(),
            decided: Vec::new(),
        };
        let heart = Self {
            site: site.clone(),
            process: site.scheduler.new_process(),
            incarnation: site.instance(),
            network: network.clone(),
            node,
            inner: Arc::new(Mutex::new(inner)),
        };
        for queue in site.queues() {
            let observer = heart.clone();
            site.scheduler.spawn(heart.process, "observe", move || observer.observe(&queue));
        }
        let beating = heart.clone();
        site.scheduler.spawn(heart.process, "node", move || beating.beat());
        heart
    }

    /// The children end with heartbeatd (`docs/decisions/0006`).
    pub(crate) fn kill(&self) {
        let children: Vec<ProcessId> = self.inner.lock().children.values().copied().collect();
        for process in children {
            self.site.scheduler.kill(process);
        }
        self.site.scheduler.kill(self.process);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.site.scheduler.is_dead(self.process)
    }

    /// How often it decided so.
    pub(crate) fn decided(&self, verdict: Verdict) -> usize {
        self.inner.lock().decided.iter().filter(|(_, other)| *other == verdict).count()
    }

    fn own(&self) -> QueueId {
        QueueId::of(self.node.id.clone())
    }

    /// `observe.rs`: reads the lease of one queue every P.
    fn observe(&self, queue: &QueueId) {
        let (scheduler, node) = (&self.site.scheduler, &self.node);
        let mount = self.site.disk.mount(self.process, node.index, node.cache);
        let dir = Site::dir(queue);
        let own = *queue == self.own();
        let interval = u64::try_from(self.site.timers.observe.as_micros()).unwrap();
        let look_now = Arc::clone(&self.inner.lock().queues[queue].look_now);
        loop {
            let started = scheduler.now();
            let lease = observe::read_lease_on(Arc::new(mount.clone()), &dir);
            let lock_free = own && mount.is_lock_free(&dir.join("lock")).unwrap_or(false);
            let free = mount.free_space(&dir).unwrap_or(0);
            let at = node.clock.now();
            let todo = self.reading(queue, at, lease, lock_free, free >= ROOM_BYTES);
            self.carry_out(todo);
            let rest = (started + interval).saturating_sub(scheduler.now()).max(MS);
            let woken = Arc::clone(&look_now);
            scheduler.rest(rest, move || woken.load(Ordering::Acquire));
            look_now.store(false, Ordering::Release);
        }
    }

    fn view(&self, inner: &Inner) -> View {
        let now = self.node.clock.now();
        let peers = inner.links.iter().map(|(index, link)| {
            let up = link.heard.iter().flatten().filter(|at| now.since(**at) <= self.site.timers.suspect);
            let beat = link.beat.as_ref();
            let dead = beat.map(|b| b.instance_dead.iter().map(|d| (d.queue.clone(), d.epoch)).collect());
            let view = PeerView {
                known: beat.is_some(),
                paths_up: u32::try_from(up.count()).unwrap(),
                paths: u32::try_from(PATHS).unwrap(),
                restarting: beat.is_some_and(|b| b.restarting),
                waiting: beat.is_some_and(|b| b.waiting),
                hears: std::collections::BTreeSet::new(),
                dead: dead.unwrap_or_default(),
            };
            (self.site.nodes[*index].id.clone(), view)
        });
        let own = &inner.queues[&self.own()];
        View {
            own: inner.own.judge(now, self.site.timers.window),
            paused_until: None,
            draining: false,
            room: !own.seen || own.room,
            peers: peers.collect(),
            devices: BTreeMap::new(),
        }
    }

    fn reading(
        &self,
        queue: &QueueId,
        at: Moment,
        lease: std::io::Result<Option<LeaseView>>,
        lock_free: bool,
        room: bool,
    ) -> Vec<Todo> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let own = *queue == self.own();
        let watched = inner.queues.get_mut(queue).unwrap();
        watched.last = at;
        watched.seen = lease.is_ok();
        let event = if let Ok(lease) = lease {
            watched.lease.clone_from(&lease);
            (watched.lock_free, watched.room) = (lock_free && lease.is_some(), room);
            if own {
                inner.own.read(at, &self.node.id, lease.as_ref(), self.site.timers.window);
            }
            Event::Read(lease)
        } else {
            if own {
                inner.own.unreadable(at);
            }
            Event::Unreadable
        };
        let mut todo = self.step(inner, queue, at, &event);
        if own {
            todo.extend(self.look_after_primary(inner));
        }
        todo
    }

    fn step(&self, inner: &mut Inner, queue: &QueueId, now: Moment, event: &Event) -> Vec<Todo> {
        let view = self.view(inner);
        let mut actions = Vec::new();
        inner.queues.get_mut(queue).unwrap().machine.step(now, event, &view, &mut actions);
        actions.into_iter().map(|action| Todo::Act(queue.clone(), action)).collect()
    }

    /// Local restart comes first.
    fn look_after_primary(&self, inner: &mut Inner) -> Option<Todo> {
        let queue = self.own();
        let watched = &inner.queues[&queue];
        if !watched.seen {
            return None;
        }
        let own = Own {
            lease: watched.machine.lease(),
            unchanged_for: watched.machine.unchanged_for(),
            lock_free: watched.lock_free,
            alive: self.site.runs(self.node.index, &queue).is_some(),
            ended: inner.own_ended,
        };
        let step = inner.restart.step(self.node.clock.now(), &self.node.id, &own);
        inner.own_ended = false;
        match step {
            Step::Start | Step::StartWaiter => Some(Todo::StartPrimary),
            Step::GiveUp | Step::Rest => None,
        }
    }

    fn carry_out(&self, todo: Vec<Todo>) {
        let (scheduler, site, me) = (&self.site.scheduler, &self.site, self.node.index);
        for todo in todo {
            match todo {
                Todo::StartPrimary => {
                    scheduler.tell(|| format!("heart {}: starts its primary again", self.node.id));
                    self.launch(&self.own(), Role::Primary, None);
                }
                Todo::Act(queue, Action::Record(decision)) => {
                    scheduler.tell(|| {
                        let (verdict, rule) = (decision.verdict, decision.rule);
                        format!("heart {}: queue {queue}: {verdict:?} by {rule:?}", self.node.id)
                    });
                    self.inner.lock().decided.push((queue, decision.verdict));
                }
                Todo::Act(queue, Action::Probe) => self.probe(queue),
                Todo::Act(queue, Action::ReadNow) => {
                    self.inner.lock().queues[&queue].look_now.store(true, Ordering::Release);
                }
                Todo::Act(queue, Action::Launch { expected, reason }) => {
                    self.launch(&queue, Role::Secondary, Some(Order { expected, reason }));
                }
                Todo::Act(queue, Action::Drain { grace }) => {
                    if let Some(running) = site.runs(me, &queue) {
                        let grace = u64::try_from(grace.as_micros()).unwrap();
                        site.update(running.process, |running| running.drain = Some(grace));
                    }
                }
            }
        }
    }

    /// One process for each queue at a time: a former one that hangs is killed first.
    fn launch(&self, queue: &QueueId, role: Role, order: Option<Order>) {
        let former = self.inner.lock().children.get(queue).copied();
        if let Some(former) = former {
            self.site.scheduler.kill(former);
        }
        let process = switch::start(&self.site, self.node.index, queue, role, order);
        self.inner.lock().children.insert(queue.clone(), process);
    }

    /// A probe that hangs holds up no other work, and no second one is started beside it.
    fn probe(&self, queue: QueueId) {
        let mut inner = self.inner.lock();
        inner.probe_for.insert(queue);
        if std::mem::replace(&mut inner.probing, true) {
            return;
        }
        drop(inner);
        let heart = self.clone();
        self.site.scheduler.spawn(self.process, "probe", move || {
            let mount = heart.site.disk.mount(heart.process, heart.node.index, heart.node.cache);
            let clock = &heart.node.clock;
            let took = observe::probe_on(&mount, SPOOL.as_ref(), heart.incarnation, clock).ok();
            let todo = {
                let mut inner = heart.inner.lock();
                inner.probing = false;
                let asked = std::mem::take(&mut inner.probe_for);
                let now = clock.now();
                let steps =
                    asked.iter().map(|queue| heart.step(&mut inner, queue, now, &Event::Probed(took)));
                steps.flatten().collect()
            };
            heart.carry_out(todo);
        });
    }

    /// The loop: hears, ticks, speaks.
    fn beat(&self) {
        let interval = u64::try_from(self.site.timers.heartbeat.as_micros()).unwrap();
        let mut spoken: Time = 0;
        loop {
            for datagram in self.network.receive(self.node.index) {
                self.incoming(&datagram);
            }
            let todo = self.tick();
            self.carry_out(todo);
            let now = self.site.scheduler.now();
            if now >= spoken + interval {
                spoken = now;
                self.speak();
            }
            self.site.scheduler.sleep(100 * MS);
        }
    }

    fn incoming(&self, datagram: &Datagram) {
        let fresh = self.site.scheduler.draw(crate::chance::Chance::number);
        let now = self.node.clock.now();
        let mut inner = self.inner.lock();
        let Some(link) = inner.links.get_mut(&datagram.from) else { return };
        let (challenge, echo) = (datagram.beat.challenge, datagram.beat.echo);
        match link.peer.receive(datagram.incarnation, datagram.counter, challenge, echo, fresh) {
            Standing::Believed | Standing::Proved => {
                link.heard[datagram.path] = Some(now);
                link.beat = Some(datagram.beat.clone());
            }
            Standing::Unproved | Standing::Replayed => {}
        }
    }

    fn tick(&self) -> Vec<Todo> {
        let now = self.node.clock.now();
        let mut inner = self.inner.lock();
        let mut todo = Vec::new();
        // The end of a child is noticed.
        let ended: Vec<QueueId> = {
            let dead = |process: &ProcessId| self.site.scheduler.is_dead(*process);
            inner
                .children
                .iter()
                .filter(|(_, process)| dead(process))
                .map(|(queue, _)| queue.clone())
                .collect()
        };
        for queue in ended {
            inner.children.remove(&queue);
            if queue == self.own() {
                inner.own_ended = true;
                todo.extend(self.look_after_primary(&mut inner));
            } else {
                todo.extend(self.step(&mut inner, &queue, now, &Event::SecondaryEnded));
            }
        }
        for queue in self.site.queues() {
            let silent = now.since(inner.queues[&queue].last) > self.site.timers.window / 2;
            let event = if silent { Event::Unreadable } else { Event::Tick };
            todo.extend(self.step(&mut inner, &queue, now, &event));
        }
        todo
    }

    fn speak(&self) {
        let own = self.site.runs(self.node.index, &self.own());
        let waiting = own.is_some_and(|running| {
            running.state == State::Init && !self.site.scheduler.is_paused(running.process)
        });
        let mut inner = self.inner.lock();
        let queue = self.own();
        let dead = inner.restart.dead().map(|epoch| InstanceDead { queue, epoch });
        let restarting = inner.restart.is_restarting();
        let Inner { links, counter, .. } = &mut *inner;
        for (to, link) in links {
            for path in 0..PATHS {
                *counter += 1;
                let beat = Heartbeat {
                    instance_dead: dead.clone().into_iter().collect(),
                    restarting,
                    waiting,
                    challenge: link.peer.challenge(),
                    echo: link.peer.echo(),
                    ..Heartbeat::default()
                };
                let (incarnation, counter) = (self.incarnation, *counter);
                self.network.send(*to, &Datagram { from: self.node.index, path, incarnation, counter, beat });
            }
        }
    }

    /// The process that it started last for a queue.
    pub(crate) fn child(&self, queue: &QueueId) -> Option<ProcessId> {
        self.inner.lock().children.get(queue).copied()
    }

    /// An operator's order to take a queue.
    pub(crate) fn order_takeover(&self, queue: &QueueId) {
        let todo = {
            let mut inner = self.inner.lock();
            let view = self.view(&inner);
            let mut actions = Vec::new();
            let machine = &mut inner.queues.get_mut(queue).unwrap().machine;
            // Refused where it makes no sense.
            machine.order_takeover(self.node.clock.now(), "a story", &view, &mut actions).ok();
            actions.into_iter().map(|action| Todo::Act(queue.clone(), action)).collect()
        };
        self.carry_out(todo);
    }

    /// An operator's order to hand a queue back.
    pub(crate) fn order_handback(&self, queue: &QueueId) {
        let todo = {
            let mut inner = self.inner.lock();
            let view = self.view(&inner);
            let mut actions = Vec::new();
            let machine = &mut inner.queues.get_mut(queue).unwrap().machine;
            machine.order_handback(self.node.clock.now(), &view, &mut actions).ok();
            actions.into_iter().map(|action| Todo::Act(queue.clone(), action)).collect()
        };
        self.carry_out(todo);
    }
}
