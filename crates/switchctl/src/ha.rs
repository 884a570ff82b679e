//! Orders to this node's heartbeatd, and the evidence behind its decisions.

use std::time::Duration;

use control::heartbeatd::{Answer, Request};
use mail_model::{NodeId, QueueId};
use serde_json::Value;

use crate::command::{Context, Outcome, misfit, say};
use crate::exit::Exit;
use crate::output::{Format, plain};

/// Three channels, one after the other, each with its own limit.
const ALERT_TEST_WITHIN: Duration = Duration::from_secs(70);

/// Takes a queue over to this node.
pub(crate) fn takeover(context: &Context, node: &NodeId, reason: &str) -> Outcome {
    context.known(node)?;
    order(context, Request::Takeover { queue: QueueId::of(node.clone()), reason: reason.to_owned() })
}

/// Gives a queue back to its home node.
pub(crate) fn handback(context: &Context, node: &NodeId) -> Outcome {
    context.known(node)?;
    order(context, Request::Handback { node: node.clone() })
}

/// Stops takeovers by themselves for a while.
pub(crate) fn pause(context: &Context, span: Duration, reason: &str) -> Outcome {
    let for_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    order(context, Request::Pause { for_ms, reason: reason.to_owned() })
}

/// Ends a pause.
pub(crate) fn resume(context: &Context) -> Outcome {
    order(context, Request::Resume)
}

/// Tries the channels of alerts.
pub(crate) fn alert_test(context: &Context) -> Outcome {
    let request = Request::AlertTest;
    let Answer::Done { message } = context.ask_heartbeatd_within(request, ALERT_TEST_WITHIN)? else {
        return Err(misfit());
    };
    say(message)?;
    Ok(Exit::Ok)
}

/// Asks this node's heartbeatd whether the copy here may go on alone.
pub(crate) fn copy_alone(context: &Context, queue: &QueueId) -> Outcome {
    use control::device::{Answer, Request};
    match context.ask_of_devices(Request::CopyAlone { queue: queue.clone() })? {
        Answer::Granted => {
            say(format_args!("granted: this node's copy of queue {queue} is the only current one now"))?;
            Ok(Exit::Ok)
        }
        Answer::Held { .. } => Err(misfit()),
    }
}

/// The decisions about one queue.
pub(crate) fn why(context: &Context, node: &NodeId) -> Outcome {
    context.known(node)?;
    records(context, Request::Why { node: node.clone() })
}

/// The latest decisions.
pub(crate) fn history(context: &Context, limit: u32) -> Outcome {
    records(context, Request::History { limit })
}

fn order(context: &Context, request: Request) -> Outcome {
    match context.ask_heartbeatd(request)? {
        Answer::Done { message } => {
            say(message)?;
            Ok(Exit::Ok)
        }
        Answer::Status(_) | Answer::Records(_) => Err(misfit()),
    }
}

fn records(context: &Context, request: Request) -> Outcome {
    let Answer::Records(records) = context.ask_heartbeatd(request)? else { return Err(misfit()) };
    match context.format {
        Format::Json => say(serde_json::json!({
            "schema": "mailswitch.ha.decisions/1", "complete": true, "missing": [], "items": records
        }))?,
        Format::Jsonl | Format::PostqueueJson => records.iter().try_for_each(say)?,
        Format::Table => say(timeline(&records))?,
        Format::Tsv => {
            say("at\tnode\tqueue\tdecision\trule\tstate\ttext")?;
            let keys = ["at", "node", "queue", "decision", "rule", "state", "text"];
            let cell = |record: &Value, key: &str| {
                record.get(key).map_or("-".to_owned(), plain).replace(['\t', '\n'], " ")
            };
            for record in &records {
                say(keys.map(|key| cell(record, key)).join("\t"))?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// The records as a person reads them, oldest first, each with the time since the one before.
fn timeline(records: &[Value]) -> String {
    if records.is_empty() {
        return "no decision was made yet".to_owned();
    }
    let mut lines = Vec::new();
    let mut before: Option<u64> = None;
    for record in records {
        let at = record.get("at_ms").and_then(Value::as_u64);
        let since = at.zip(before).map(|(at, before)| at.saturating_sub(before));
        lines.push(story(record, since));
        before = at.or(before);
    }
    lines.join("\n")
}

/// A record as a person reads it: when and what, then why in a sentence, then the evidence.
fn story(record: &Value, since_ms: Option<u64>) -> String {
    let text = |key: &str| record.get(key).filter(|value| !value.is_null()).map(plain);
    let mut head: Vec<String> = text("at").into_iter().collect();
    head.extend(since_ms.map(|ms| format!("+{}.{:03}s", ms / 1_000, ms % 1_000)));
    head.extend(text("node").map(|node| format!("on {node}")));
    head.extend(text("queue").map(|queue| format!("queue {queue}:")));
    head.extend(text("decision"));
    head.extend(text("rule").map(|rule| format!("({rule})")));
    head.extend(text("state").map(|state| format!("-> {state}")));
    let mut lines = vec![head.join(" ")];
    lines.extend(text("text").filter(|text| !text.is_empty()).map(|text| format!("    {text}")));
    let facts = |facts: &serde_json::Map<String, Value>, told: &[&str]| {
        let facts = facts.iter().filter(|(key, value)| !told.contains(&key.as_str()) && !value.is_null());
        facts.map(|(fact, value)| format!("{fact}={}", plain(value))).collect::<Vec<_>>().join(" ")
    };
    let evidence = record.get("evidence").and_then(Value::as_object);
    let told = ["at", "at_ms", "node", "queue", "decision", "rule", "state", "text", "evidence"];
    let rest = record.as_object().map(|record| facts(record, &told));
    for line in [evidence.map(|evidence| facts(evidence, &[])), rest].into_iter().flatten() {
        if !line.is_empty() {
            lines.push(format!("    {line}"));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn decisions_are_told_as_a_timeline_with_their_evidence() {
        let records = [
            serde_json::json!({
                "at": "2026-01-02T03:04:05Z", "at_ms": 1_767_323_045_000_u64, "node": "a", "queue": "b",
                "decision": "suspected", "rule": "stale_window", "state": "WATCHING",
                "text": "renewals of b are late", "evidence": { "reads": 3, "span_ms": 900, "probe_ms": null }
            }),
            serde_json::json!({
                "at": "2026-01-02T03:04:06.25Z", "at_ms": 1_767_323_046_250_u64, "node": "a",
                "decision": "paused", "rule": "operator", "text": "", "until_ms": 5
            }),
        ];
        expect![[r"
            2026-01-02T03:04:05Z on a queue b: suspected (stale_window) -> WATCHING
                renewals of b are late
                reads=3 span_ms=900
            2026-01-02T03:04:06.25Z +1.250s on a paused (operator)
                until_ms=5"]]
        .assert_eq(&timeline(&records));
        assert_eq!(timeline(&[]), "no decision was made yet");
    }
}
