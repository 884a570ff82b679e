//! The course of one demo: traffic, the fault, what must follow, the end of traffic, the books.
//!
//! | after the fault | must follow | must not |
//! |---|---|---|
//! | kill, freeze | a takeover, a drain, and a hand-back once the node is back | anything by the node that stood still |
//! | isolate, none | nothing | a new epoch of any queue |

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use cluster::observe::LeaseView;
use daemon_kit::SystemClock;
use daemon_kit::exit::FENCED;
use daemon_kit::signals::{Signal, Signals};
use mail_model::{Epoch, Moment, QueueId, Role, WallTime};
use rig::{LoadRun, Probe};
use tokio::time::{Instant, sleep};

use super::books::{Books, is_of};
use super::options::{Fault, Options};
use super::scene::{Scene, ScenePlan, verdict_of};
use super::screen::Screen;
use super::verdict::{Phases, Story, Verdict};

/// The stale window of the demo's cluster: the default.
const WINDOW: Duration = Duration::from_secs(2);
/// How long heartbeats are cut.
const CUT_FOR: Duration = Duration::from_secs(8);
/// Longest wait for a takeover.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(15);
/// Longest wait for a queue to run empty.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for a hand-back: hold, grace, and some.
const HANDBACK_PATIENCE: Duration = Duration::from_secs(45);
/// Longest wait for the last 250.
const TRAFFIC_PATIENCE: Duration = Duration::from_secs(30);
/// Between two questions to a heartbeatd.
const ASK_EVERY: Duration = Duration::from_millis(15);

/// Plays the whole demo, shows it, and says whether it passed.
pub(crate) async fn run(options: Options) -> Result<bool> {
    let screen = Screen::new(Arc::new(SystemClock), options.json);
    let dir = std::env::temp_dir().join(format!("mailswitch-demo-{}", daemon_kit::instance_id()));
    let mut signals = Signals::listen().context("listen for signals")?;
    screen.line(&format!(
        "mailswitch demo: {} nodes on loopback, {} messages a second for {} s, fault {}, seed {}",
        options.nodes, options.rate, options.seconds, options.fault, options.seed
    ));
    screen.line(&format!("folder {}", dir.display()));
    let played = tokio::select! {
        played = Play::whole(options, &dir, &screen) => played,
        () = told_to_end(&mut signals) => Err(anyhow!("interrupted")),
    };
    let verdict = played.unwrap_or_else(|error| Verdict::broken_off(options, format!("{error:#}")));
    let report = dir.join("report.json");
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    fs::write(&report, verdict.report()?).with_context(|| format!("write {}", report.display()))?;
    for line in verdict.summary() {
        screen.line(&line);
    }
    if verdict.passed() && !options.keep {
        remove_all_but(&report)?;
    } else {
        screen.line(&format!(
            "kept: {} with queues, configurations and the logs of all programs",
            dir.display()
        ));
    }
    screen.line(&format!("report: {}", report.display()));
    if options.json {
        use std::io::Write as _;
        writeln!(std::io::stdout().lock(), "{}", verdict.line(&report)?).context("write the verdict")?;
    }
    Ok(verdict.passed())
}

async fn told_to_end(signals: &mut Signals) {
    loop {
        match signals.next().await {
            Signal::Terminate | Signal::TerminateNow => return,
            Signal::Reload | Signal::Dump => {}
        }
    }
}

fn remove_all_but(report: &Path) -> Result<()> {
    let dir = report.parent().context("the report lies in a folder")?;
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        let removed = if path == report {
            Ok(())
        } else if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

/// A demo that is being played.
struct Play<'a> {
    options: Options,
    screen: &'a Screen,
    scene: Scene,
    /// The node that the fault hits, and its queue.
    target: usize,
    queue: QueueId,
    /// Messages of the first run of traffic.
    load: LoadRun,
}

impl<'a> Play<'a> {
    async fn whole(options: Options, dir: &Path, screen: &'a Screen) -> Result<Verdict> {
        let scene = ScenePlan {
            dir: dir.to_owned(),
            nodes: options.nodes,
            programs: programs()?,
            takeover: format!("window: {}ms", WINDOW.as_millis()),
        };
        let mut scene = Scene::start(scene).await?;
        screen.event("all nodes are started, each a switch and a heartbeatd");
        scene.all_ready().await?;
        screen.event("all nodes are ready; traffic begins, through a balancer to all of them");
        // The last messages wait for the hand-back, to show that the node serves again.
        let traffic = Duration::from_secs(u64::from(options.seconds));
        let total = u64::from(options.rate) * u64::from(options.seconds);
        let late = if options.fault.leads_to_takeover() { (total / 20).max(1) } else { 0 };
        let load =
            scene.load("demo", options.rate, total - late, options.seed).start(Arc::clone(&scene.clock));
        let target = options.nodes.saturating_sub(1);
        let progress = screen.progress(load.watch(), scene.sink.watch(), scene.leases.subscribe());
        let queue = scene.queue(target)?;
        let mut play = Self { options, screen, scene, target, queue, load };
        let mut story = match options.fault {
            Fault::Kill | Fault::Freeze => play.takeover().await?,
            Fault::Isolate => play.isolate().await?,
            Fault::DiskFull => play.fill_disk().await?,
            Fault::None => Story::default(),
        };
        let Self { mut scene, load, .. } = play;
        let probes = finish(load, traffic).await?;
        drop(progress);
        let mut runs = vec![("demo", probes)];
        if late > 0 {
            screen.event(&format!("the last {late} messages are sent, to all nodes again"));
            let load = scene.load("late", options.rate, late, options.seed).start(Arc::clone(&scene.clock));
            runs.push(("late", finish(load, traffic).await?));
        }
        screen.event("traffic has ended; the queues run empty");
        let promised =
            runs.iter().flat_map(|(_, probes)| probes).filter(|probe| probe.accepted.is_some()).count();
        scene.run_empty(promised as u64, DRAIN_PATIENCE).await?;
        screen.event("all queues are empty; the nodes are stopped");
        scene.stop().await?;
        story.judge_epochs(&scene.leases.history(), options.fault);
        story.errors = scene.site.errors()?;
        if options.fault == Fault::Freeze {
            let accepted = runs.iter().flat_map(|(_, probes)| probes);
            story.judge_zombie(accepted, &scene.sink.deliveries());
        }
        let queues: Vec<QueueId> =
            (0..options.nodes).map(|index| scene.queue(index)).collect::<Result<_>>()?;
        let books = Books::close(&runs, &scene.sink, &scene.site.spool(), &queues)?;
        Ok(Verdict { options, story, books, broken_off: None })
    }

    /// Fills the queue, then the fault, then watches what follows until the node has its queue back.
    async fn takeover(&mut self) -> Result<Story> {
        let waiting_for = Duration::from_secs(u64::from(self.options.seconds)).mul_f64(0.125);
        let third = Duration::from_secs(u64::from(self.options.seconds)) / 3;
        sleep(third.saturating_sub(waiting_for)).await;
        self.screen.event(&format!(
            "the far end puts everything off for {} ms (451), so that the fault meets a queue that is not empty",
            waiting_for.as_millis()
        ));
        self.scene.put_off(true);
        sleep(waiting_for).await;
        self.scene.put_off(false);
        // The fault comes while mail flows again, at another point with every seed.
        sleep(Duration::from_millis(50 + self.options.seed.wrapping_mul(37) % 250)).await;

        let before = self.scene.leases.of(&self.queue)?;
        let wall = self.scene.clock.wall();
        let fault_at = self.fault(&before).await?;
        let mut phases = self.follow_takeover(fault_at, wall, &before).await?;
        let after = self.scene.leases.of(&self.queue)?;
        let taken_over = self.wait_drained(&before, fault_at, &mut phases).await?;

        let returned = self.scene.clock.now();
        let mut story = Story {
            phases: Some(phases),
            taken_over,
            last_epoch: Some((self.queue.clone(), before.epoch)),
            ..Story::default()
        };
        self.come_back(&mut story, returned).await?;
        story.handback_ms = Some(self.wait_handback(returned, &after).await?);
        story.decisions = self.decisions().await?;
        Ok(story)
    }

    async fn fault(&mut self, before: &LeaseView) -> Result<Moment> {
        let id = self.scene.site.node(self.target)?.id.clone();
        let at = self.scene.clock.now();
        let what = if self.options.fault == Fault::Freeze {
            self.scene.freeze(self.target)?;
            "SIGSTOP: all its processes stand still"
        } else {
            self.scene.kill(self.target).await?;
            "SIGKILL: all its processes are dead"
        };
        self.screen.event(&format!("node {id}: {what}; about {} messages wait in its queue", before.queued));
        Ok(at)
    }

    /// Watches decision, claim and begin of work, each as it is first seen.
    async fn follow_takeover(&self, fault_at: Moment, wall: WallTime, before: &LeaseView) -> Result<Phases> {
        let since = |at: Moment| millis(at.since(fault_at));
        let say = |ms: u64, text: String| self.screen.event(&format!("+{ms} ms  {text}"));
        let (decided, by) = self.first_decision().await?;
        let detect = decided.map_or_else(|| since(self.scene.clock.now()), |at| millis(at.since(wall)));
        say(detect, format!("detected: the heartbeatd of node {by} decides to take queue {}", self.queue));

        let leases = &self.scene.leases;
        let claimed = |lease: &LeaseView| lease.epoch > before.epoch;
        leases.wait_for(&self.queue, "a new epoch is claimed", TAKEOVER_PATIENCE, claimed).await?;
        let history = leases.history();
        let claimed = history.first(&self.queue, claimed).context("a reading does not vanish")?;
        let claim = since(claimed.at);
        say(claim, format!("claimed: epoch {} by node {}", claimed.lease.epoch, claimed.lease.owner));
        let active = since(self.first_work(before, claimed.at).await?);
        say(active, "active: older epochs fenced, read and sealed; the secondary works".to_owned());
        Ok(Phases { detect, claim, active, first_delivery: None, drained: active })
    }

    /// When the secondary was first seen at work: its lease says so, or a delivery shows it. The lease may lag a renewal behind.
    async fn first_work(&self, before: &LeaseView, claimed: Moment) -> Result<Moment> {
        let deadline = Instant::now() + TAKEOVER_PATIENCE;
        let works =
            |lease: &LeaseView| lease.epoch > before.epoch && lease.working && lease.role == Role::Secondary;
        while Instant::now() < deadline {
            let said = self.scene.leases.history().first(&self.queue, works).map(|seen| seen.at);
            let shown = self.deliveries_since(claimed, before.epoch).into_iter().min();
            if let Some(at) = said.into_iter().chain(shown).min() {
                return Ok(at);
            }
            sleep(ASK_EVERY).await;
        }
        bail!("no secondary works on queue {} within {} s", self.queue, TAKEOVER_PATIENCE.as_secs())
    }

    /// When messages of the failed owner came to the sink, from `claimed` on.
    fn deliveries_since(&self, claimed: Moment, last: Epoch) -> Vec<Moment> {
        self.scene.sink.inspect(|deliveries| {
            let late = deliveries.iter().filter(|delivery| delivery.at >= claimed);
            late.filter(|delivery| is_of(delivery.id.as_deref(), &self.queue, last))
                .map(|delivery| delivery.at)
                .collect()
        })
    }

    /// The first decision to take the queue, by any node that lives: when, by its record, and by whom.
    async fn first_decision(&self) -> Result<(Option<WallTime>, String)> {
        let deadline = Instant::now() + TAKEOVER_PATIENCE;
        let others: Vec<usize> =
            self.scene.survivors().into_iter().filter(|index| *index != self.target).collect();
        while Instant::now() < deadline {
            for index in &others {
                let records = self.scene.decisions(*index, &self.queue).await?;
                if let Some(take) = records.iter().find(|record| verdict_of(record) == Some("take")) {
                    let at = take.get("at_ms").and_then(serde_json::Value::as_u64).map(WallTime);
                    return Ok((at, self.scene.site.node(*index)?.id.to_string()));
                }
            }
            sleep(ASK_EVERY).await;
        }
        bail!("no heartbeatd decided to take queue {} within {} s", self.queue, TAKEOVER_PATIENCE.as_secs())
    }

    /// Waits until nothing that the dead owner accepted is left, and says how much of it the secondary delivered.
    async fn wait_drained(&self, before: &LeaseView, fault_at: Moment, phases: &mut Phases) -> Result<usize> {
        let empty = |lease: &LeaseView| lease.epoch > before.epoch && lease.working && lease.queued == 0;
        self.scene.leases.wait_for(&self.queue, "the queue is drained", DRAIN_PATIENCE, empty).await?;
        let claimed_at = fault_at + Duration::from_millis(phases.claim);
        let times = self.deliveries_since(claimed_at, before.epoch);
        let since = |at: Moment| millis(at.since(fault_at));
        phases.first_delivery = times.iter().min().copied().map(since);
        phases.drained = times.iter().max().copied().map_or(phases.active, since);
        if let Some(ms) = phases.first_delivery {
            self.screen
                .event(&format!("+{ms} ms  first delivery of a message that node accepted before it failed"));
        }
        self.screen.event(&format!(
            "+{} ms  drained: {} of its messages delivered",
            phases.drained,
            times.len()
        ));
        Ok(times.len())
    }

    /// The node comes back: started again, or thawed, whereupon its switch must find itself fenced and end.
    async fn come_back(&mut self, story: &mut Story, returned: Moment) -> Result<()> {
        let id = self.scene.site.node(self.target)?.id.clone();
        if self.options.fault == Fault::Freeze {
            story.thawed_at = Some(returned);
            self.scene.thaw(self.target)?;
            self.screen.event(&format!("node {id}: SIGCONT; it does not know yet what happened"));
            let code = self.scene.restart_switch(self.target).await?;
            self.screen.event(&format!(
                "node {id}: its switch found itself fenced and ended, exit code {}; started again",
                code.map_or_else(|| "none".to_owned(), |code| code.to_string())
            ));
            if code != Some(i32::from(FENCED)) {
                story
                    .faults
                    .push(format!("the switch that stood still ended with {code:?}, not with {FENCED}"));
            }
        } else {
            self.scene.start_node(self.target).await?;
            self.screen.event(&format!("node {id}: started again; it waits until its queue is handed back"));
        }
        Ok(())
    }

    /// Waits until the home node works on its queue again; answers how long that took.
    async fn wait_handback(&self, returned: Moment, after: &LeaseView) -> Result<u64> {
        let home =
            |lease: &LeaseView| lease.epoch > after.epoch && lease.working && lease.role == Role::Primary;
        let what = "the home node has its queue back";
        let lease = self.scene.leases.wait_for(&self.queue, what, HANDBACK_PATIENCE, home).await?;
        let history = self.scene.leases.history();
        let at = history.first(&self.queue, home).map_or(returned, |seen| seen.at);
        let ms = millis(at.since(returned));
        self.screen.event(&format!(
            "+{ms} ms after its return  handed back: node {} works on its queue, epoch {}",
            lease.owner, lease.epoch
        ));
        let believed = |healthy: &[bool]| healthy.get(self.target).copied().unwrap_or(false);
        if !self.scene.balancer.wait_for(believed, TAKEOVER_PATIENCE).await {
            bail!("the balancer does not find the returned node ready");
        }
        Ok(ms)
    }

    /// Cuts the last node's heartbeats for several windows. Its lease stays fresh, so nobody may take anything.
    async fn isolate(&mut self) -> Result<Story> {
        sleep(Duration::from_secs(u64::from(self.options.seconds)) / 4).await;
        let id = self.scene.site.node(self.target)?.id.clone();
        self.screen.event(&format!(
            "node {id}: heartbeats cut for {} s, storage untouched; nobody may take its queue",
            CUT_FOR.as_secs()
        ));
        self.scene.links.set_cut(self.target, true);
        sleep(CUT_FOR).await;
        let decisions = self.decisions().await?;
        self.scene.links.set_cut(self.target, false);
        for decision in decisions.iter().filter(|decision| verdict_of(decision) == Some("alarm")) {
            let word = |key: &str| decision.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
            self.screen.event(&format!("alarm of node {}: {}", word("node"), word("text")));
        }
        self.screen.event(&format!("node {id}: heartbeats again"));
        Ok(Story { decisions, ..Story::default() })
    }

    /// No space is left for the last node's switch. It says so to the balancer, refuses mail, and comes back by itself.
    async fn fill_disk(&mut self) -> Result<Story> {
        sleep(Duration::from_secs(u64::from(self.options.seconds)) / 4).await;
        let id = self.scene.site.node(self.target)?.id.clone();
        self.scene.fill_disk(self.target, CUT_FOR).await?;
        self.screen
            .event(&format!("node {id}: no space is left for its switch, for {} s", CUT_FOR.as_secs()));
        let believed = |healthy: &[bool]| healthy.get(self.target).copied().unwrap_or(false);
        if !self.scene.balancer.wait_for(|healthy| !believed(healthy), CUT_FOR).await {
            bail!("the balancer finds node {id} ready, though its disk is full");
        }
        self.screen
            .event(&format!("node {id}: not ready; the balancer leaves it out, its queue stays its own"));
        if !self.scene.balancer.wait_for(believed, CUT_FOR + TAKEOVER_PATIENCE).await {
            bail!("the balancer does not find node {id} ready, though there is space again");
        }
        self.screen.event(&format!("node {id}: there is space again, and it takes mail by itself"));
        Ok(Story { decisions: self.decisions().await?, ..Story::default() })
    }

    /// What every node decided about the queue, for the report.
    async fn decisions(&self) -> Result<Vec<serde_json::Value>> {
        let mut all = Vec::new();
        for index in self.scene.survivors() {
            all.extend(self.scene.decisions(index, &self.queue).await?);
        }
        Ok(all)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program's folder")?;
    Ok(own.parent().context("this program lies in a folder")?.to_owned())
}

/// Waits for the last 250.
async fn finish(load: LoadRun, traffic: Duration) -> Result<Vec<Probe>> {
    let probes = load.finish(traffic + TRAFFIC_PATIENCE).await;
    let open = probes.iter().filter(|probe| probe.accepted.is_none() && probe.refused.is_none()).count();
    if open > 0 {
        bail!("{open} messages had no answer {} s after the end of traffic", TRAFFIC_PATIENCE.as_secs());
    }
    Ok(probes)
}
