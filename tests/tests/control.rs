//! Nodes are asked from each other, with real processes: what `switchctl` on one node learns and changes on another.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use switchctl::demo::scene::{Scene, ScenePlan};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

struct Run {
    code: Option<i32>,
    out: String,
}

/// Runs switchctl as on the first node.
fn switchctl(scene: &Scene, arguments: &[&str]) -> Result<Run> {
    let mut command = Command::new(tests::programs::build()?.join("switchctl"));
    let done = command.arg("--config").arg(&scene.site.node(0)?.config).args(arguments).output()?;
    Ok(Run { code: done.status.code(), out: String::from_utf8_lossy(&done.stdout).into_owned() })
}

/// The nodes and queues of a status, and what it says is missing.
fn shown(run: &Run) -> Result<(Vec<String>, Vec<String>)> {
    let status: Value = serde_json::from_str(&run.out).with_context(|| run.out.clone())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |item: &Value, key: &str| item.get(key).map(text).unwrap_or_default();
    let items = status.get("items").and_then(Value::as_array).context("items")?;
    let pair = |item: &Value| format!("{} {}", of(item, "node"), of(item, "queue"));
    let missing = status.get("missing").and_then(Value::as_array).context("missing")?;
    Ok((items.iter().map(pair).collect(), missing.iter().map(text).collect()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_shows_and_changes_all_and_says_which_is_missing() -> Result<()> {
    let dir = TempDir::with_prefix("mailswitch-control-")?;
    let plan = ScenePlan {
        dir: dir.path().to_owned(),
        nodes: 2,
        programs: tests::programs::build()?,
        takeover: "window: 1s".to_owned(),
    };
    let mut scene = Scene::start(plan).await?;
    scene.all_ready().await?;

    let all = switchctl(&scene, &["status", "-o", "json"])?;
    ensure!(all.code == Some(0), "{}", all.out);
    ensure!(shown(&all)? == (vec!["a a".to_owned(), "b b".to_owned()], vec![]), "{}", all.out);
    let one = switchctl(&scene, &["status", "--node", "b", "-o", "json"])?;
    ensure!(shown(&one)? == (vec!["b b".to_owned()], vec![]), "{}", one.out);

    let set = switchctl(&scene, &["log", "set", "delivery=debug", "--node", "b"])?;
    ensure!(set.code == Some(0) && set.out.contains("switch of queue b"), "{}", set.out);
    let pause = switchctl(&scene, &["ha", "pause", "--for", "10m", "--reason", "test", "--node", "b"])?;
    ensure!(pause.code == Some(0), "{}", pause.out);
    let paused = switchctl(&scene, &["status", "--node", "b"])?;
    ensure!(paused.out.contains("takeover by node b is paused until"), "{}", paused.out);

    scene.kill(1).await?;
    scene.wait_for_decision(0, &scene.queue(1)?, ("taken", "stale_window"), PATIENCE).await?;
    let after = switchctl(&scene, &["status", "-o", "json"])?;
    ensure!(after.code == Some(3), "{}", after.out);
    let (nodes, missing) = shown(&after)?;
    ensure!(nodes.contains(&"a b".to_owned()) && missing == ["node b"], "{}", after.out);
    scene.stop().await
}
