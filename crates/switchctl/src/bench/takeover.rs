//! How long a takeover takes: a node with a full queue dies, and another delivers out of it.
//!
//! | phase | until |
//! |---|---|
//! | detect | the survivor decides: the lease stood still for the window |
//! | claim | its secondary has the next epoch |
//! | active | the dead owner is fenced, its queue read and sealed |
//! | first delivery | a message of the dead node is at the next hop |
//! | drained | all are, where that is asked for |
//!
//! Each from the death of the node on, seen from outside: in the leases, in the decision records, at the sink. The next hop is
//! away until the node dies, so that its queue stays full.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster::observe::LeaseView;
use daemon_kit::SystemClock;
use mail_model::{Moment, QueueId, WallTime};
use rig::{Behaviour, Rule, Stage};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::fill;
use crate::demo::scene::{Scene, ScenePlan, verdict_of};
use crate::demo::screen::Screen;
use crate::exit::Exit;

/// The node that dies is the second.
const HIT: usize = 1;
/// Longest wait for a takeover.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longest wait until all is delivered.
const DRAIN_PATIENCE: Duration = Duration::from_mins(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Messages in the queue of the node that dies.
    pub(crate) messages: u32,
    /// How often.
    pub(crate) runs: u32,
    /// `cluster.takeover.window` of every node; the other timers follow from it.
    pub(crate) window: Duration,
    /// Wait until the queue is empty.
    pub(crate) drain: bool,
    /// The longest that is well, from the death to the first delivery.
    pub(crate) slo: Option<Duration>,
    /// Where the queues are written.
    pub(crate) dir: PathBuf,
    /// JSON on standard output, and lines for people on standard error.
    pub(crate) json: bool,
}

/// One takeover. Milliseconds from the death on.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Phases {
    /// Messages that were in the queue.
    messages: u64,
    detect: u64,
    claim: u64,
    active: u64,
    first_delivery: u64,
    drained: Option<u64>,
}

/// A figure of a run, if it has it.
type Figure = fn(&Phases) -> Option<u64>;

/// Measures. Ends with 6 if a run misses the objective.
pub(crate) fn run(options: &Options) -> Result<Exit> {
    let screen = Screen::new(Arc::new(SystemClock), options.json);
    let folder = options.dir.join(format!("mailswitch-takeover-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(all(options, &screen, &folder));
    if measured.is_ok() {
        std::fs::remove_dir_all(&folder).ok();
    } else {
        screen.line(&format!("kept: {}", folder.display()));
    }
    publish(options, &screen, &measured?)
}

async fn all(options: &Options, screen: &Screen, folder: &Path) -> Result<Vec<Phases>> {
    let full = folder.join("full");
    std::fs::create_dir_all(&full).with_context(|| format!("make {}", full.display()))?;
    let queue: QueueId = "b".parse()?;
    screen.event(&format!("a queue is filled with {} messages", options.messages));
    fill::fill(&full.join(queue.as_str()), &queue, options.messages).await?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        let dir = folder.join("run");
        fill::copy(&full, &dir.join("spool"))?;
        let phases = once(options, &dir, &queue).await.with_context(|| format!("run {number}"))?;
        screen.event(&format!(
            "run {number}: {} messages; decided after {} ms, claimed {}, active {}, first delivery {}{}",
            phases.messages,
            phases.detect,
            phases.claim,
            phases.active,
            phases.first_delivery,
            phases.drained.map(|ms| format!(", drained {ms}")).unwrap_or_default()
        ));
        runs.push(phases);
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    Ok(runs)
}

/// One death.
async fn once(options: &Options, dir: &Path, queue: &QueueId) -> Result<Phases> {
    let programs = std::env::current_exe().context("find this program's folder")?;
    let plan = ScenePlan {
        dir: dir.to_owned(),
        nodes: 2,
        programs: programs.parent().context("this program lies in a folder")?.to_owned(),
        takeover: format!("window: {}ms", options.window.as_millis()),
    };
    let mut scene = Scene::start(plan).await?;
    scene.sink.behave(Behaviour::with(Rule::at(Stage::Connect).reply(421, "4.3.2 not yet")));
    scene.all_ready().await?;
    let before = scene.leases.of(queue)?;
    let (died, wall) = (scene.clock.now(), scene.clock.wall());
    scene.kill(HIT).await?;
    scene.put_off(false);
    let first = first_delivery(&scene, died).await?;
    let since = |at: Moment| u64::try_from(at.since(died).as_millis()).unwrap_or(u64::MAX);
    let claimed = |lease: &LeaseView| lease.epoch > before.epoch;
    let works = |lease: &LeaseView| claimed(lease) && lease.working;
    // A lease says so with the next renewal, which may be behind the first delivery.
    scene.leases.wait_for(queue, "the survivor works", PATIENCE, works).await?;
    let history = scene.leases.history();
    let seen = |seen: Option<&crate::demo::leases::Seen>| seen.map_or(u64::MAX, |seen| since(seen.at));
    let decided = decision(&scene, queue).await?;
    let mut phases = Phases {
        messages: before.queued,
        detect: u64::try_from(decided.since(wall).as_millis()).unwrap_or(u64::MAX),
        claim: seen(history.first(queue, claimed)),
        active: seen(history.first(queue, works)).min(since(first)),
        first_delivery: since(first),
        drained: None,
    };
    if options.drain {
        let empty = |lease: &LeaseView| works(lease) && lease.queued == 0;
        scene.leases.wait_for(queue, "all is delivered", DRAIN_PATIENCE, empty).await?;
        let last = scene.sink.inspect(|all| all.iter().map(|delivery| delivery.at).max());
        phases.drained = last.map(since);
    }
    Ok(phases)
}

async fn first_delivery(scene: &Scene, died: Moment) -> Result<Moment> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let first = scene.sink.inspect(|all| all.iter().map(|delivery| delivery.at).find(|at| *at >= died));
        if let Some(at) = first {
            return Ok(at);
        }
        sleep(LOOK_EVERY).await;
    }
    bail!("nothing was delivered within {} s", PATIENCE.as_secs())
}

/// When the survivor decided.
async fn decision(scene: &Scene, queue: &QueueId) -> Result<WallTime> {
    let records = scene.decisions(0, queue).await?;
    let take = records.iter().find(|record| verdict_of(record) == Some("take"));
    let at = take.and_then(|record| record.get("at_ms")).and_then(Value::as_u64);
    at.map(WallTime).context("the survivor has no record of its decision")
}

fn publish(options: &Options, screen: &Screen, runs: &[Phases]) -> Result<Exit> {
    let columns: [(&str, Figure); 5] = [
        ("detect", |run| Some(run.detect)),
        ("claim", |run| Some(run.claim)),
        ("active", |run| Some(run.active)),
        ("first_delivery", |run| Some(run.first_delivery)),
        ("drained", |run| run.drained),
    ];
    let mut phases = serde_json::Map::new();
    screen.line(&format!(
        "\n{} takeovers, window {} ms; milliseconds from the death on\n{:<16}{:>8}{:>8}{:>8}",
        runs.len(),
        options.window.as_millis(),
        "phase",
        "median",
        "90 %",
        "worst"
    ));
    for (name, figure) in columns {
        let mut values: Vec<u64> = runs.iter().filter_map(figure).collect();
        if values.is_empty() {
            continue;
        }
        values.sort_unstable();
        let [half, most, worst] = [50, 90, 100].map(|percent| percentile(&values, percent));
        screen.line(&format!("{name:<16}{half:>8}{most:>8}{worst:>8}"));
        phases.insert(name.to_owned(), json!({"median": half, "p90": most, "worst": worst}));
    }
    let limit = options.slo.map(|slo| u64::try_from(slo.as_millis()).unwrap_or(u64::MAX));
    let missed = limit.map_or(0, |limit| runs.iter().filter(|run| run.first_delivery > limit).count());
    if let Some(limit) = limit {
        screen.line(&format!("{missed} of {} missed the objective of {limit} ms", runs.len()));
    }
    if options.json {
        let answer = json!({
            "schema": "mailswitch.bench.takeover/1",
            "window_ms": u64::try_from(options.window.as_millis()).unwrap_or(u64::MAX),
            "slo_ms": limit,
            "missed": missed,
            "takeover_ms": phases,
            "runs": runs,
        });
        crate::command::say(answer).map_err(|failure| anyhow::anyhow!(failure.message))?;
    }
    Ok(if missed == 0 { Exit::Ok } else { Exit::DrillFailed })
}

/// The smallest value that so many of a hundred do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let ten: Vec<u64> = (1..=10).collect();
        assert_eq!([50, 90, 100].map(|percent| percentile(&ten, percent)), [5, 9, 10]);
        assert_eq!(percentile(&[], 50), 0);
    }
}
