//! The figures as a table for people, and as JSON.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::figures::{Figures, Sample, median};
use super::options::Options;
use super::{plot, postfix};
use crate::demo::screen::Screen;
use crate::output::{Format, Listing};

const COLUMNS: [&str; 11] = [
    "load",
    "server",
    "messages_s",
    "low",
    "high",
    "times_postfix",
    "cpu_s_10000",
    "written_bytes",
    "p50_ms",
    "p99_ms",
    "resident_mib",
];

/// Shows the table or writes the JSON line, and leaves the files that were asked for.
pub(crate) fn publish(all: &[Figures], options: &Options, screen: &Screen) -> Result<()> {
    let listing = listing(all);
    let mut text = Vec::new();
    listing.write(Format::Json, &mut text).context("write the figures")?;
    if let Some(dir) = &options.report {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
            screen.line(&format!("written: {}", path.display()));
            anyhow::Ok(())
        };
        write("bench.json", &text)?;
        write("bench.svg", plot::bars(all).as_bytes())?;
    }
    let mut out = std::io::stdout().lock();
    let format = if options.json { Format::Json } else { Format::Table };
    listing.write(format, &mut out).context("write the figures")?;
    Ok(())
}

fn listing(all: &[Figures]) -> Listing {
    let mut listing = Listing::new("mailswitch.bench/1", &COLUMNS);
    for figures in all {
        let name = figures.work.name();
        let ratio = figures.ratio(|sample| sample.rate);
        for (server, samples, ratio) in [
            ("none", &figures.ceiling, None),
            ("mailswitch", &figures.ours, ratio),
            ("postfix", &figures.theirs, None),
        ] {
            if !samples.is_empty() {
                listing.row(row(&name, server, samples, ratio));
            }
        }
    }
    let runs: Vec<Value> = all
        .iter()
        .map(|figures| {
            json!({
                "load": figures.work.name(), "none": figures.ceiling, "mailswitch": figures.ours,
                "postfix": figures.theirs, "cpu_times_postfix": figures.ratio(|sample| sample.cpu_s),
            })
        })
        .collect();
    listing.with("runs", json!(runs));
    listing.with("postfix_version", json!(postfix::version()));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    listing.with("cores", json!(cores));
    listing
}

fn row(name: &str, server: &str, samples: &[Sample], ratio: Option<f64>) -> Vec<Value> {
    let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure)).unwrap_or(0.0);
    let rates = || samples.iter().map(|sample| sample.rate);
    let written = median(samples.iter().filter_map(|sample| sample.written));
    let alone = server == "none";
    vec![
        json!(name),
        json!(server),
        rounded(of(|sample| sample.rate), 0),
        rounded(rates().fold(f64::INFINITY, f64::min), 0),
        rounded(rates().fold(0.0, f64::max), 0),
        ratio.map_or(Value::Null, |ratio| rounded(ratio, 1)),
        rounded(of(if alone { |sample| sample.rig_cpu_s } else { |sample| sample.cpu_s }), 2),
        written.map_or(Value::Null, |bytes| rounded(bytes, 0)),
        rounded(of(|sample| f64::from(sample.p50_us)) / 1000.0, 2),
        rounded(of(|sample| f64::from(sample.p99_us)) / 1000.0, 2),
        if alone { Value::Null } else { rounded(of(mebibytes), 0) },
    ]
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mebibytes(sample: &Sample) -> f64 {
    sample.resident as f64 / 1_048_576.0
}

#[expect(clippy::cast_possible_truncation, reason = "a rate or size of a benchmark is far below 2^63")]
fn rounded(value: f64, digits: i32) -> Value {
    if digits == 0 {
        return json!(value.round() as i64);
    }
    let factor = 10f64.powi(digits);
    json!((value * factor).round() / factor)
}
