//! The node: one loop that reads what comes in, steps the machines, and carries out what they say.
//!
//! It decides nothing about a queue; `cluster::takeover` and `cluster::restart` do. It never writes into a queue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::heartbeat::{Heartbeat, InstanceDead, QueueBeat};
use cluster::restart::{Own, Restart, Step};
use cluster::takeover::{
    Action, Decision, Event, Ineligible, OwnWatch, PeerView, Refused, Rule, State, Takeover, Verdict, View,
    Watch,
};
use daemon_kit::SystemClock;
use daemon_kit::logging::Levels;
use mail_model::{Clock, LeaseState, Moment, NodeId, QueueId, Role, WallTime};
use settings::Settings;
use tokio::sync::{mpsc, watch};

use crate::alerts::{Alerts, Channels, conditions};
use crate::devices::{Devices, News};
use crate::drills::{Drills, Hit};
use crate::launch::{Children, Ended, Task};
use crate::link::{Link, Report};
use crate::metrics::Counts;
use crate::observe::{self, Observer, Reading, Seen};
use crate::own::{OwnSwitch, Standing};
use crate::plan::Plan;
use crate::records::Records;

/// A secondary answers an order to drain within this time, or gets the signal that means the same.
const DRAIN_ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What a probe of the storage found.
type Probed = Option<Duration>;

/// A queue as this node watches it.
pub(crate) struct Watched {
    pub(crate) machine: Takeover,
    observer: Observer,
    /// The last reading, good or not.
    last: Moment,
    pub(crate) seen: Option<Seen>,
    /// Why the last reading failed.
    unreadable: Option<String>,
}

/// The node.
pub(crate) struct Node {
    pub(crate) plan: Arc<Plan>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) records: Records,
    pub(crate) link: Option<Link>,
    pub(crate) children: Children,
    pub(crate) own_switch: watch::Receiver<OwnSwitch>,
    pub(crate) queues: BTreeMap<QueueId, Watched>,
    pub(crate) pause: Option<(Moment, WallTime)>,
    pub(crate) draining: bool,
    /// What is wrong, and who is told.
    pub(crate) alerts: Alerts,
    pub(crate) channels: Channels,
    /// The levels of the log.
    pub(crate) levels: Levels,
    /// What was decided so far.
    pub(crate) counts: Counts,
    /// The wall clock at the start: grows with each.
    pub(crate) incarnation: u64,
    own: OwnWatch,
    restart: Restart,
    own_ended: bool,
    pub(crate) drills: Drills,
    /// On promoted storage: who may mount what.
    pub(crate) devices: Option<Devices>,
    probe_for: BTreeSet<QueueId>,
    probing: bool,
    probes: mpsc::UnboundedSender<Probed>,
}

/// What comes in beside questions and signals.
pub(crate) struct Inputs {
    pub(crate) readings: mpsc::Receiver<Reading>,
    pub(crate) probes: mpsc::UnboundedReceiver<Probed>,
    pub(crate) ended: mpsc::UnboundedReceiver<Ended>,
    pub(crate) hits: mpsc::UnboundedReceiver<Hit>,
    pub(crate) news: mpsc::UnboundedReceiver<News>,
}

impl Node {
    /// Starts the observers and everything else that feeds the loop.
    pub(crate) fn start(plan: Plan, settings: &Settings, levels: Levels) -> Result<(Self, Inputs)> {
        let plan = Arc::new(plan);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (now, wall) = (clock.now(), clock.wall());
        let channels = Channels::start(settings, Arc::clone(&clock))?;
        let records = Records::open(&plan.state_dir, &plan.me)?;
        let until = records.paused_until().filter(|until| *until > wall);
        let link = Link::start(&plan)?;
        let (ended_in, ended) = mpsc::unbounded_channel();
        let (probes_in, probes) = mpsc::unbounded_channel();
        let (readings_in, readings) = mpsc::channel(64);
        let (hits_in, hits) = mpsc::unbounded_channel();
        let (news_in, news) = mpsc::unbounded_channel();
        let devices = Devices::start(&plan, news_in)?;
        let children = Children::new(Arc::clone(&plan), ended_in).context("start the launcher")?;
        let own_socket = control::paths::switch(&plan.state_dir, &plan.own());
        let own_switch = crate::own::watch(own_socket, plan.timers.observe);
        let mut queues = BTreeMap::new();
        for queue in plan.watched() {
            let watch = Watch {
                me: plan.me.clone(),
                queue: queue.clone(),
                timers: plan.timers,
                order: plan.takers.get(queue.home()).cloned().unwrap_or_default(),
                promoted: plan.promoted.is_some(),
            };
            let tell = readings_in.clone();
            let own = queue == plan.own();
            let observer = Observer::start(&plan.spool, &queue, own, plan.timers.observe, move |reading| {
                tell.blocking_send(reading).is_ok()
            })?;
            let watched =
                Watched { machine: Takeover::new(watch), observer, last: now, seen: None, unreadable: None };
            queues.insert(queue, watched);
        }
        let node = Self {
            plan,
            clock,
            records,
            link,
            children,
            own_switch,
            queues,
            pause: until.map(|until| (now + until.since(wall), until)),
            draining: false,
            counts: Counts::default(),
            alerts: Alerts::new(settings.alerts.after, settings.alerts.repeat),
            channels,
            levels,
            incarnation: wall.0,
            own: OwnWatch::default(),
            restart: Restart::default(),
            own_ended: false,
            drills: Drills::new(hits_in),
            devices,
            probe_for: BTreeSet::new(),
            probing: false,
            probes: probes_in,
        };
        Ok((node, Inputs { readings, probes, ended, hits, news }))
    }

    /// What all machines share.
    pub(crate) fn view(&self) -> View {
        let now = self.clock.now();
        let reports = self.link.as_ref().map(Link::reports).unwrap_or_default();
        let own = self.queues.get(&self.plan.own()).and_then(|watched| watched.seen.as_ref());
        View {
            own: self.own.judge(now, self.plan.timers.window),
            paused_until: self.pause.map(|(until, _)| until),
            draining: self.draining,
            room: own.is_none_or(|seen| seen.room),
            peers: reports.iter().map(|(node, report)| (node.clone(), self.peer(now, report))).collect(),
            devices: self.devices.as_ref().map(Devices::views).unwrap_or_default(),
        }
    }

    fn peer(&self, now: Moment, report: &Report) -> PeerView {
        let beat = report.beat.as_ref();
        let dead = beat.map(|b| b.instance_dead.iter().map(|d| (d.queue.clone(), d.epoch)).collect());
        let hears = beat.into_iter().flat_map(|b| &b.heard).filter(|heard| heard.paths != 0);
        PeerView {
            known: beat.is_some(),
            paths_up: report.paths_up(now, self.plan.timers.suspect),
            paths: u32::try_from(report.addresses.len()).unwrap_or(u32::MAX),
            restarting: beat.is_some_and(|b| b.restarting),
            waiting: beat.is_some_and(|b| b.waiting),
            hears: hears.map(|heard| heard.node.clone()).collect(),
            dead: dead.unwrap_or_default(),
        }
    }

    /// A look at a lease.
    pub(crate) fn reading(&mut self, reading: Reading) {
        let own = reading.queue == self.plan.own();
        let window = self.plan.timers.window;
        let silent = self.drills.is_silent();
        let elsewhere = self.is_elsewhere(&reading.queue).then(|| self.lease_elsewhere(&reading.queue));
        let Some(watched) = self.queues.get_mut(&reading.queue) else { return };
        watched.last = reading.at;
        if silent {
            return;
        }
        let event = match reading.seen {
            Ok(mut seen) => {
                if let Some(lease) = elsewhere {
                    seen.lease = lease;
                }
                if own {
                    self.own.read(reading.at, &self.plan.me, seen.lease.as_ref(), window);
                }
                let lease = seen.lease.clone();
                watched.seen = Some(seen);
                watched.unreadable = None;
                Event::Read(lease)
            }
            Err(error) => {
                watched.seen = None;
                if watched.unreadable.is_none() {
                    tracing::warn!(event = "observe.unreadable", queue = %reading.queue, %error);
                }
                watched.unreadable = Some(error);
                if own {
                    self.own.unreadable(reading.at);
                }
                Event::Unreadable
            }
        };
        self.step(&reading.queue, reading.at, &event);
        if own {
            self.look_after_primary();
        }
    }

    /// Time passed. A reading that does not come is one that failed.
    pub(crate) fn tick(&mut self) {
        let now = self.clock.now();
        if self.pause.is_some_and(|(until, _)| now >= until) {
            self.pause = None;
        }
        self.drill();
        // In a drill, too: who plays dead lets its devices go.
        self.device_rounds();
        if self.drills.is_silent() {
            return;
        }
        let limit = self.plan.timers.window / 2;
        let queues: Vec<QueueId> = self.queues.keys().cloned().collect();
        for queue in queues {
            let Some(watched) = self.queues.get(&queue) else { continue };
            let silent = now.since(watched.last) > limit;
            self.step(&queue, now, if silent { &Event::Unreadable } else { &Event::Tick });
        }
        if let Some(link) = &self.link {
            link.say(self.heartbeat(now));
        }
    }

    /// Tells people what began or ended to be wrong.
    pub(crate) fn look_for_alerts(&mut self) {
        if self.draining {
            return;
        }
        let conditions = conditions(&self.status(), &self.own_switch.borrow());
        for notice in self.alerts.step(self.clock.now(), conditions) {
            self.channels.tell(&notice);
        }
    }

    fn heartbeat(&self, now: Moment) -> Heartbeat {
        let owned = self.queues.iter().filter_map(|(queue, watched)| {
            let lease = watched.machine.lease().filter(|lease| lease.owner == self.plan.me)?;
            let io_p999_us = watched.seen.as_ref().map_or(0, |seen| seen.io_p999_us);
            let (epoch, seq, role, state) = (lease.epoch, lease.seq, lease.role, lease.state);
            let queued = lease.queued;
            Some(QueueBeat { queue: queue.clone(), epoch, seq, role, state, io_p999_us, queued })
        });
        let queue = self.plan.own();
        let dead = self.restart.dead().map(|epoch| InstanceDead { queue, epoch });
        Heartbeat {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_hash: self.plan.config_hash.clone(),
            state: if self.draining { "draining" } else { "up" }.to_owned(),
            queues: owned.collect(),
            heard: Vec::new(),
            instance_dead: dead.into_iter().collect(),
            restarting: self.restart.is_restarting(),
            waiting: self.own_switch.borrow().standing == Standing::Waiting,
            paused_ms: self.pause.map(|(until, _)| u64::try_from(until.since(now).as_millis()).unwrap_or(0)),
            smtp: self.plan.smtp,
            drill: self.drills.order(now),
            word: self.drills.word(now),
            challenge: None,
            echo: None,
        }
    }

    /// The storage was probed for everybody who asked meanwhile.
    pub(crate) fn probed(&mut self, took: Probed) {
        self.probing = false;
        for queue in std::mem::take(&mut self.probe_for) {
            self.step(&queue, self.clock.now(), &Event::Probed(took));
        }
    }

    /// A process ended. The end of one that was replaced means nothing.
    pub(crate) fn ended(&mut self, ended: &Ended) {
        if !self.children.is_latest(ended) {
            return;
        }
        self.hurry_device(&ended.queue);
        if ended.queue == self.plan.own() {
            self.own_ended = true;
            self.look_after_primary();
        } else {
            self.step(&ended.queue, self.clock.now(), &Event::SecondaryEnded);
        }
    }

    /// An operator's order to take `queue`.
    pub(crate) fn order_takeover(&mut self, queue: &QueueId, why: &str) -> Option<Result<(), Refused>> {
        self.order(queue, |machine, now, view, out| machine.order_takeover(now, why, view, out))
    }

    /// An operator's order to hand `queue` back.
    pub(crate) fn order_handback(&mut self, queue: &QueueId) -> Option<Result<(), Refused>> {
        self.order(queue, Takeover::order_handback)
    }

    fn order(
        &mut self,
        queue: &QueueId,
        order: impl FnOnce(&mut Takeover, Moment, &View, &mut Vec<Action>) -> Result<(), Refused>,
    ) -> Option<Result<(), Refused>> {
        let view = self.view();
        let now = self.clock.now();
        let mut actions = Vec::new();
        let result = order(&mut self.queues.get_mut(queue)?.machine, now, &view, &mut actions);
        self.carry_out(queue, actions);
        Some(result)
    }

    pub(crate) fn step(&mut self, queue: &QueueId, now: Moment, event: &Event) {
        let view = self.view();
        let Some(watched) = self.queues.get_mut(queue) else { return };
        let mut actions = Vec::new();
        watched.machine.step(now, event, &view, &mut actions);
        self.carry_out(queue, actions);
    }

    fn carry_out(&mut self, queue: &QueueId, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Record(decision) => self.record(&decision),
                Action::Probe => self.probe(queue),
                Action::ReadNow => {
                    if let Some(watched) = self.queues.get(queue) {
                        watched.observer.read_now();
                    }
                }
                Action::Launch { expected, reason } => {
                    if !self.take_device(queue, reason) {
                        self.children.start(queue.clone(), Task::Secondary { expected, reason });
                    }
                }
                Action::Drain { grace } => self.drain(queue.clone(), grace),
            }
        }
    }

    pub(crate) fn record(&mut self, decision: &Decision) {
        self.counts.decided(self.clock.now(), decision);
        let Decision { queue, verdict, rule, text, state, evidence } = decision;
        let epoch = evidence.epoch.0;
        if *verdict == Verdict::Alarm {
            tracing::warn!(event = "takeover.alarm", %queue, ?rule, epoch, %state, %text);
        } else {
            tracing::info!(event = "takeover.decision", %queue, ?verdict, ?rule, epoch, %state, %text);
        }
        self.records.decision(self.clock.wall(), decision);
    }

    /// A probe that hangs holds up no other work, and no second one is started beside it.
    fn probe(&mut self, queue: &QueueId) {
        self.probe_for.insert(queue.clone());
        if self.probing {
            return;
        }
        self.probing = true;
        let (tell, clock) = (self.probes.clone(), Arc::clone(&self.clock));
        let spool = self.plan.spool.clone();
        tokio::task::spawn_blocking(move || tell.send(observe::probe(&spool, &clock)).ok());
    }

    fn drain(&self, queue: QueueId, grace: Duration) {
        let socket = control::paths::switch(&self.plan.state_dir, &queue);
        let children = self.children.clone();
        let request = control::switch::Request::Drain {
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
            notice_ms: 0,
        };
        tokio::spawn(async move {
            if let Err(error) = control::ask(&socket, request, DRAIN_ANSWER_LIMIT).await {
                tracing::warn!(event = "handback.drain_failed", %queue, %error);
                children.terminate(&queue).await;
            }
        });
    }

    /// Local restart comes first.
    fn look_after_primary(&mut self) {
        let queue = self.plan.own();
        let Some(watched) = self.queues.get(&queue) else { return };
        let seen = watched.seen.as_ref();
        if self.draining || self.drills.keeps_down() || seen.is_none() {
            return;
        }
        let own = Own {
            lease: watched.machine.lease(),
            unchanged_for: watched.machine.unchanged_for(),
            lock_free: seen.is_some_and(|seen| seen.lock_free),
            alive: self.own_switch.borrow().standing != Standing::Absent || self.children.runs(&queue),
            ended: std::mem::take(&mut self.own_ended),
        };
        let step = self.restart.step(self.clock.now(), &self.plan.me, &own);
        let (verdict, rule, text) = match step {
            Step::Rest => return,
            Step::Start => (Verdict::Restart, Rule::PrimaryEnded, "the own primary is dead: started again"),
            Step::StartWaiter => (
                Verdict::Restart,
                Rule::HomeWaits,
                "the own primary is not there to take its queue back: started, so that it waits",
            ),
            Step::GiveUp => (
                Verdict::InstanceDead,
                Rule::BudgetSpent,
                "the own primary died again and again: the peers may take its queue at once",
            ),
        };
        let decision =
            watched.machine.describe(verdict, rule, text.to_owned(), &self.view(), self.clock.now());
        self.record(&decision);
        match step {
            Step::Start | Step::StartWaiter => self.children.start(queue, Task::Primary),
            Step::GiveUp | Step::Rest => {}
        }
    }

    /// The queue that this node could not take over since it cannot read its lease, and why.
    pub(crate) fn cannot_read(&self) -> Option<String> {
        self.queues.iter().find_map(|(queue, watched)| {
            // One reading alone may have met a stall.
            let lasts = watched.machine.state() == State::Ineligible(Ineligible::Unreadable);
            let why = watched.unreadable.as_ref().filter(|_| lasts)?;
            Some(format!("the lease of queue {queue} cannot be read here: {why}"))
        })
    }

    /// How well mail is protected, in words.
    pub(crate) fn protection(&self, peers: &BTreeMap<NodeId, PeerView>) -> String {
        if self.link.is_none() {
            return "none: stand-alone, no other node could take over".to_owned();
        }
        if self.draining {
            return "reduced: this node is being stopped".to_owned();
        }
        if self.drills.is_open() {
            return "reduced: a drill hits this node".to_owned();
        }
        if self.pause.is_some() {
            return "reduced: takeovers by this node are paused".to_owned();
        }
        if let Some(why) = self.cannot_read() {
            return format!("reduced: {why}");
        }
        let unheard: Vec<&str> =
            peers.iter().filter(|(_, peer)| !peer.heard()).map(|(node, _)| node.as_str()).collect();
        if !peers.iter().any(|(node, peer)| peer.heard() && self.plan.has_queue(node)) {
            return "none: no other node is heard that could take over".to_owned();
        }
        if !unheard.is_empty() {
            return format!("reduced: not heard: {}", unheard.join(", "));
        }
        if peers.values().any(|peer| peer.paths_up < peer.paths) {
            return "reduced: a heartbeat path is down".to_owned();
        }
        let away = |(queue, watched): (&QueueId, &Watched)| {
            let lease = watched.machine.lease()?;
            let away = lease.role == Role::Secondary && lease.state != Some(LeaseState::Released);
            away.then(|| format!("{queue} is with {}", lease.owner))
        };
        match self.queues.iter().find_map(away) {
            Some(away) => format!("reduced: {away}"),
            None => "full".to_owned(),
        }
    }
}
