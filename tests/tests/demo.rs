//! `switchctl demo` as people run it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::time::Instant;

fn demo(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(tests::programs::build()?.join("switchctl"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    Ok(command)
}

#[test]
fn the_last_line_is_the_verdict_and_only_the_report_stays() -> Result<()> {
    let arguments = ["--fault", "none", "--seconds", "3", "--rate", "50", "--seed", "9", "-o", "json"];
    let done = demo(&arguments)?.output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{}\n{said}", done.status);
    let text = String::from_utf8(done.stdout)?;
    let line: Value = serde_json::from_str(text.lines().last().context("a line")?)?;
    for (key, wanted) in
        [("seed", 9), ("accepted", 150), ("delivered", 150), ("lost", 0), ("still_queued", 0)]
    {
        ensure!(line[key] == wanted, "{key} in {line}");
    }
    ensure!(
        line["verdict"] == "pass" && line["takeover_ms"].is_null() && line["handback_ms"].is_null(),
        "{line}"
    );
    let report = Path::new(line["report"].as_str().context("a path")?);
    let report_text = std::fs::read_to_string(report)?;
    ensure!(serde_json::from_str::<Value>(&report_text)?["books"]["accepted"] == 150, "{report_text}");
    let folder = report.parent().context("a folder")?;
    ensure!(std::fs::read_dir(folder)?.count() == 1, "more than the report is left in {}", folder.display());
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

#[test]
fn a_node_whose_disk_is_full_is_left_out_and_nothing_is_lost() -> Result<()> {
    let done = demo(&["--fault", "disk-full", "--seconds", "12", "--rate", "50", "-o", "json"])?.output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    let text = String::from_utf8(done.stdout)?;
    ensure!(done.status.success(), "{}\n{text}{said}", done.status);
    let line: Value = serde_json::from_str(text.lines().last().context("a line")?)?;
    ensure!(line["verdict"] == "pass" && line["lost"] == 0 && line["duplicates"] == 0, "{line}");
    ensure!(said.contains("the balancer leaves it out") && said.contains("there is space again"), "{said}");
    let report = Path::new(line["report"].as_str().context("a path")?);
    std::fs::remove_dir_all(report.parent().context("a folder")?)?;
    Ok(())
}

#[test]
fn an_interrupted_demo_fails_and_leaves_no_process_behind() -> Result<()> {
    let mut running = demo(&["-o", "json"])?.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(running.stderr.take().context("its output")?).lines();
    let mut folder = None;
    for line in lines.by_ref() {
        let line = line?;
        folder = folder.or(line.strip_prefix("folder ").map(str::to_owned));
        if line.contains("all nodes are ready") {
            break;
        }
    }
    let folder = folder.context("the demo names its folder")?;
    ensure!(!processes_of(&folder)?.is_empty(), "the nodes run");
    kill(Pid::from_raw(i32::try_from(running.id())?), Signal::SIGINT)?;
    let rest: Vec<String> = lines.collect::<Result<_, _>>()?;
    let status = running.wait()?;
    ensure!(
        status.code() == Some(6) && rest.iter().any(|line| line.contains("interrupted")),
        "{status}: {rest:?}"
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    while !processes_of(&folder)?.is_empty() {
        ensure!(Instant::now() < deadline, "still there: {:?}", processes_of(&folder)?);
        std::thread::yield_now();
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Command lines of living processes that name `folder`.
fn processes_of(folder: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        // A process may end while it is looked at; one that has ended and is not reaped yet has no command line.
        let Ok(line) = std::fs::read(entry?.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(folder) {
            found.push(line);
        }
    }
    Ok(found)
}
