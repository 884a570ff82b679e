//! Alert rules and dashboards, by Prometheus' own tool. That they name metrics that exist is a house rule.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

fn scripts() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the root of the tree")?;
    Ok(root.join("ha-scripts"))
}

/// False, and said so, if the tool is not there.
fn has_promtool() -> bool {
    let there = Command::new("promtool").arg("--version").output().is_ok();
    if !there {
        eprintln!("skipped: needs promtool (Debian package prometheus)");
    }
    there
}

fn promtool(folder: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("promtool").args(arguments).current_dir(folder).output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn each_alert_comes_when_it_should_and_not_before() -> Result<()> {
    if !has_promtool() {
        return Ok(());
    }
    let folder = scripts()?.join("prometheus");
    promtool(&folder, &["check", "rules", "--lint=all", "--lint-fatal", "mailswitch.rules.yml"])?;
    promtool(&folder, &["test", "rules", "mailswitch.rules.test.yml"])?;
    let read = |name: &str| std::fs::read_to_string(folder.join(name));
    let (rules, tests) = (read("mailswitch.rules.yml")?, read("mailswitch.rules.test.yml")?);
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let untested: Vec<&str> =
        alerts.filter(|name| !tests.contains(&format!("alertname: {name}\n"))).collect();
    ensure!(untested.is_empty(), "no test has these alerts: {untested:?}");
    Ok(())
}

fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().filter(|_| key == "expr") {
                    Some(query) => found.push(query.to_owned()),
                    None => queries(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn prometheus_understands_each_query_of_the_dashboard() -> Result<()> {
    if !has_promtool() {
        return Ok(());
    }
    let text = std::fs::read_to_string(scripts()?.join("grafana/mailswitch.json"))?;
    let mut found = Vec::new();
    queries(&serde_json::from_str(&text)?, &mut found);
    ensure!(found.len() > 20, "only {} queries", found.len());
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (index, query) in found.iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m").replace("$queue", ".*");
        let query = serde_json::to_string(&query)?;
        writeln!(rules, "      - {{ record: query_{index}, expr: {query} }}")?;
    }
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("queries.yml"), rules)?;
    promtool(folder.path(), &["check", "rules", "queries.yml"])
}
