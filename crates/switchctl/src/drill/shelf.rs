//! The reports of the drills that were ordered on this node: `drills/ID.json`, `.md` and `.html` in its state folder.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::page;
use super::report::Report;
use crate::command::{Context, Failure};
use crate::output::{Format, Listing};

fn folder(context: &Context) -> PathBuf {
    context.settings.node.state_dir.join("drills")
}

/// Keeps a report in its three forms, and answers where the page is.
pub(crate) fn put(context: &Context, report: &Report) -> Result<PathBuf, Failure> {
    let folder = folder(context);
    std::fs::create_dir_all(&folder)?;
    let place = |ending: &str| folder.join(format!("{}.{ending}", report.id));
    let write = |ending: &str, text: &str| {
        let path = place(ending);
        let failed = |error: io::Error| Failure::failed(format_args!("{}: {error}", path.display()));
        std::fs::write(&path, text).map_err(failed)
    };
    write("html", &page::html(report))?;
    write("md", &report.markdown())?;
    // Last: what is listed is whole.
    write("json", &serde_json::to_string_pretty(report).map_err(Failure::failed)?)?;
    Ok(place("html"))
}

/// Every report that can be read, oldest first.
fn all(folder: &Path) -> io::Result<Vec<Report>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut reports = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            // One that cannot be read is of another version, or half written.
            let text = std::fs::read(&path)?;
            reports.extend(serde_json::from_slice::<Report>(&text).ok());
        }
    }
    reports.sort_by(|a, b| (a.at_ms, &a.id).cmp(&(b.at_ms, &b.id)));
    Ok(reports)
}

/// The drills.
pub(crate) fn list(context: &Context) -> Result<Listing, Failure> {
    let mut listing = Listing::new(
        "mailswitch.ha.drills/1",
        &[
            "id",
            "at",
            "fault",
            "node",
            "verdict",
            "measured_ms",
            "slo_ms",
            "accepted",
            "lost",
            "duplicates",
            "in_doubt",
        ],
    );
    for report in all(&folder(context))? {
        listing.row(vec![
            json!(report.id),
            json!(report.at),
            json!(report.fault),
            json!(report.node),
            json!(report.verdict),
            json!(report.measured_ms),
            json!(report.slo_ms),
            json!(report.accepted),
            json!(report.lost),
            json!(report.duplicates),
            json!(report.in_doubt),
        ]);
    }
    Ok(listing)
}

/// A report's text: Markdown for people, JSON for programs.
pub(crate) fn text(context: &Context, id: &str) -> Result<String, Failure> {
    let found = all(&folder(context))?.into_iter().find(|report| report.id == id);
    let report = found.ok_or_else(|| {
        Failure::not_found(format_args!("no report '{id}' on this node; see: switchctl ha drill list"))
    })?;
    match context.format {
        Format::Table => Ok(report.markdown()),
        Format::Json | Format::Jsonl | Format::Tsv | Format::PostqueueJson => {
            serde_json::to_string(&report).map_err(Failure::failed)
        }
    }
}

/// The last drill that was ordered on this node.
pub(crate) fn last(context: &Context) -> Option<(String, u64, String)> {
    let report = all(&folder(context)).ok()?.pop()?;
    Some((report.id, report.at_ms, report.verdict))
}
