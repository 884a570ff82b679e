//! Drills on a live cluster: a real fault on one node, probe mail before, during and after it, and a report.
//!
//! | module | noun |
//! |---|---|
//! | `options` | what is asked for |
//! | `plan` | who is hit and how, and why it would be unsafe now |
//! | `stage` | probe mail, the sink it goes to, the eye on the leases |
//! | `course` | the course of one drill |
//! | `guard` | what else goes wrong meanwhile, which ends it |
//! | `report` | what came of it, against the objective |
//! | `page` | the report as a page with a chart |
//! | `shelf` | the reports of this node |
//!
//! The fault is carried out by the heartbeatd of the node that is hit, and ends by itself. Probe mail goes to a sink of the
//! drill alone, wherever it lies: see `routing::drill_address`. What counts is seen by the client and the sink.

mod course;
mod guard;
mod options;
mod page;
mod plan;
mod report;
mod shelf;
mod stage;

use std::sync::Arc;

use control::heartbeatd::Request;
use daemon_kit::SystemClock;

use crate::command::{Context, Failure, Outcome, misfit, say};
use crate::demo::screen::Screen;
use crate::exit::Exit;
use crate::output::Format;

pub(crate) use self::options::Options;
pub(crate) use self::shelf::last;

/// Runs a drill to its end. Ends with 6 if it did not pass, with 4 if it would be unsafe.
pub(crate) fn run(context: &Context, options: &Options) -> Outcome {
    context.known(&options.node)?;
    let screen = Screen::new(Arc::new(SystemClock), context.format != Format::Table);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let played = runtime.block_on(course::play(context, options, &screen));
    // A blocked reader of leases must not hold up the end.
    runtime.shutdown_background();
    let Some(report) = played? else { return Ok(Exit::Ok) };
    let files = shelf::put(context, &report)?;
    for line in report.summary() {
        screen.line(&line);
    }
    screen.line(&format!("report: {}", files.display()));
    if context.format != Format::Table {
        say(serde_json::to_string(&report).map_err(Failure::failed)?)?;
    }
    Ok(if report.passed() { Exit::Ok } else { Exit::DrillFailed })
}

/// The drills of this node, oldest first.
pub(crate) fn list(context: &Context) -> Outcome {
    context.show(&shelf::list(context)?)
}

/// One report.
pub(crate) fn report(context: &Context, id: &str) -> Outcome {
    say(shelf::text(context, id)?.trim_end())?;
    Ok(Exit::Ok)
}

/// Ends a drill that hits this node.
pub(crate) fn end(context: &Context) -> Outcome {
    match context.ask_heartbeatd(Request::DrillEnd)? {
        control::heartbeatd::Answer::Done { message } => {
            say(message)?;
            Ok(Exit::Ok)
        }
        control::heartbeatd::Answer::Status(_) | control::heartbeatd::Answer::Records(_) => Err(misfit()),
    }
}
