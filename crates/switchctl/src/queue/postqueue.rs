//! The queue as scripts written for Postfix read it: `postqueue -j`, and the table of `mailq`.

use std::fmt::Write as _;
use std::io::{self, Write};

use daemon_kit::SystemClock;
use mail_model::{Clock, WallTime};
use queue_format::record::RecipientState;
use serde_json::{Value, json};

use super::reading::{Found, chosen, readable};
use crate::command::{Context, Failure, Outcome};
use crate::exit::Exit;
use crate::filter::Filter;
use crate::output::Listing;

/// One JSON object a line, with the member names of Postfix's `postqueue -j`.
pub(crate) fn postqueue_json(context: &Context, filter: Filter<'_>) -> Outcome {
    render(context, filter, |found, _, out| {
        writeln!(out, "{}", object(found)).ok();
    })
}

/// The table that `mailq` has always shown.
pub(crate) fn mailq(context: &Context, filter: Filter<'_>) -> Outcome {
    let (mut bytes, mut messages) = (0_u64, 0_u64);
    let exit = render(context, filter, |found, first, out| {
        if first {
            out.push_str("-Queue ID-            --Size-- ----Arrival Time---- -Sender/Recipient-------\n");
        }
        bytes += found.message.size;
        messages += 1;
        entry(found, out);
    })?;
    let line = match messages {
        0 => "Mail queue is empty".to_owned(),
        1 => format!("-- {} Kbytes in 1 Request.", bytes.div_ceil(1024)),
        _ => format!("-- {} Kbytes in {messages} Requests.", bytes.div_ceil(1024)),
    };
    crate::command::say(line)?;
    Ok(exit)
}

fn render(context: &Context, filter: Filter<'_>, mut each: impl FnMut(&Found, bool, &mut String)) -> Outcome {
    let mut missing = Listing::new("", &[""; 0]);
    let (now, mut text, mut first) = (SystemClock.wall(), String::new(), true);
    for (queue, seen) in readable(context, filter, &mut missing) {
        for found in chosen(&queue, &seen, filter, now)? {
            each(&found, first, &mut text);
            first = false;
        }
    }
    let mut exit = Exit::Ok;
    for warning in missing.warnings() {
        exit = Exit::Partial;
        // Standard error is the last resort: if it is gone there is nobody to tell.
        drop(writeln!(io::stderr().lock(), "switchctl: {warning}"));
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::from(error)),
        Ok(()) | Err(_) => Ok(exit),
    }
}

/// Postfix's names of its queues: what is tried for the first time, waits for another try, or is set aside.
fn queue_name(found: &Found) -> &'static str {
    let mut live = found.message.standings.iter().filter(|standing| !standing.state.is_final()).peekable();
    if live.peek().is_some() && live.clone().all(|standing| standing.state == RecipientState::Held) {
        "hold"
    } else if live.any(|standing| standing.attempts > 0) {
        "deferred"
    } else {
        "active"
    }
}

fn object(found: &Found) -> Value {
    let live = found.envelope.recipients.iter().zip(&found.message.standings);
    let recipients: Vec<Value> = live
        .filter(|(_, standing)| !standing.state.is_final())
        .map(|(recipient, standing)| {
            let mut object = json!({ "address": recipient.address.to_string() });
            if let (Some(reply), Some(map)) = (standing.last_reply.as_ref(), object.as_object_mut()) {
                map.insert("delay_reason".to_owned(), json!(reply.to_string()));
            }
            object
        })
        .collect();
    json!({
        "queue_name": queue_name(found),
        "queue_id": found.id,
        "arrival_time": found.message.received.0 / 1_000,
        "message_size": found.message.size,
        "forced_expire": false,
        "sender": found.envelope.reverse_path.to_string(),
        "recipients": recipients,
    })
}

fn entry(found: &Found, out: &mut String) {
    let mark = match queue_name(found) {
        "hold" => '!',
        "active" => '*',
        _ => ' ',
    };
    let sender = match found.envelope.reverse_path.to_string() {
        empty if empty.is_empty() => "MAILER-DAEMON".to_owned(),
        sender => sender,
    };
    let id = format!("{}{mark}", found.id);
    let (size, arrived) = (found.message.size, arrival(found.message.received));
    writeln!(out, "{id:<20} {size:>9} {arrived} {sender}").ok();
    let live = found.envelope.recipients.iter().zip(&found.message.standings);
    for (recipient, standing) in live.filter(|(_, standing)| !standing.state.is_final()) {
        if let Some(reply) = &standing.last_reply {
            writeln!(out, "{:>20} ({reply})", "").ok();
        }
        writeln!(out, "{:>52}{}", "", recipient.address).ok();
    }
    out.push('\n');
}

/// `Tue Nov 24 19:31:05`, in local time, as mailq writes it.
fn arrival(received: WallTime) -> String {
    let milliseconds = i64::try_from(received.0).unwrap_or(i64::MAX);
    let Ok(time) = jiff::Timestamp::from_millisecond(milliseconds) else { return "-".to_owned() };
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%a %b %d %H:%M:%S").to_string()
}
