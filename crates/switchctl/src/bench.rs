//! How fast mailswitch is on this machine, beside Postfix: both in one run, turn by turn, each with a queue of its own.
//!
//! | module | noun |
//! |---|---|
//! | `options` | what is asked for |
//! | `work` | the loads that are measured |
//! | `server` | a mail server that can be started on a folder of its own: `mailswitch`, `postfix` |
//! | `meter` | what its processes used, read from `/proc` |
//! | `course` | one run after the other |
//! | `figures` | medians, and the ratio of two servers |
//! | `report` | the table for people, JSON for programs |
//! | `plot` | bars |
//! | `takeover` | death to first delivery, phase by phase: of mailswitch alone |
//! | `pair` | two nodes beside one, and a takeover under load |
//! | `fill` | a full queue for these two |
//!
//! Messages are counted at the client, by 250s, and at the sink: never inside a server. Every server syncs what it
//! acknowledges; nothing of that is turned off for either.

mod course;
mod figures;
mod fill;
mod mailswitch;
mod meter;
mod options;
pub(crate) mod pair;
mod plot;
mod postfix;
mod report;
mod server;
pub(crate) mod takeover;
mod work;

pub(crate) use options::Options;

use anyhow::Result;

use crate::exit::Exit;

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<Exit> {
    course::run(options)?;
    Ok(Exit::Ok)
}
