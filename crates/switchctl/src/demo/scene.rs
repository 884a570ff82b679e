//! A running site with everything around it: the nodes, the sink that all mail goes to, the balancer in front, the
//! links between the nodes, and the eye on the leases. A demo and the tests of takeover play on the same one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cluster::observe::LeaseView;
use control::heartbeatd::{Answer, PeerStatus, Request};
use control::switch;
use daemon_kit::SystemClock;
use mail_model::{Clock, NodeId, QueueId, Role};
use nix::sys::signal::Signal;
use rig::{
    Backend, Balancer, BalancerOptions, Behaviour, Health, Load, Rate, Rule, Sink, SinkOptions, Stage,
};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::leases::Leases;
use super::links::Links;
use super::site::{NodePlan, NodeProcesses, Site, SitePlan};

/// How long the far end takes to answer the final dot, so that some attempts are open at any moment.
const FINAL_REPLY_AFTER: Duration = Duration::from_millis(5);
/// How long a program may take to start or to end.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(20);
/// How long a heartbeatd may take to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at something that tells no one of its changes.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a scene is made of.
#[derive(Debug, Clone)]
pub struct ScenePlan {
    /// Everything is written below this folder.
    pub dir: PathBuf,
    /// 1 to 26 nodes.
    pub nodes: usize,
    /// Folder of the three programs.
    pub programs: PathBuf,
    /// What stands under `cluster.takeover`.
    pub takeover: String,
}

/// A running scene. Its processes are killed when it is dropped.
#[derive(Debug)]
pub struct Scene {
    /// Configurations and addresses.
    pub site: Site,
    /// The far end.
    pub sink: Sink,
    /// What clients talk to.
    pub balancer: Balancer,
    /// The heartbeat links.
    pub links: Links,
    /// Who owns what.
    pub leases: Leases,
    /// Time of all records.
    pub clock: Arc<dyn Clock>,
    running: Vec<Option<NodeProcesses>>,
    /// Nodes whose switch was killed alone: their heartbeatd runs it now.
    crashed: BTreeSet<usize>,
}

impl Scene {
    /// Lays out the site and starts everything. Within a tokio runtime. The nodes are not ready yet.
    pub async fn start(plan: ScenePlan) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let sink = SinkOptions { behaviour: taking(), ..SinkOptions::new(Arc::clone(&clock)) };
        let sink = Sink::start(sink).context("start the sink")?;
        let links = Links::default();
        let site = SitePlan {
            dir: plan.dir,
            nodes: plan.nodes,
            sink: sink.address(),
            programs: plan.programs,
            takeover: plan.takeover,
        };
        let site = Site::lay_out(site, |from, to, address| links.relay(from, to, address))?;
        let backends =
            site.nodes.iter().map(|node| Backend { address: node.smtp, health: Health::Ready(node.health) });
        let balancer = BalancerOptions::new(backends.collect());
        let queues = site.nodes.iter().map(NodePlan::queue).collect();
        let leases = Leases::watch(&site.spool(), queues, Arc::clone(&clock)).context("watch the leases")?;
        let mut scene = Self {
            running: site.nodes.iter().map(|_| None).collect(),
            crashed: BTreeSet::new(),
            balancer: Balancer::start(balancer).context("start the balancer")?,
            sink,
            links,
            leases,
            clock,
            site,
        };
        for index in 0..scene.site.nodes.len() {
            scene.start_node(index).await?;
        }
        Ok(scene)
    }

    /// The queue whose home is node `index`.
    pub fn queue(&self, index: usize) -> Result<QueueId> {
        Ok(self.site.node(index)?.queue())
    }

    /// The position of a node.
    pub fn index_of(&self, node: &NodeId) -> Result<usize> {
        let place = self.site.nodes.iter().position(|plan| plan.id == *node);
        place.with_context(|| format!("there is no node {node}"))
    }

    /// Waits until every node is at home, works, is believed by the balancer, and hears all others.
    pub async fn all_ready(&mut self) -> Result<()> {
        let ready = async {
            loop {
                let history = self.leases.history();
                let at_home = |node: &NodePlan| {
                    let lease = history.of(&node.queue());
                    lease.is_some_and(|lease| lease.working && lease.role == Role::Primary)
                };
                if self.site.nodes.iter().all(at_home)
                    && self.balancer.healthy().iter().all(|healthy| *healthy)
                    && self.all_hear_each_other().await
                {
                    return Ok(());
                }
                for (plan, node) in self.site.nodes.iter().zip(&mut self.running) {
                    let Some(node) = node else { continue };
                    for program in [&mut node.switch, &mut node.heartbeatd] {
                        if let Some(status) = program.ended()? {
                            bail!(
                                "a program of node {} ended, {status}; see {}",
                                plan.id,
                                program.log.display()
                            );
                        }
                    }
                }
                sleep(LOOK_EVERY).await;
            }
        };
        match timeout(PROGRAM_PATIENCE, ready).await {
            Ok(ready) => ready,
            Err(_) => bail!(
                "not all nodes are ready after {} s; the logs in {} say more",
                PROGRAM_PATIENCE.as_secs(),
                self.site.spool().parent().unwrap_or(&self.site.spool()).display()
            ),
        }
    }

    async fn all_hear_each_other(&self) -> bool {
        for node in &self.site.nodes {
            let socket = control::paths::heartbeatd(&node.state_dir);
            // Silence is no answer yet: the program may be starting.
            let Ok(Answer::Status(status)) = control::ask(&socket, Request::Status, ANSWER_PATIENCE).await
            else {
                return false;
            };
            if !status.peers.iter().all(PeerStatus::is_heard) {
                return false;
            }
        }
        true
    }

    /// Starts both programs of a node that does not run.
    pub async fn start_node(&mut self, index: usize) -> Result<()> {
        let node = self.site.start(index).await?;
        self.crashed.remove(&index);
        *self.slot(index)? = Some(node);
        Ok(())
    }

    /// The processes of a node that runs.
    pub fn node(&mut self, index: usize) -> Result<&mut NodeProcesses> {
        self.slot(index)?.as_mut().with_context(|| format!("node number {index} does not run"))
    }

    /// SIGKILL to every process of a node at once.
    pub async fn kill(&mut self, index: usize) -> Result<()> {
        self.slot(index)?.take().with_context(|| format!("node number {index} does not run"))?.kill().await
    }

    /// Lets the disk of a node's switch be full for `span`.
    pub async fn fill_disk(&self, index: usize, span: Duration) -> Result<()> {
        let node = self.site.node(index)?;
        let socket = control::paths::switch(&node.state_dir, &node.queue());
        let for_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let order = switch::Request::Trouble { trouble: switch::Trouble::DiskFull, for_ms };
        control::ask(&socket, order, ANSWER_PATIENCE)
            .await
            .context("tell the switch that its disk is full")?;
        Ok(())
    }

    /// SIGSTOP to every process of a node.
    pub fn freeze(&mut self, index: usize) -> Result<()> {
        self.node(index)?.signal(Signal::SIGSTOP)
    }

    /// SIGCONT to every process of a node.
    pub fn thaw(&mut self, index: usize) -> Result<()> {
        self.node(index)?.signal(Signal::SIGCONT)
    }

    /// Waits for the end of a node's switch by itself, and starts it again as a service manager would. Answers its exit
    /// code.
    pub async fn restart_switch(&mut self, index: usize) -> Result<Option<i32>> {
        let switch = &mut self.node(index)?.switch;
        let log = switch.log.display().to_string();
        let Ok(status) = timeout(PROGRAM_PATIENCE, switch.end()).await else {
            bail!("the switch of node number {index} did not end by itself; see {log}");
        };
        let status = status?;
        let again = self.site.start_program(index, "switch").await?;
        self.node(index)?.switch = again;
        Ok(status.code())
    }

    /// SIGKILL to a node's switch alone. Its heartbeatd is left to start it again.
    pub async fn crash_switch(&mut self, index: usize) -> Result<()> {
        let switch = &mut self.node(index)?.switch;
        switch.signal(Signal::SIGKILL)?;
        switch.end().await?;
        self.crashed.insert(index);
        Ok(())
    }

    /// A node's switch was started again by its heartbeatd, and ends with it.
    pub fn left_to_heartbeatd(&mut self, index: usize) {
        self.crashed.insert(index);
    }

    /// SIGTERM to both programs of a node, heartbeatd first, and waits for their ends. Answers the exit codes.
    pub async fn stop_node(&mut self, index: usize) -> Result<[Option<i32>; 2]> {
        let Some(mut node) = self.slot(index)?.take() else { return Ok([Some(0); 2]) };
        let id = self.site.node(index)?.id.clone();
        let mut codes = [None; 2];
        // A switch that crashed was started again by heartbeatd, and ends with it.
        let programs = if self.crashed.remove(&index) { 1 } else { 2 };
        codes.iter_mut().skip(programs).for_each(|code| *code = Some(0));
        for (code, program) in codes.iter_mut().zip([&mut node.heartbeatd, &mut node.switch]).take(programs) {
            program.terminate()?;
            match timeout(PROGRAM_PATIENCE, program.end()).await {
                Ok(status) => *code = status?.code(),
                Err(_) => bail!(
                    "a program of node {id} did not end {} s after SIGTERM; see {}",
                    PROGRAM_PATIENCE.as_secs(),
                    program.log.display()
                ),
            }
        }
        Ok(codes)
    }

    /// Stops every node that runs.
    pub async fn stop(&mut self) -> Result<()> {
        for index in 0..self.running.len() {
            let codes = self.stop_node(index).await?;
            if codes != [Some(0); 2] {
                bail!("node number {index} was asked to end and ended with {codes:?} (heartbeatd, switch)");
            }
        }
        Ok(())
    }

    /// A load on the balancer that stops after `total` messages.
    #[must_use]
    pub fn load(&self, run: &str, rate: u32, total: u64, seed: u64) -> Load {
        Load {
            rate: Rate::PerSecond(rate),
            sessions: usize::try_from(total.min(u64::from(rate / 20).clamp(10, 200))).unwrap_or(1),
            total: Some(total),
            seed,
            ..Load::new(self.balancer.address(), run)
        }
    }

    /// The far end puts every recipient off for a while, or takes them as ever.
    pub fn put_off(&self, put_off: bool) {
        let mut behaviour = taking();
        if put_off {
            behaviour.rules.push(Rule::at(Stage::Recipient).reply(451, "4.7.1 not now, try again"));
        }
        self.sink.behave(behaviour);
    }

    /// What a node's heartbeatd decided about a queue, oldest first. Nothing if it cannot be asked now.
    pub async fn decisions(&self, index: usize, queue: &QueueId) -> Result<Vec<Value>> {
        let socket = control::paths::heartbeatd(&self.site.node(index)?.state_dir);
        let why = Request::Why { node: queue.home().clone() };
        match control::ask(&socket, why, ANSWER_PATIENCE).await {
            Ok(Answer::Records(records)) => Ok(records),
            Ok(Answer::Status(_) | Answer::Done { .. }) | Err(_) => Ok(Vec::new()),
        }
    }

    /// Waits for a decision of a node about a queue, with this verdict and by this rule.
    pub async fn wait_for_decision(
        &self,
        index: usize,
        queue: &QueueId,
        (verdict, rule): (&str, &str),
        patience: Duration,
    ) -> Result<Value> {
        let wanted = |record: &Value| {
            verdict_of(record) == Some(verdict) && record.get("rule").and_then(Value::as_str) == Some(rule)
        };
        let asking = async {
            loop {
                if let Some(record) = self.decisions(index, queue).await?.into_iter().find(wanted) {
                    return Ok(record);
                }
                sleep(LOOK_EVERY).await;
            }
        };
        match timeout(patience, asking).await {
            Ok(record) => record,
            Err(_) => bail!(
                "node number {index} did not decide '{verdict}' by '{rule}' about queue {queue} within {} s; it decided {:?}",
                patience.as_secs(),
                self.decisions(index, queue).await?
            ),
        }
    }

    /// Waits until `accepted` different messages are at the sink and every lease says that its queue is empty. What does
    /// not come in time is left to the books, which name it.
    pub async fn run_empty(&self, accepted: u64, patience: Duration) -> Result<()> {
        if self.sink.wait_for(|tally| tally.probes >= accepted, patience).await {
            for node in &self.site.nodes {
                let empty = |lease: &LeaseView| lease.queued == 0;
                self.leases.wait_for(&node.queue(), "the queue runs empty", patience, empty).await?;
            }
        }
        Ok(())
    }

    /// The positions of the nodes that run.
    #[must_use]
    pub fn survivors(&self) -> Vec<usize> {
        (0..self.running.len())
            .filter(|index| self.running.get(*index).is_some_and(Option::is_some))
            .collect()
    }

    fn slot(&mut self, index: usize) -> Result<&mut Option<NodeProcesses>> {
        self.running.get_mut(index).with_context(|| format!("there is no node number {index}"))
    }
}

fn taking() -> Behaviour {
    Behaviour::with(Rule::at(Stage::FinalDot).after(FINAL_REPLY_AFTER))
}

/// What a record of a decision says was decided: `take`, `not_taken`, …
#[must_use]
pub fn verdict_of(record: &Value) -> Option<&str> {
    record.get("decision").and_then(Value::as_str)
}
