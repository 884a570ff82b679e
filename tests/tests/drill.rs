//! `switchctl ha drill` on a live cluster of real processes: every fault, its report, and what is refused.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cluster::drill::DrillFault;
use serde_json::Value;
use switchctl::demo::scene::{Scene, ScenePlan};
use tempfile::TempDir;

/// Longest wait for anything.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Two nodes that are ready, in a folder of their own.
struct Live {
    scene: Scene,
    programs: std::path::PathBuf,
    _dir: TempDir,
}

/// How a run of switchctl ended.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Live {
    async fn open() -> Result<Self> {
        Self::of(2).await
    }

    async fn of(nodes: usize) -> Result<Self> {
        let dir = TempDir::with_prefix("mailswitch-drill-")?;
        let programs = tests::programs::build()?;
        let plan = ScenePlan {
            dir: dir.path().to_owned(),
            nodes,
            programs: programs.clone(),
            takeover: "window: 1s".to_owned(),
        };
        let mut scene = Scene::start(plan).await?;
        scene.all_ready().await?;
        Ok(Self { scene, programs, _dir: dir })
    }

    /// Runs switchctl as on the first node.
    fn switchctl(&self, arguments: &[&str]) -> Result<Run> {
        let mut command = Command::new(self.programs.join("switchctl"));
        let done = command.arg("--config").arg(&self.scene.site.node(0)?.config).args(arguments).output()?;
        Ok(Run {
            code: done.status.code(),
            out: String::from_utf8_lossy(&done.stdout).into_owned(),
            err: String::from_utf8_lossy(&done.stderr).into_owned(),
        })
    }

    /// Drills the second node, and answers the report.
    fn drill(&self, fault: DrillFault, more: &[&str]) -> Result<(Run, Value)> {
        let arguments = ["ha", "drill", "run", fault.as_str(), "--node", "b", "-o", "json"];
        self.report(&[&arguments, more].concat())
    }

    /// Drills the second node as the package's timer does.
    fn timed(&self) -> Result<(Run, Value)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let unit = std::fs::read_to_string(root.join("ha-scripts/systemd/mailswitch-drill@.service"))?;
        let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).context("a line of it");
        let mut command = line("ExecStart=")?.replace("%i", "b");
        for variable in line("Environment=")?.split(' ') {
            let (name, value) = variable.split_once('=').context("NAME=value")?;
            command = command.replace(&format!("${{{name}}}"), value);
        }
        let arguments = command.strip_prefix("/usr/bin/switchctl ").context("it runs switchctl")?;
        self.report(&arguments.split(' ').collect::<Vec<_>>())
    }

    fn report(&self, arguments: &[&str]) -> Result<(Run, Value)> {
        let run = self.switchctl(arguments)?;
        let line = run.out.lines().last().with_context(|| format!("no report; it said: {}", run.err))?;
        let report = serde_json::from_str(line)?;
        Ok((run, report))
    }
}

/// What every takeover by a drill must show.
fn taken_over(run: &Run, report: &Value) -> Result<()> {
    ensure!(run.code == Some(0) && report["verdict"] == "pass", "{report}\n{}", run.err);
    ensure!(report["lost"] == 0 && report["accepted"].as_u64() > Some(100), "{report}");
    ensure!(report["accepted"] == report["delivered"], "{report}");
    ensure!(report["taker"] == "a", "{report}");
    ensure!(report.pointer("/takeover_ms/taken_over").and_then(Value::as_u64) > Some(0), "{report}");
    ensure!(report["handback_ms"].is_u64(), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_taken_over_within_the_objective_and_the_drill_is_on_record() -> Result<()> {
    let live = Live::open().await?;
    let (run, report) = live.timed()?;
    ensure!(report["fault"] == DrillFault::Kill.as_str(), "{report}");
    taken_over(&run, &report)?;
    let id = report["id"].as_str().context("an id")?;
    let list = live.switchctl(&["ha", "drill", "list", "-o", "json"])?;
    let list: Value = serde_json::from_str(&list.out)?;
    let first = list.pointer("/items/0").context("an item")?;
    ensure!(first["id"] == id && first["verdict"] == "pass", "{list}");
    let told = live.switchctl(&["ha", "drill", "report", id])?;
    ensure!(told.out.starts_with(&format!("# Drill {id}: pass")), "{}", told.out);
    let page = live.scene.site.node(0)?.state_dir.join("drills").join(format!("{id}.html"));
    let page = std::fs::read_to_string(page)?;
    ensure!(page.contains("<svg") && !page.contains("http"), "the page needs nothing else");
    ensure!(live.switchctl(&["ha", "drill", "report", "none"])?.code == Some(7), "no such report");
    let status = live.switchctl(&["status"])?;
    ensure!(status.out.contains(&format!("last drill: today, pass ({id})")), "{}", status.out);
    ensure!(live.scene.site.errors()?.is_empty(), "{:?}", live.scene.site.errors()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_is_taken_over_and_a_missed_objective_fails_the_drill() -> Result<()> {
    let live = Live::open().await?;
    let (run, report) = live.drill(DrillFault::Stop, &[])?;
    taken_over(&run, &report)?;
    let (run, report) = live.drill(DrillFault::Stop, &["--slo", "1ms"])?;
    ensure!(run.code == Some(6) && report["verdict"] == "fail", "{report}\n{}", run.err);
    ensure!(
        report["faults"].as_array().map(Vec::len) == Some(1),
        "the books are closed all the same: {report}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_node_is_taken_over_and_does_nothing_more_under_its_old_epoch() -> Result<()> {
    let live = Live::open().await?;
    let (run, report) = live.drill(DrillFault::Freeze, &[])?;
    taken_over(&run, &report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_node_keeps_its_queue() -> Result<()> {
    let live = Live::open().await?;
    let (run, report) = live.drill(DrillFault::Isolate, &["--for", "4s"])?;
    ensure!(run.code == Some(0) && report["verdict"] == "pass", "{report}\n{}", run.err);
    ensure!(report["taker"].is_null() && report["duplicates"] == 0, "{report}");
    ensure!(report["accepted"] == report["delivered"], "{report}");
    let alarm = |record: &Value| record["decision"] == "alarm" && record["rule"] == "network_down";
    ensure!(report["decisions"].as_array().is_some_and(|all| all.iter().any(alarm)), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_a_full_disk_takes_no_mail_loses_none_and_comes_back_by_itself() -> Result<()> {
    let live = Live::open().await?;
    let (run, report) = live.drill(DrillFault::DiskFull, &["--for", "4s"])?;
    ensure!(run.code == Some(0) && report["verdict"] == "pass", "{report}\n{}", run.err);
    ensure!(report["taker"].is_null() && report["duplicates"] == 0, "{report}");
    ensure!(report["accepted"] == report["delivered"] && report["accepted"].as_u64() > Some(50), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_storage_hangs_is_taken_over_and_does_nothing_more_under_its_old_epoch() -> Result<()> {
    let live = Live::open().await?;
    let (run, report) = live.drill(DrillFault::StorageHang, &[])?;
    taken_over(&run, &report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_fault_aborts_the_drill_and_the_node_that_was_hit_is_back_at_once() -> Result<()> {
    let mut live = Live::of(3).await?;
    let mut command = Command::new(live.programs.join("switchctl"));
    command.arg("--config").arg(&live.scene.site.node(0)?.config);
    command.args(["ha", "drill", "run", "isolate", "--node", "b", "--for", "100s", "-o", "json"]);
    let running =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()?;
    let began = live.scene.clock.now();
    let queue = live.scene.queue(1)?;
    live.scene.wait_for_decision(0, &queue, ("alarm", "network_down"), PATIENCE).await?;
    live.scene.kill(2).await?;
    let done = tokio::task::spawn_blocking(move || running.wait_with_output()).await??;
    let took = live.scene.clock.now().since(began);
    ensure!(took < std::time::Duration::from_secs(90), "it went on for {took:?}");
    let out = String::from_utf8_lossy(&done.stdout);
    let report: Value = serde_json::from_str(out.lines().last().context("a report")?)?;
    ensure!(done.status.code() == Some(6) && report["verdict"] == "fail", "{report}");
    let aborted = report["faults"].as_array().context("faults")?;
    ensure!(aborted.iter().any(|fault| fault.to_string().contains("node c is not heard")), "{report}");
    ensure!(report["events"].to_string().contains("was told to end its fault"), "{report}");
    ensure!(report["lost"] == 0, "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsafe_drill_is_refused_and_touches_nothing() -> Result<()> {
    let live = Live::open().await?;
    let own = live.switchctl(&["ha", "drill", "run", "kill", "--node", "a"])?;
    ensure!(own.code == Some(4) && own.err.contains("another node"), "{}", own.err);
    let unknown = live.switchctl(&["ha", "drill", "run", "kill", "--node", "x"])?;
    ensure!(unknown.code == Some(7), "{}", unknown.err);
    let dry = live.switchctl(&["ha", "drill", "run", "kill", "--node", "b", "--dry-run"])?;
    ensure!(dry.code == Some(0), "{}", dry.err);
    live.switchctl(&["ha", "pause", "--for", "10m", "--reason", "a test"])?;
    let paused = live.switchctl(&["ha", "drill", "run", "kill", "--node", "b"])?;
    ensure!(paused.code == Some(4) && paused.err.contains("paused"), "{}", paused.err);
    let queue = live.scene.queue(1)?;
    ensure!(live.scene.leases.history().epochs(&queue).len() == 1, "an epoch changed");
    Ok(())
}
