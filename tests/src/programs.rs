//! The programs that process tests start.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Builds them and answers their folder: the build of a test does not build other packages' programs. `MAILSWITCH_PROGRAMS`
/// names a folder with others to be tested.
pub fn build() -> Result<PathBuf> {
    if let Some(others) = std::env::var_os("MAILSWITCH_PROGRAMS") {
        return Ok(PathBuf::from(others));
    }
    let own = std::env::current_exe().context("find this test's folder")?;
    let folder = own.parent().and_then(|deps| deps.parent()).context("a test lies in target/PROFILE/deps")?;
    let mut cargo = Command::new(env!("CARGO"));
    // As a run of all tests builds them: with features of other packages, every dependency would be compiled twice.
    cargo.args(["build", "--quiet", "--workspace", "--bins", "--test", "house"]);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().context("run cargo build")?;
    ensure!(status.success(), "the programs do not build");
    Ok(folder.to_owned())
}
