//! What operators get to hear, and their orders.

use std::time::Duration;

use cluster::heartbeat::Heard;
use cluster::takeover::{OwnLease, Refused, State};
use control::heartbeatd::{
    Answer, HearsStatus, HeartbeatdStatus, PathStatus, PeerStatus, QueueStatus, Request,
};
use control::{Code, Fault};
use mail_model::{NodeId, QueueId};

use crate::admin::Ask;
use crate::launch::Task;
use crate::link::Link;
use crate::node::Node;
use crate::own::Standing;

/// The longest pause: a forgotten one must not leave a cluster without protection for ever.
const PAUSE_MAX: Duration = Duration::from_hours(7 * 24);

impl Node {
    /// Answers one question, or carries one order out.
    pub(crate) async fn answer(&mut self, ask: Ask) {
        let answer = match ask.request {
            Request::AlertTest => {
                let channels = self.channels.clone();
                // The loop does not wait for it.
                tokio::spawn(async move {
                    let answer = channels.test().await.map(done).map_err(Fault::failed);
                    drop(ask.reply.send(answer));
                });
                return;
            }
            Request::Status => Ok(Answer::Status(Box::new(self.status()))),
            Request::Takeover { queue, reason } => self.takeover(&queue, &reason),
            Request::Handback { node } => self.hand_back(node),
            Request::Pause { for_ms, reason } => self.pause(for_ms, &reason).await,
            Request::Resume => self.resume().await,
            Request::Drill(order) => self.order_drill(order),
            Request::StartPrimary => self.start_primary(),
            Request::DrillEnd => {
                self.end_drill();
                Ok(done("no drill hits this node any more".to_owned()))
            }
            Request::Log { order } => {
                self.levels.order(&order).map(done).map_err(|why| Fault::new(Code::Invalid, why))
            }
            Request::Why { node } => self.why(node),
            Request::History { limit } => Ok(Answer::Records(self.records.history(limit))),
        };
        // A caller that went away needs no answer.
        drop(ask.reply.send(answer));
    }

    fn takeover(&mut self, queue: &QueueId, reason: &str) -> Result<Answer, Fault> {
        if self.draining {
            return Err(Fault::refused_unsafe("this node is being stopped"));
        }
        let why = format!("ordered by an operator: {reason}");
        match self.order_takeover(queue, &why) {
            Some(result) => result.map_err(refused)?,
            None => return Err(unknown(queue.home())),
        }
        Ok(done(format!("a secondary for queue {queue} is being started; look at: switchctl ha why {queue}")))
    }

    fn hand_back(&mut self, node: NodeId) -> Result<Answer, Fault> {
        let queue = QueueId::of(node);
        match self.order_handback(&queue) {
            Some(result) => result.map_err(refused)?,
            None => return Err(unknown(queue.home())),
        }
        Ok(done(format!("the secondary of queue {queue} drains, then its home node takes it")))
    }

    async fn pause(&mut self, for_ms: u64, reason: &str) -> Result<Answer, Fault> {
        let span = Duration::from_millis(for_ms);
        if span.is_zero() || span > PAUSE_MAX {
            return Err(Fault::new(Code::Invalid, "a pause lasts from 1 ms to 7 days"));
        }
        let wall = self.clock.wall();
        let until = wall + span;
        self.pause = Some((self.clock.now() + span, until));
        // It holds at once, and is promised only when it will survive a restart.
        if self.records.pause(wall, until, reason).await.unwrap_or(false) {
            Ok(done(format!("no takeover by this node for {} s", span.as_secs())))
        } else {
            Err(Fault::failed("paused, but the record could not be written: it will not survive a restart"))
        }
    }

    async fn resume(&mut self) -> Result<Answer, Fault> {
        if self.pause.take().is_none() {
            return Ok(done("there was no pause".to_owned()));
        }
        let wall = self.clock.wall();
        if self.records.pause(wall, wall, "resumed by an operator").await.unwrap_or(false) {
            Ok(done("takeovers are possible again".to_owned()))
        } else {
            Err(Fault::failed(
                "resumed, but the record could not be written: the pause comes back with a restart",
            ))
        }
    }

    fn start_primary(&self) -> Result<Answer, Fault> {
        if self.draining {
            return Err(Fault::refused_unsafe("this node is being stopped"));
        }
        if self.drills.keeps_down() {
            return Err(Fault::refused_unsafe("a drill hits this node; end it: switchctl ha drill end"));
        }
        match self.own_switch.borrow().standing {
            Standing::Absent => {}
            Standing::Running | Standing::Waiting => return Ok(done("the switch runs already".to_owned())),
            // It may have ended since it was last looked at.
            Standing::Draining | Standing::Silent => {
                return Err(Fault::busy("the switch is ending, or does not answer; ask again"));
            }
        }
        self.children.start(self.plan.own(), Task::Primary);
        Ok(done("the switch is being started".to_owned()))
    }

    fn why(&self, node: NodeId) -> Result<Answer, Fault> {
        let queue = QueueId::of(node);
        if self.queues.contains_key(&queue) {
            Ok(Answer::Records(self.records.about(&queue)))
        } else {
            Err(unknown(queue.home()))
        }
    }

    /// What this node sees.
    pub(crate) fn status(&self) -> HeartbeatdStatus {
        let now = self.clock.now();
        let reports = self.link.as_ref().map(Link::reports).unwrap_or_default();
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let peers = reports.iter().map(|(node, report)| {
            let path = |(address, heard): (&std::net::SocketAddr, &Option<mail_model::Moment>)| PathStatus {
                address: address.to_string(),
                heard_ms_ago: heard.map(|at| millis(now.since(at))),
                up: heard.is_some_and(|at| now.since(at) <= self.plan.timers.suspect),
            };
            let beat = report.beat.clone().unwrap_or_default();
            let hears =
                |heard: &Heard| HearsStatus { node: heard.node.clone(), paths: heard.paths.count_ones() };
            PeerStatus {
                node: node.clone(),
                paths: report.addresses.iter().zip(&report.heard).map(path).collect(),
                hears: beat.heard.iter().map(hears).collect(),
                state: beat.state,
                version: beat.version,
                config_hash: beat.config_hash,
                paused: beat.paused_ms.is_some(),
                smtp: beat.smtp,
                drill: beat.word,
                witness: !self.plan.has_queue(node),
            }
        });
        let queues = self.queues.iter().map(|(queue, watched)| {
            let lease = watched.machine.lease();
            let known = lease.and_then(|l| l.state).is_some();
            let devices = self.devices.as_ref();
            QueueStatus {
                queue: queue.clone(),
                state: watched.machine.state().as_str().to_owned(),
                owner: lease.map(|l| l.owner.clone()),
                epoch: lease.map(|l| l.epoch).unwrap_or_default(),
                lease_state: lease.and_then(|l| l.state),
                lease_age_ms: known.then(|| millis(watched.machine.unchanged_for())),
                seq: lease.map_or(0, |l| l.seq),
                detail: self.detail(queue, watched.machine.state()),
                secondary_pid: self.children.pid(queue).filter(|_| *queue != self.plan.own()),
                device: devices.map(|devices| devices.line(queue)).unwrap_or_default(),
                device_fault: devices.and_then(|devices| devices.machine(queue)?.wrong()),
            }
        });
        HeartbeatdStatus {
            node: self.plan.me.clone(),
            incarnation: self.incarnation,
            peers: peers.collect(),
            queues: queues.collect(),
            protection: self.protection(&self.view().peers),
            unfit: self.unfit(),
            paused_until: self.pause.map(|(_, until)| until),
            config_hash: self.plan.config_hash.clone(),
            smtp: self.plan.smtp,
            drill: self.drills.word(now),
        }
    }

    /// More about a queue, for people.
    fn detail(&self, queue: &QueueId, state: State) -> String {
        match (state.detail(), &self.devices) {
            ("", Some(devices)) => devices.line(queue),
            (detail, _) => detail.to_owned(),
        }
    }

    /// Why this node could take no queue over now; empty if it could.
    pub(crate) fn unfit(&self) -> Vec<String> {
        let view = self.view();
        let launches_fail = self.queues.values().any(|watched| {
            watched.machine.state() == State::Ineligible(cluster::takeover::Ineligible::LaunchFails)
        });
        let reasons = [
            (self.plan.witness, "this node is the witness: it has no queue and takes none over"),
            (view.peers.is_empty(), "stand-alone: there is no other node"),
            (view.draining, "this node is being stopped"),
            (view.paused_until.is_some(), "takeovers by this node are paused"),
            (view.own == OwnLease::Stale, "the lease of the own primary is or was late: the storage stalls"),
            (!view.room, "there is no room for one more queue"),
            (launches_fail, "secondaries were started again and again, and they ended"),
        ];
        let reasons = reasons.into_iter().filter(|(holds, _)| *holds).map(|(_, why)| why.to_owned());
        reasons.chain(self.cannot_read()).collect()
    }
}

fn done(message: String) -> Answer {
    Answer::Done { message }
}

fn unknown(node: &NodeId) -> Fault {
    Fault::not_found(format!("there is no node {node} in cluster.nodes"))
}

fn refused(why: Refused) -> Fault {
    let code = match why {
        Refused::OwnerAlready | Refused::Home | Refused::HomeAbsent | Refused::CopyBehind => {
            Code::RefusedUnsafe
        }
        Refused::NoLease => Code::Failed,
        Refused::NotHeld => Code::NotFound,
        Refused::UnderWay => Code::Busy,
    };
    Fault::new(code, why.to_string())
}
