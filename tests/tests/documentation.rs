//! The commands of the documentation, run as they are printed, with real processes.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

/// Runs every block of a page.
fn runs(page: &str) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(root.join("tests/docs/run.sh"));
    let output = command.arg(tests::programs::build()?).arg(root.join("docs").join(page)).output()?;
    ensure!(
        output.status.success(),
        "{page}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn the_pages_make_a_book_whose_links_lead_somewhere() -> Result<()> {
    if Command::new("mdbook").arg("--version").output().is_err() {
        eprintln!("skipped: needs mdbook");
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = tempfile::tempdir()?;
    let output = Command::new(root.join("docs/book.sh")).arg("mdbook").arg(out.path()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn every_block_of_the_quickstart_does_what_the_page_says() -> Result<()> {
    runs("QUICKSTART.md")
}

#[test]
fn every_block_of_every_runbook_does_what_the_page_says() -> Result<()> {
    runs("RUNBOOKS.md")
}

#[test]
fn every_block_of_the_page_on_drills_does_what_the_page_says() -> Result<()> {
    runs("DRILLS.md")
}
