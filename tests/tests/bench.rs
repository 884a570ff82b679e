//! `switchctl bench` as people run it, in small. Its figures are not looked at: this machine may be busy.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

#[test]
fn every_load_is_measured_and_reported() -> Result<()> {
    let report = tempfile::tempdir()?;
    let queues = tempfile::tempdir_in("/var/tmp")?;
    // Postfix looks into its folder as another user.
    Command::new("chmod").arg("755").arg(queues.path()).status()?;
    let done = Command::new(tests::programs::build()?.join("switchctl"))
        .args(["bench", "--quick", "--held", "50", "-o", "json", "--dir"])
        .arg(queues.path())
        .arg("--report")
        .arg(report.path())
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{}\n{said}", done.status);
    let figures: Value = serde_json::from_slice(&done.stdout)?;
    ensure!(figures["schema"] == "mailswitch.bench/1", "{figures}");
    let items = figures["items"].as_array().context("rows")?;
    let rates = |server: &str| {
        let of = items.iter().filter(|item| item["server"] == server);
        of.filter(|item| item["messages_s"].as_f64() > Some(0.0)).count()
    };
    ensure!((rates("none"), rates("mailswitch")) == (2, 7), "{figures}");
    if said.contains("only mailswitch is measured") {
        println!("skipped: needs postfix, and root");
    } else {
        ensure!(rates("postfix") == 4, "{figures}");
    }
    let written = std::fs::read_to_string(report.path().join("bench.json"))?;
    ensure!(serde_json::from_str::<Value>(&written)?["schema"] == "mailswitch.bench/1", "{written}");
    let picture = std::fs::read_to_string(report.path().join("bench.svg"))?;
    ensure!(picture.starts_with("<svg") && picture.contains("relay, 10 sessions"), "{picture}");
    ensure!(
        std::fs::read_dir(queues.path())?.count() == 0,
        "something is left in {}",
        queues.path().display()
    );
    Ok(())
}

#[test]
fn what_a_pair_costs_is_measured_in_every_stage() -> Result<()> {
    let queues = tempfile::tempdir_in("/var/tmp")?;
    let done = Command::new(tests::programs::build()?.join("switchctl"))
        .args(["bench", "pair", "--runs", "1", "--for", "1", "--messages", "300", "--sessions", "4"])
        .args(["-o", "json", "--on"])
        .arg(queues.path())
        .stdin(Stdio::null())
        .output()?;
    ensure!(done.status.success(), "{}\n{}", done.status, String::from_utf8_lossy(&done.stderr));
    let figures: Value = serde_json::from_slice(&done.stdout)?;
    ensure!(figures["schema"] == "mailswitch.bench.pair/1", "{figures}");
    let stages = figures["messages_s"].as_object().context("stages")?;
    ensure!(
        stages.len() == 5 && stages.values().all(|rate| rate["median"].as_f64() > Some(0.0)),
        "{figures}"
    );
    ensure!(
        std::fs::read_dir(queues.path())?.count() == 0,
        "something is left in {}",
        queues.path().display()
    );
    Ok(())
}
