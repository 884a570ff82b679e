//! SMTP dialogues as they are held: line after line from the switches of a node.

use std::time::Duration;

use control::switch::{Answer, Request, TraceLine, TraceWay, Traced};
use control::{CallError, Program};
use daemon_kit::SystemClock;
use mail_model::{Clock, QueueId, WallTime};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::command::{Context, Outcome, misfit, put};
use crate::exit::Exit;
use crate::output::{Format, plain, time};

/// How long one switch may wait for a line, where others are asked in turn.
const WAIT: Duration = Duration::from_millis(300);

/// Shows what is said with clients or next hops for some time, with those that `with` names.
pub(crate) fn run(context: &Context, way: TraceWay, with: &str, span: Duration) -> Outcome {
    let id = Uuid::new_v4().simple().to_string();
    let end = SystemClock.now() + span;
    let queues = context.settings.cluster.nodes.iter().map(|node| QueueId::of(node.id.clone()));
    let mut programs: Vec<Program> = queues.map(Program::Switch).collect();
    if context.format == Format::Tsv && !put(b"at\tdialogue\twith\tby\ttext\n")? {
        return Ok(Exit::Ok);
    }
    // Those that do not run now are looked for once; a takeover meanwhile is another trace.
    let mut first = true;
    while first || SystemClock.now() < end {
        let mut running = Vec::new();
        for program in programs {
            let request = Request::Trace {
                id: id.clone(),
                way,
                with: with.to_owned(),
                wait_ms: if first { 0 } else { u64::try_from(WAIT.as_millis()).unwrap_or(0) },
            };
            let Some(answer) = context.ask_if_running(&program, request)? else { continue };
            running.push(program);
            let Answer::Traced(traced) = answer else { return Err(misfit()) };
            if !show(context.format, &traced)? {
                return Ok(Exit::Ok);
            }
        }
        if running.is_empty() {
            let listener = "no switch".to_owned();
            let path = context.settings.node.state_dir.clone();
            return Err(CallError::NotRunning { listener, path }.into());
        }
        programs = running;
        first = false;
    }
    Ok(Exit::Ok)
}

/// False if nobody reads any more.
fn show(format: Format, traced: &Traced) -> Result<bool, crate::command::Failure> {
    let mut page = String::new();
    if traced.dropped > 0 && format == Format::Table {
        let dropped = traced.dropped;
        page = format!("({dropped} lines were lost: more was said than could be fetched)\n");
    }
    for line in &traced.lines {
        page.push_str(&written(format, line));
        page.push('\n');
    }
    put(page.as_bytes())
}

fn written(format: Format, line: &TraceLine) -> String {
    let TraceLine { at_ms, dialogue, with, by, text } = line;
    let at: Value = time(WallTime(*at_ms));
    match format {
        Format::Table => format!("{} {with} #{dialogue} {by}: {text}", plain(&at)),
        Format::Tsv => format!("{}\t{dialogue}\t{with}\t{by}\t{text}", plain(&at)),
        Format::Json | Format::Jsonl | Format::PostqueueJson => {
            json!({ "schema": "mailswitch.trace.line/1", "at": at, "dialogue": dialogue, "with": with, "by": by, "text": text })
                .to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_for_people_and_for_programs() {
        let line = TraceLine {
            at_ms: 1_700_000_000_000,
            dialogue: 7,
            with: "[192.0.2.1]".to_owned(),
            by: "C".to_owned(),
            text: "NOOP".to_owned(),
        };
        assert_eq!(written(Format::Table, &line), "2023-11-14T22:13:20Z [192.0.2.1] #7 C: NOOP");
        let object: Value = serde_json::from_str(&written(Format::Jsonl, &line)).unwrap();
        assert_eq!((&object["dialogue"], &object["text"]), (&7.into(), &"NOOP".into()));
    }
}
