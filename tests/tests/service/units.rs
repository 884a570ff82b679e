//! The unit files, judged by systemd's own tools. Nothing is started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// In tenths. `systemd-analyze security` counts what an intruder in the service could do; Postfix's unit scores 96.
const EXPOSURE_MAX: &str = "20";
/// Where the units of systemd itself lie on Debian.
const SYSTEM_UNITS: &str = "/lib/systemd/system";
const PROGRAMS: [&str; 5] = [
    "usr/sbin/switch",
    "usr/sbin/heartbeatd",
    "usr/bin/switchctl",
    "usr/lib/mailswitch/storage/drbd",
    "bin/sh",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ha-scripts/systemd")
}

fn units(end: &str) -> Result<Vec<PathBuf>> {
    let found = units_in(&folder(), end)?;
    ensure!(!found.is_empty(), "no *.{end} in {}", folder().display());
    Ok(found)
}

fn units_in(folder: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == end) {
            found.push(path);
        }
    }
    Ok(found)
}

fn analyzer() -> Option<Command> {
    let tool = "systemd-analyze";
    if Command::new(tool).arg("--version").output().is_err() {
        eprintln!("skipped: needs {tool} (Debian package systemd)");
        return None;
    }
    Some(Command::new(tool))
}

#[test]
fn an_intruder_in_a_service_could_do_little() -> Result<()> {
    for unit in units("service")? {
        let Some(mut analyzer) = analyzer() else { return Ok(()) };
        analyzer.args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX]).arg(&unit);
        let output = analyzer.output()?;
        ensure!(output.status.success(), "{}:\n{}", unit.display(), String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

#[test]
fn systemd_understands_every_line_of_every_unit() -> Result<()> {
    let Some(mut analyzer) = analyzer() else { return Ok(()) };
    let root = tempfile::tempdir()?;
    let lies = |path: &str| -> Result<PathBuf> {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().context("a file lies somewhere")?)?;
        Ok(path)
    };
    for program in PROGRAMS {
        let path = lies(program)?;
        fs::write(&path, "#!\n")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    for entry in fs::read_dir(SYSTEM_UNITS)? {
        let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type()))?;
        if kind?.is_file() {
            let name = path.file_name().context("it has a name")?.to_string_lossy().into_owned();
            fs::copy(&path, lies(&format!("usr/lib/systemd/system/{name}"))?)?;
        }
    }
    let mut names = Vec::new();
    for kind in ["service", "socket", "target", "timer"] {
        // Those of storage mount for all, so they are not shut in as the others are, but must be understood.
        for unit in [units(kind)?, units_in(&folder().join("../storage"), kind)?].concat() {
            let name = unit.file_name().context("it has a name")?.to_string_lossy().into_owned();
            fs::copy(&unit, lies(&format!("etc/systemd/system/{name}"))?)?;
            names.push(name.replace('@', "@a"));
        }
    }
    analyzer.args(["verify", "--man=no"]).arg("--root").arg(root.path()).args(&names);
    let output = analyzer.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.trim().is_empty(), "{said}");
    Ok(())
}
