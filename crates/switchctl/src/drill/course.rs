//! The course of one drill: look, probe mail, the fault, what must follow, the return, the books.
//!
//! | fault | must follow | must not |
//! |---|---|---|
//! | kill, stop, freeze, storage-hang | the node's queue is taken and drained, within the objective; handed back on its return | a second delivery without a doubt |
//! | isolate | nothing | a new epoch of any queue |
//! | disk-full | the node takes no mail, and takes it again afterwards | a new epoch of any queue |

use std::sync::Arc;
use std::time::Duration;

use cluster::drill::{DrillFault, DrillOrder, DrillStage};
use cluster::observe::LeaseView;
use control::heartbeatd::{Answer, QueueStatus, Request};
use daemon_kit::SystemClock;
use daemon_kit::signals::{Signal, Signals};
use mail_model::{Clock, Epoch, Moment, NodeId, QueueId, Role, WallTime};
use rig::{Balance, Probe};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::guard::{ask, end_fault, second_fault, socket};
use super::options::Options;
use super::plan::Plan;
use super::report::{Events, Found, Phases, Report, When};
use super::stage::{Stage, in_doubt};
use crate::command::{ANSWER_WITHIN, Context, Failure, misfit};
use crate::demo::leases::{History, Leases};
use crate::demo::scene::verdict_of;
use crate::demo::screen::Screen;
use crate::exit::Exit;

/// By then a full disk is known to its node, at any window.
const NOTICED: Duration = Duration::from_millis(1_500);
/// Longest wait for the first probes.
const WARM_UP: Duration = Duration::from_secs(10);
/// Probes at the sink before the fault.
const PROBES_BEFORE: u64 = 10;
/// Longest wait for an answer of the node that is hit.
const WORD_PATIENCE: Duration = Duration::from_secs(5);
/// How much longer than the objective a takeover is waited for: a late one is measured, too.
const BEYOND_SLO: Duration = Duration::from_secs(20);
/// Longest wait for the queue to run empty of probes.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for the node's return, after its fault ended, and for its queue to be back.
const RETURN_PATIENCE: Duration = Duration::from_secs(90);
/// Longest wait for the last probes.
const LAST_PATIENCE: Duration = Duration::from_secs(30);
/// Between two orders to hand the queue back.
const HANDBACK_EVERY: Duration = Duration::from_millis(200);
/// Between two questions to the heartbeatd.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Plays a drill to its end. `None` for a dry run.
pub(crate) async fn play(
    context: &Context,
    options: &Options,
    screen: &Screen,
) -> Result<Option<Report>, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let view = ask(context).await?;
    let leases = Leases::watch(&context.settings.queue.dir, context.queues(), Arc::clone(&clock))?;
    let queues = context.queues();
    settle(&leases, &queues).await;
    let window = context.settings.cluster.timers.window;
    let plan = Plan::check(options, &view, &leases.history(), window).map_err(|why| unsafe_now(&why))?;
    screen.line(&format!(
        "drill: {} of node {} for {} s, objective {} ms, {} probes a second; {}",
        options.fault,
        options.node,
        plan.span.as_secs(),
        options.slo.as_millis(),
        options.rate,
        options.fault.meaning()
    ));
    for warning in &plan.warnings {
        screen.line(&format!("warning: {warning}"));
    }
    if options.dry_run {
        screen.line("nothing speaks against it now; nothing was done");
        return Ok(None);
    }
    let own = view.smtp.or(plan.targets.first().copied()).ok_or_else(misfit)?;
    let id = u64::try_from(daemon_kit::instance_id().0 >> 64).unwrap_or_default() | 1;
    let began = clock.now();
    // Before the first probe: an attempt that runs is no doubt yet.
    let doubts_before = in_doubt(context, None)?;
    let queued_before = leases.of(&plan.queue).map_err(Failure::failed)?.queued;
    let stage = Stage::open(context, options, &plan, (id, leases, Arc::clone(&clock)), own)?;
    let events = Events::new(began);
    let faults = Vec::new();
    let mut drill =
        Drill { context, options, screen, plan, stage, events, faults, id, doubts_before, queued_before };
    drill.warm_up().await?;
    let mut signals = Signals::listen()?;
    let wall = clock.wall();
    let mut story = Story::default();
    tokio::select! {
        done = drill.fault_and_return(&mut story) => if let Err(failure) = done {
            drill.faults.push(failure.message);
        },
        why = second_fault(context, &options.node) => {
            drill.note(format!("aborted: {why}"));
            let ended = end_fault(context, &options.node).await;
            drill.note(ended);
            drill.faults.push(format!("aborted since it was not safe any more: {why}"));
        }
        () = told_to_end(&mut signals) => {
            drill.faults.push("interrupted; the fault ends by itself".to_owned());
        }
    }
    drill.close(story, wall).await.map(Some)
}

/// What happened to the node's queue.
#[derive(Debug, Default)]
struct Story {
    when: When,
    phases: Phases,
    decisions: Vec<Value>,
    taker: Option<NodeId>,
}

struct Drill<'a> {
    context: &'a Context,
    options: &'a Options,
    screen: &'a Screen,
    plan: Plan,
    stage: Stage,
    events: Events,
    faults: Vec<String>,
    id: u64,
    /// Recipients in doubt before it began.
    doubts_before: u64,
    /// What waited in the node's queue before the first probe: held or deferred, it waits on, and is no affair of the drill.
    queued_before: u64,
}

impl Drill<'_> {
    fn note(&mut self, text: String) {
        self.screen.event(&text);
        self.events.add(self.stage.clock.now(), text);
    }

    /// Probe mail goes through, by the node that will be hit too. Nothing was hurt so far, so a failure is only said.
    async fn warm_up(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + WARM_UP;
        while Instant::now() < deadline {
            let through = self.stage.sink.tally().probes;
            let by_node = self.stage.accepted_by(&self.plan.queue, Epoch(u64::MAX));
            if through >= PROBES_BEFORE && (by_node > 0 || self.options.through.is_some()) {
                self.note(format!("probe mail goes through: {through} at the sink"));
                return Ok(());
            }
            sleep(ASK_EVERY).await;
        }
        let tally = self.stage.load.tally();
        Err(Failure::failed(format_args!(
            "nothing was done to any node: within {} s the nodes accepted {} probes and {} came to the sink at {}; can every node reach that address?",
            WARM_UP.as_secs(),
            tally.accepted,
            self.stage.sink.tally().probes,
            self.stage.sink.address()
        )))
    }

    async fn fault_and_return(&mut self, story: &mut Story) -> Result<(), Failure> {
        let queue = self.plan.queue.clone();
        let before = self.stage.leases.of(&queue).map_err(Failure::failed)?;
        let fault_at = self.order().await?;
        let wall = self.stage.clock.wall();
        story.when.fault = Some(fault_at);
        self.note(format!("fault: {} of node {}", self.options.fault, self.options.node));
        if self.options.fault.leads_to_takeover() {
            self.follow(story, &before, fault_at, wall).await?;
        } else if self.options.fault == DrillFault::DiskFull {
            self.watch_full(&queue).await;
        } else {
            sleep(self.plan.span).await;
        }
        let over = self.wait_over(&queue).await?;
        story.when.over = Some(over);
        if self.options.fault == DrillFault::DiskFull {
            self.takes_again(&queue).await?;
        }
        if self.options.fault.leads_to_takeover() {
            self.wait_home(story, &queue, before.epoch, over).await?;
        }
        Ok(())
    }

    /// Lets the node be hit. Answers when it is.
    async fn order(&mut self) -> Result<Moment, Failure> {
        let order = DrillOrder {
            id: self.id,
            node: self.options.node.clone(),
            fault: self.options.fault,
            for_ms: u64::try_from(self.plan.span.as_millis()).unwrap_or(u64::MAX),
        };
        tell(self.context, Request::Drill(order)).await?;
        let deadline = Instant::now() + WORD_PATIENCE;
        loop {
            match self.word().await? {
                Some(DrillStage::Announced { starts_in_ms }) => {
                    let at = self.stage.clock.now() + Duration::from_millis(starts_in_ms);
                    self.note(format!("node {} will be hit in {starts_in_ms} ms", self.options.node));
                    // So that the fault meets a queue that is not empty.
                    self.stage.put_off(true);
                    sleep(at.since(self.stage.clock.now())).await;
                    self.stage.put_off(false);
                    return Ok(at);
                }
                Some(DrillStage::Running) => {
                    self.stage.put_off(false);
                    return Ok(self.stage.clock.now());
                }
                Some(DrillStage::Refused { why }) => {
                    let why = format!("node {} refuses: {why}", self.options.node);
                    return Err(Failure::new(Exit::Unsafe, why));
                }
                Some(DrillStage::Over) | None if Instant::now() >= deadline => {
                    return Err(Failure::failed(format_args!(
                        "node {} did not answer the order within {} s; does it run this version?",
                        self.options.node,
                        WORD_PATIENCE.as_secs()
                    )));
                }
                Some(DrillStage::Over) | None => sleep(ASK_EVERY).await,
            }
        }
    }

    /// What the node says of this drill.
    async fn word(&self) -> Result<Option<DrillStage>, Failure> {
        let view = ask(self.context).await?;
        let peer = view.peers.into_iter().find(|peer| peer.node == self.options.node);
        let word = peer.and_then(|peer| peer.drill).filter(|word| word.id == self.id);
        Ok(word.map(|word| word.stage))
    }

    /// The takeover, to the empty queue.
    async fn follow(
        &mut self,
        story: &mut Story,
        before: &LeaseView,
        fault_at: Moment,
        wall: WallTime,
    ) -> Result<(), Failure> {
        let queue = self.plan.queue.clone();
        let since = |at: Moment| u64::try_from(at.since(fault_at).as_millis()).unwrap_or(u64::MAX);
        let works = |lease: &LeaseView| lease.epoch > before.epoch && lease.working;
        let patience = self.options.slo + BEYOND_SLO;
        let waited = self.stage.leases.wait_for(&queue, "the queue is taken", patience, works).await;
        let taken = waited.map_err(Failure::failed)?;
        let history = self.stage.leases.history();
        let claim = history.first(&queue, |lease| lease.epoch > before.epoch).map(|seen| seen.at);
        let active = history.first(&queue, works).map(|seen| seen.at);
        story.phases.claim = claim.map(since);
        story.phases.active = active.map(since);
        story.taker = Some(taken.owner.clone());
        let who = if taken.owner == self.options.node { "started again by itself" } else { "takes over" };
        self.note(format!(
            "+{} ms: node {} {who}, epoch {}",
            ms(active.map(since)),
            taken.owner,
            taken.epoch
        ));
        let rest = self.queued_before;
        let empty = |lease: &LeaseView| lease.epoch > before.epoch && lease.working && lease.queued <= rest;
        let drained = self.stage.leases.wait_for(&queue, "the queue is drained", DRAIN_PATIENCE, empty).await;
        let times = self.stage.deliveries(&queue, before.epoch, claim.unwrap_or(fault_at));
        story.phases.first_delivery = times.iter().min().copied().map(since);
        story.phases.drained = times.iter().max().copied().map(since);
        story.phases.taken_over = times.len();
        self.note(format!(
            "+{} ms: first delivery of a probe that node {} accepted before; {} of them by +{} ms",
            ms(story.phases.first_delivery),
            self.options.node,
            times.len(),
            ms(story.phases.drained)
        ));
        drained.map_err(Failure::failed)?;
        story.decisions = self.decisions().await;
        let take = story.decisions.iter().find(|record| {
            let at = record.get("at_ms").and_then(Value::as_u64);
            verdict_of(record) == Some("take") && at.is_some_and(|at| WallTime(at) >= wall)
        });
        let at = take.and_then(|record| record.get("at_ms")).and_then(Value::as_u64).map(WallTime);
        story.phases.detect = at.map(|at| u64::try_from(at.since(wall).as_millis()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// A full node accepts nothing, once it knows that it is full.
    async fn watch_full(&mut self, queue: &QueueId) {
        sleep(NOTICED.min(self.plan.span)).await;
        let accepted = || self.stage.accepted_by(queue, Epoch(u64::MAX));
        let before = accepted();
        sleep(self.plan.span.saturating_sub(NOTICED)).await;
        let after = accepted();
        self.note(format!("node {} accepted {} probes while it was full", queue.home(), after - before));
        if after > before {
            self.faults.push(format!(
                "node {} accepted {} probes on a full disk",
                queue.home(),
                after - before
            ));
        }
    }

    /// The node takes mail again by itself.
    async fn takes_again(&mut self, queue: &QueueId) -> Result<(), Failure> {
        let before = self.stage.accepted_by(queue, Epoch(u64::MAX));
        let deadline = Instant::now() + WARM_UP;
        while Instant::now() < deadline {
            if self.stage.accepted_by(queue, Epoch(u64::MAX)) > before || self.options.through.is_some() {
                self.note(format!("node {} takes mail again", queue.home()));
                return Ok(());
            }
            sleep(ASK_EVERY).await;
        }
        let home = queue.home();
        Err(Failure::failed(format_args!("node {home} takes no mail, though its disk is not full any more")))
    }

    /// The node says that the fault is over.
    async fn wait_over(&mut self, queue: &QueueId) -> Result<Moment, Failure> {
        let deadline = Instant::now() + self.plan.span + RETURN_PATIENCE;
        while Instant::now() < deadline {
            if self.word().await? == Some(DrillStage::Over) {
                self.note(format!("node {} is heard again: the fault is over", queue.home()));
                return Ok(self.stage.clock.now());
            }
            sleep(ASK_EVERY).await;
        }
        Err(Failure::failed(format_args!(
            "node {} is not heard, though its fault should be over",
            self.options.node
        )))
    }

    /// The node has its queue back. Where this node holds it, it is handed back as soon as its home waits for it.
    async fn wait_home(
        &mut self,
        story: &mut Story,
        queue: &QueueId,
        before: Epoch,
        over: Moment,
    ) -> Result<(), Failure> {
        let home = |lease: &LeaseView| {
            lease.epoch > before
                && lease.owner == *queue.home()
                && lease.role == Role::Primary
                && lease.working
        };
        let deadline = Instant::now() + RETURN_PATIENCE;
        while Instant::now() < deadline {
            if self.stage.leases.of(queue).is_ok_and(|lease| home(&lease)) {
                let now = self.stage.clock.now();
                story.when.home = Some(now);
                self.note(format!("node {} works on its queue again", queue.home()));
                return Ok(());
            }
            let view = ask(self.context).await?;
            let held = |status: &QueueStatus| status.queue == *queue && status.secondary_pid.is_some();
            // Refused until its home waits for it, and while it is under way.
            let order = Request::Handback { node: queue.home().clone() };
            if view.queues.iter().any(held) && tell(self.context, order).await.is_ok() {
                self.note(format!("queue {queue} is handed back"));
            }
            sleep(HANDBACK_EVERY).await;
        }
        Err(Failure::failed(format_args!(
            "node {} does not have its queue back {} s after its return; see: switchctl ha why {}",
            queue.home(),
            self.stage.clock.now().since(over).as_secs(),
            queue.home()
        )))
    }

    async fn decisions(&self) -> Vec<Value> {
        let why = Request::Why { node: self.options.node.clone() };
        match control::ask(&socket(self.context), why, ANSWER_WITHIN).await {
            Ok(Answer::Records(records)) => records,
            Ok(Answer::Status(_) | Answer::Done { .. }) | Err(_) => Vec::new(),
        }
    }

    /// Ends the traffic and closes the books.
    async fn close(self, mut story: Story, wall: WallTime) -> Result<Report, Failure> {
        if story.decisions.is_empty() {
            story.decisions = self.decisions().await;
        }
        let recent = |record: &Value| record.get("at_ms").and_then(Value::as_u64) >= Some(wall.0);
        story.decisions.retain(recent);
        let Self { context, options, screen, plan, stage, events, mut faults, id, doubts_before, .. } = self;
        let Stage { sink, leases, load, run, balancer, .. } = stage;
        load.stop();
        screen.event("probe traffic ends; the queues run empty");
        let probes: Vec<Probe> = load.finish(LAST_PATIENCE).await;
        balancer.stop().await;
        let accepted = probes.iter().filter(|probe| probe.accepted.is_some()).count() as u64;
        sink.wait_for(|tally| tally.probes >= accepted, LAST_PATIENCE).await;
        faults.extend(needless(&leases.history(), &plan.queue, options));
        let deliveries = sink.deliveries();
        let found = Found {
            id,
            who: context.operator(),
            ordered_by: context.settings.node.id.clone(),
            began_wall: wall,
            when: story.when,
            phases: story.phases,
            taker: story.taker,
            decisions: story.decisions,
            balance: Balance::close(&run, &probes, &deliveries),
            in_doubt: in_doubt(context, Some(sink.address()))?.saturating_sub(doubts_before),
            probes: &probes,
            deliveries: &deliveries,
            events,
            faults,
        };
        Ok(Report::make(options, &plan, found))
    }
}

/// Queues that got a new epoch and should not have.
fn needless(history: &History, hit: &QueueId, options: &Options) -> Vec<String> {
    let mut faults = Vec::new();
    for queue in history.latest.iter().map(|seen| &seen.queue) {
        let epochs = history.epochs(queue);
        if epochs.len() > 1 && !(queue == hit && options.fault.leads_to_takeover()) {
            faults.push(format!("queue {queue} was taken without need: epochs {epochs:?}"));
        }
    }
    faults
}

/// Waits until every lease was read once, so that a plan is not made of nothing.
async fn settle(leases: &Leases, queues: &[QueueId]) {
    let mut history = leases.subscribe();
    let known = |history: &History| queues.iter().all(|queue| history.of(queue).is_some());
    // One that cannot be read is named by the plan.
    timeout(ANSWER_WITHIN, history.wait_for(known)).await.ok();
}

fn unsafe_now(why: &[String]) -> Failure {
    Failure::new(
        Exit::Unsafe,
        format_args!("a drill would be unsafe now, nothing was done: {}", why.join("; ")),
    )
}

async fn tell(context: &Context, request: Request) -> Result<(), Failure> {
    match control::ask(&socket(context), request, ANSWER_WITHIN).await? {
        Answer::Done { .. } => Ok(()),
        Answer::Status(_) | Answer::Records(_) => Err(misfit()),
    }
}

fn ms(time: Option<u64>) -> String {
    time.map_or_else(|| "?".to_owned(), |ms| ms.to_string())
}

async fn told_to_end(signals: &mut Signals) {
    loop {
        match signals.next().await {
            Signal::Terminate | Signal::TerminateNow => return,
            Signal::Reload | Signal::Dump => {}
        }
    }
}
