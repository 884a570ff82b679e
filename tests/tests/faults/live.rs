//! The faults of `switchctl ha drill` on a live pair of processes with one local disk, several times each.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use cluster::drill::DrillFault;
use serde_json::Value;
use switchctl::demo::scene::{Scene, ScenePlan};
use tempfile::TempDir;

use crate::row::Row;

const ROUNDS: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a drill of minutes: make drills"]
async fn a_kill_is_survived() -> Result<()> {
    drills(DrillFault::Kill).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a drill of minutes: make drills"]
async fn a_stop_is_survived() -> Result<()> {
    drills(DrillFault::Stop).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a drill of minutes: make drills"]
async fn a_freeze_is_survived() -> Result<()> {
    drills(DrillFault::Freeze).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a drill of minutes: make drills"]
async fn an_isolation_is_survived() -> Result<()> {
    drills(DrillFault::Isolate).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a drill of minutes: make drills"]
async fn a_full_disk_is_survived() -> Result<()> {
    drills(DrillFault::DiskFull).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a drill of minutes: make drills"]
async fn a_hanging_storage_is_survived() -> Result<()> {
    drills(DrillFault::StorageHang).await
}

/// A pair for each round: the third takeover of one queue within an hour would be flapping.
async fn drills(fault: DrillFault) -> Result<()> {
    let mut row =
        Row { fault: fault.as_str().to_owned(), storage: "local disk".to_owned(), ..Row::default() };
    let mut reports = Vec::new();
    for _ in 0..ROUNDS {
        let report = drill(fault).await?;
        let number =
            |key: &str| report.get(key).and_then(Value::as_u64).with_context(|| format!("{key}: {report}"));
        row.runs += 1;
        row.accepted += number("accepted")?;
        row.lost += number("lost")?;
        row.duplicates += number("duplicates")?;
        row.in_doubt += number("in_doubt")?;
        row.takeover_ms.extend(report.pointer("/takeover_ms/first_delivery").and_then(Value::as_u64));
        reports.push(report);
    }
    row.enter()?;
    for report in reports {
        let passed = report.get("verdict").is_some_and(|verdict| verdict == "pass");
        ensure!(passed && report.get("accepted") == report.get("delivered"), "{report}");
    }
    Ok(())
}

/// The report of one drill.
async fn drill(fault: DrillFault) -> Result<Value> {
    let dir = TempDir::with_prefix("mailswitch-drills-")?;
    let programs = tests::programs::build()?;
    let plan = ScenePlan {
        dir: dir.path().to_owned(),
        nodes: 2,
        programs: programs.clone(),
        takeover: "window: 2s".to_owned(),
    };
    let mut scene = Scene::start(plan).await?;
    scene.all_ready().await?;
    let mut command = Command::new(programs.join("switchctl"));
    command.arg("--config").arg(&scene.site.node(0)?.config);
    command.args(["ha", "drill", "run", fault.as_str(), "--node", "b", "-o", "json"]);
    let done = tokio::task::spawn_blocking(move || command.output()).await??;
    let out = String::from_utf8_lossy(&done.stdout);
    let line = out
        .lines()
        .last()
        .with_context(|| format!("no report: {}", String::from_utf8_lossy(&done.stderr)))?;
    serde_json::from_str(line).context("read the report")
}
