//! The house rules over this tree. Each failure lists every place and what is wrong there.

use std::path::Path;

use anyhow::{Context, Result};
use tests::house::tree::Tree;
use tests::house::{
    book, circles, dependencies, drills, events, failures, floors, leftovers, lengths, links, metrics, purity,
};

fn tree() -> Result<Tree> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    Tree::read(folder.parent().context("the package lies in a folder of the root")?)
}

fn hold(rule: fn(&Tree) -> Vec<String>) -> Result<()> {
    let faults = rule(&tree()?);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

#[test]
fn the_whole_tree_is_looked_at() -> Result<()> {
    let tree = tree()?;
    let names: Vec<_> = tree.packages.iter().map(|package| package.name.as_str()).collect();
    for name in ["mail-model", "queue-format", "switch", "heartbeatd", "switchctl", "tests"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert!(tree.files.contains("Cargo.toml") && !tree.table.is_empty());
    Ok(())
}

#[test]
fn every_crate_imports_only_lower_floors() -> Result<()> {
    hold(floors::check)
}

#[test]
fn the_files_of_a_crate_import_each_other_without_a_circle() -> Result<()> {
    hold(circles::check)
}

#[test]
fn a_pure_crate_touches_no_world() -> Result<()> {
    hold(purity::check)
}

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    hold(links::check)
}

#[test]
fn every_page_is_in_the_book_once() -> Result<()> {
    hold(book::check)
}

#[test]
fn no_file_and_no_function_is_too_long() -> Result<()> {
    hold(lengths::check)
}

#[test]
fn nothing_is_taken_in_that_nothing_uses() -> Result<()> {
    hold(dependencies::check)
}

#[test]
fn nothing_is_left_over_from_writing() -> Result<()> {
    hold(leftovers::check)
}

#[test]
fn every_fault_of_a_drill_is_tried_by_a_test_and_told_in_the_docs() -> Result<()> {
    hold(drills::check)
}

#[test]
fn every_failure_that_is_told_of_names_the_tests_that_show_it() -> Result<()> {
    hold(failures::check)
}

#[test]
fn every_log_event_is_listed_and_every_listed_one_exists() -> Result<()> {
    hold(events::check)
}

#[test]
fn every_metric_is_listed_and_every_listed_one_exists() -> Result<()> {
    hold(metrics::check)
}
