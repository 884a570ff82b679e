//! Drills: a fault on one node, ordered by another, to see what comes of it.
//!
//! The order travels in the heartbeats of the node where the operator is, so it is sealed with the cluster's key and cannot
//! be replayed. The node that is hit answers in its own. `cluster::drill` decides; here is what carries it out.
//!
//! Never hits a node that holds a queue of another, or that is being stopped.

use std::time::Duration;

use cluster::drill::{Drill, DrillAct, DrillOrder, FAULT_MAX};
use cluster::observe::LeaseView;
use control::heartbeatd::Answer;
use control::switch::{Answer as Said, Request as Ask, Trouble};
use control::{Code, Fault};
use mail_model::{LeaseState, Moment, QueueId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::drills::Hit;
use crate::launch::Task;
use crate::link::Link;
use crate::node::{Node, Watched};
use crate::own::Standing;

/// How long an order is said before it is given up.
const SAID_FOR: Duration = Duration::from_secs(5);
/// How long the own switch may take to say which process it is. Less than an announcement lasts.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// Drills that are remembered, so that none happens twice.
const KNOWN_MAX: usize = 256;

impl Node {
    /// Says an order to a peer.
    pub(crate) fn order_drill(&mut self, order: DrillOrder) -> Result<Answer, Fault> {
        let refused = |why: &str| Err(Fault::refused_unsafe(why));
        if order.node == self.plan.me {
            return refused("a drill is ordered from another node: this one will be busy playing dead");
        }
        if !self.plan.has_queue(&order.node) {
            let why = format!("there is no node {} with a queue in cluster.nodes", order.node);
            return Err(Fault::not_found(why));
        }
        if Duration::from_millis(order.for_ms) > FAULT_MAX {
            let why = format!("the fault of a drill lasts at most {} s", FAULT_MAX.as_secs());
            return Err(Fault::new(Code::Invalid, why));
        }
        if self.pause.is_some() {
            return refused("takeovers by this node are paused");
        }
        if self.draining {
            return refused("this node is being stopped");
        }
        let now = self.clock.now();
        if self.drills.is_open() || self.drills.order(now).is_some() {
            return refused("another drill is under way");
        }
        tracing::info!(event = "drill.ordered", id = order.id, node = %order.node, fault = %order.fault);
        let message = format!("the order to node {} is being said", order.node);
        self.drills.ordered = Some((order, now + SAID_FOR));
        Ok(Answer::Done { message })
    }

    /// Hears orders, and goes on with what runs. Called often.
    pub(crate) fn drill(&mut self) {
        let now = self.clock.now();
        if !self.drills.is_silent() {
            let reports = self.link.as_ref().map(Link::reports).unwrap_or_default();
            let orders = reports.into_values().filter_map(|report| report.beat?.drill);
            for order in orders.filter(|order| order.node == self.plan.me).collect::<Vec<_>>() {
                self.hear(order, now);
            }
        }
        let mut acts = Vec::new();
        if let Some(drill) = &mut self.drills.on_me {
            drill.step(now, self.drills.pid.is_some(), &mut acts);
        }
        self.act(&acts);
    }

    /// Ends a drill on this node at once.
    pub(crate) fn end_drill(&mut self) {
        let mut acts = Vec::new();
        if let Some(drill) = &mut self.drills.on_me {
            drill.withdraw(&mut acts);
        }
        self.act(&acts);
    }

    fn hear(&mut self, order: DrillOrder, now: Moment) {
        if self.drills.known.contains(&order.id) {
            return;
        }
        if self.drills.known.len() >= KNOWN_MAX {
            self.drills.known.pop_front();
        }
        self.drills.known.push_back(order.id);
        let (id, fault, for_ms) = (order.id, order.fault, order.for_ms);
        if let Some(why) = self.unfit_for_drill() {
            tracing::warn!(event = "drill.refused", id, %fault, why);
            // A drill that runs is not replaced by the refusal of another.
            if !self.drills.is_open() {
                self.drills.on_me = Some(Drill::refuse(order, why));
            }
            return;
        }
        tracing::warn!(event = "drill.announced", id, %fault, for_ms);
        self.drills.pid = None;
        self.drills.on_me = Some(Drill::announce(order, now));
        let socket = control::paths::switch(&self.plan.state_dir, &self.plan.own());
        let hits = self.drills.hits.clone();
        tokio::spawn(async move {
            let pid = match control::ask(&socket, Ask::Status, ANSWER_LIMIT).await {
                Ok(Said::Status(status)) => Some(status.pid),
                Ok(_) | Err(_) => None,
            };
            hits.send(Hit { drill: id, pid }).ok();
        });
    }

    /// Why a drill must not hit this node now.
    fn unfit_for_drill(&self) -> Option<&'static str> {
        let held =
            |lease: &LeaseView| lease.owner == self.plan.me && lease.state != Some(LeaseState::Released);
        let own = self.plan.own();
        let holds = |(queue, watched): (&QueueId, &Watched)| {
            *queue != own && watched.machine.lease().is_some_and(held)
        };
        if self.drills.is_open() {
            Some("another drill hits this node")
        } else if self.draining {
            Some("the node is being stopped")
        } else if self.pause.is_some() {
            Some("takeovers by the node are paused")
        } else if self.queues.iter().any(holds) {
            Some("the node holds the queue of another node")
        } else if !self.own_switch.borrow().ready {
            Some("its switch is not ready")
        } else {
            None
        }
    }

    fn act(&mut self, acts: &[DrillAct]) {
        let Some(order) = self.drills.on_me.as_ref().map(|drill| drill.order().clone()) else { return };
        let (id, fault) = (order.id, order.fault);
        for act in acts {
            match act {
                DrillAct::FallSilent => {
                    self.begun(&order);
                    self.cut(true);
                }
                DrillAct::Kill => self.hit(Signal::SIGKILL),
                DrillAct::Terminate => self.hit(Signal::SIGTERM),
                DrillAct::Stop => self.hit(Signal::SIGSTOP),
                DrillAct::Continue => self.hit(Signal::SIGCONT),
                DrillAct::FillDisk => {
                    self.begun(&order);
                    self.trouble(Trouble::DiskFull, order.for_ms);
                }
                DrillAct::HangStorage => self.trouble(Trouble::StorageHang, order.for_ms),
                DrillAct::Mend => {
                    self.trouble(Trouble::DiskFull, 0);
                    self.trouble(Trouble::StorageHang, 0);
                }
                DrillAct::Speak => {
                    tracing::warn!(event = "drill.over", id, %fault);
                    self.records.drill(self.clock.wall(), id, fault, "over");
                    self.cut(false);
                }
                DrillAct::Revive => {
                    // Where a service manager started it again already, it waits for its queue.
                    if self.own_switch.borrow().standing == Standing::Absent && !self.draining {
                        self.children.start(self.plan.own(), Task::Primary);
                    }
                }
            }
        }
    }

    fn begun(&self, order: &DrillOrder) {
        tracing::warn!(event = "drill.begun", id = order.id, fault = %order.fault, for_ms = order.for_ms);
        self.records.drill(self.clock.wall(), order.id, order.fault, "begun");
    }

    /// The own switch ends it by itself, should nobody tell it.
    fn trouble(&self, trouble: Trouble, for_ms: u64) {
        let socket = control::paths::switch(&self.plan.state_dir, &self.plan.own());
        tokio::spawn(async move {
            if let Err(error) = control::ask(&socket, Ask::Trouble { trouble, for_ms }, ANSWER_LIMIT).await {
                tracing::warn!(event = "drill.trouble_failed", ?trouble, for_ms, %error);
            }
        });
    }

    fn cut(&self, cut: bool) {
        if let Some(link) = &self.link {
            link.set_cut(cut);
        }
    }

    fn hit(&self, signal: Signal) {
        let pid = self.drills.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1);
        let Some(pid) = pid else { return };
        if let Err(error) = kill(Pid::from_raw(pid), signal) {
            tracing::warn!(event = "drill.signal_failed", pid, %signal, %error);
        }
    }
}
