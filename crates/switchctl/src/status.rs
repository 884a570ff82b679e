//! How the nodes of the cluster stand, as their programs say.

mod ask;
mod matrix;

use std::io::Write;

use control::heartbeatd;
use control::heartbeatd::{HeartbeatdStatus, QueueStatus};
use control::switch::SwitchStatus;
use daemon_kit::SystemClock;
use mail_model::{Clock, LeaseState, NodeId, QueueId, WallTime};
use serde_json::json;

use self::ask::{Page, Said, ask, ask_switch};
use crate::command::{Context, Failure, Outcome, misfit, put, render, say};
use crate::drill;
use crate::exit::Exit;
use crate::output::{Format, Listing, plain, time};

/// What a monitoring plug-in's exit codes mean.
const CRITICAL: &str = "CRITICAL";
const WARNING: &str = "WARNING";

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    /// One line for a monitoring.
    pub(crate) check: bool,
    /// Who hears whom, and no switches.
    pub(crate) matrix: bool,
}

/// How things stand, once or again and again.
pub(crate) fn run(context: &Context, question: Question) -> Outcome {
    if question.check {
        let alone = context.settings.cluster.nodes.len() == 1;
        let Said { switch, heartbeatd } = ask(context, context.asked());
        return plug_in(&switch, &heartbeatd, alone);
    }
    let page = || if question.matrix { matrix::page(context) } else { page(context) };
    let (page, exit) = page()?;
    put(&page)?;
    Ok(exit)
}

/// Every node's switches, and how one heartbeatd sees the cluster; of one node with `--node`.
fn page(context: &Context) -> Page {
    let asked = context.asked();
    let said = ask(context, asked);
    let heartbeatd = said.heartbeatd.clone();
    let mut listing = Listing::new(
        "mailswitch.status/1",
        &[
            "node",
            "queue",
            "role",
            "state",
            "epoch",
            "ready",
            "queued",
            "in_doubt",
            "accepted",
            "delivered",
            "reasons",
        ],
    );
    let mut pauses: Vec<String> = node(&mut listing, context, asked, said).into_iter().collect();
    let others = context.settings.cluster.nodes.iter().filter(|peer| peer.id != *asked);
    for peer in others.filter(|_| context.only.is_none()) {
        pauses.extend(node(&mut listing, context, &peer.id, ask(context, &peer.id)));
    }
    listing.with("heartbeatd", json!(heartbeatd.as_ref().ok()));
    listing.with("pauses", json!(pauses));
    let drilled = drill::last(context);
    let shown = drilled.as_ref().map(|(id, at, verdict)| json!({"id": id, "at_ms": at, "verdict": verdict}));
    listing.with("last_drill", json!(shown));
    let mut page = Vec::new();
    let exit = render(context.format, &listing, &mut page)?;
    if let (Format::Table, Ok(view)) = (context.format, &heartbeatd) {
        writeln!(page, "protection: {}", view.protection)?;
    }
    if context.format == Format::Table {
        for pause in pauses {
            writeln!(page, "{pause}")?;
        }
    }
    if let (Format::Table, false) = (context.format, context.settings.cluster.nodes.len() == 1) {
        writeln!(page, "{}", last_drill(drilled.as_ref(), SystemClock.wall()))?;
    }
    Ok((page, exit))
}

/// The rows of a node: its own queue, and those it holds for others. Until when it takes nothing over, if it was told so.
fn node(listing: &mut Listing, context: &Context, node: &NodeId, said: Said) -> Option<String> {
    let here = *node == context.settings.node.id;
    let view = match (said.switch, said.heartbeatd) {
        // A node of which nobody answers is one thing that is missing.
        (Err(why), Err(_)) if !here => {
            listing.lacks(format!("node {node}"), &why);
            return None;
        }
        (switch, heartbeatd) => {
            match switch {
                Ok(status) => row(listing, &status),
                Err(why) => listing.lacks(format!("switch of queue {}", QueueId::of(node.clone())), &why),
            }
            match heartbeatd {
                Ok(view) => view,
                Err(why) => {
                    let whose =
                        if here { "heartbeatd".to_owned() } else { format!("heartbeatd of node {node}") };
                    listing.lacks(whose, &why);
                    return None;
                }
            }
        }
    };
    let held = |q: &&QueueStatus| {
        q.queue.home() != node
            && (q.secondary_pid.is_some()
                || q.owner.as_ref() == Some(node) && q.lease_state != Some(LeaseState::Released))
    };
    for QueueStatus { queue, .. } in view.queues.iter().filter(held) {
        match ask_switch(context, node, queue) {
            Ok(status) => row(listing, &status),
            Err(why) => listing.lacks(format!("secondary of queue {queue}"), &why),
        }
    }
    paused(&view)
}

/// Until when a node takes nothing over, if it was told so.
fn paused(view: &HeartbeatdStatus) -> Option<String> {
    let until = view.paused_until?;
    let left = until.since(SystemClock.wall()).as_secs().div_ceil(60);
    Some(format!(
        "takeover by node {} is paused until {}, {left} min more; end it: switchctl ha resume",
        view.node,
        plain(&time(until))
    ))
}

fn say_pause(view: &HeartbeatdStatus) -> Result<(), Failure> {
    paused(view).map_or(Ok(()), say)
}

/// How long ago a takeover was tried last, and what came of it.
fn last_drill(drilled: Option<&(String, u64, String)>, now: WallTime) -> String {
    let Some((id, at, verdict)) = drilled else {
        return "last drill: none was ordered on this node; try: switchctl ha drill run kill --node NODE"
            .to_owned();
    };
    let days = now.since(WallTime(*at)).as_secs() / 86_400;
    let ago = match days {
        0 => "today".to_owned(),
        1 => "1 day ago".to_owned(),
        days => format!("{days} days ago"),
    };
    format!("last drill: {ago}, {verdict} ({id})")
}

fn row(listing: &mut Listing, status: &SwitchStatus) {
    listing.row(vec![
        json!(status.node),
        json!(status.queue),
        json!(status.role),
        json!(status.state),
        json!(status.epoch),
        json!(status.ready),
        json!(status.queued_recipients),
        json!(status.in_doubt),
        json!(status.accepted),
        json!(status.delivered),
        json!(status.reasons),
    ]);
}

/// Every queue as this node's heartbeatd sees it.
pub(crate) fn cluster(context: &Context) -> Outcome {
    let view = match context.ask_heartbeatd(heartbeatd::Request::Status)? {
        heartbeatd::Answer::Status(view) => view,
        heartbeatd::Answer::Done { .. } | heartbeatd::Answer::Records(_) => return Err(misfit()),
    };
    let mut listing = Listing::new(
        "mailswitch.ha.status/1",
        &["queue", "state", "owner", "epoch", "lease", "lease_age_ms", "secondary_pid", "detail"],
    );
    for queue in &view.queues {
        listing.row(vec![
            json!(queue.queue),
            json!(queue.state),
            json!(queue.owner),
            json!(queue.epoch),
            json!(queue.lease_state),
            json!(queue.lease_age_ms),
            json!(queue.secondary_pid),
            json!(queue.detail),
        ]);
    }
    let exit = context.show(&listing)?;
    if context.format == Format::Table {
        say(format_args!("protection: {}", view.protection))?;
        say_pause(&view)?;
        for peer in &view.peers {
            let paths: Vec<String> = peer.paths.iter().map(path).collect();
            say(format_args!("peer {}: {}", peer.node, paths.join(", ")))?;
        }
    }
    Ok(exit)
}

fn path(path: &control::heartbeatd::PathStatus) -> String {
    match path.heard_ms_ago {
        Some(ago) => format!("{} {} ({ago} ms ago)", path.address, if path.up { "up" } else { "down" }),
        None => format!("{} never heard", path.address),
    }
}

/// One line and the exit code that monitoring systems understand.
fn plug_in(
    switch: &Result<SwitchStatus, String>,
    view: &Result<HeartbeatdStatus, String>,
    alone: bool,
) -> Outcome {
    let (word, text) = match (switch, view) {
        (Err(failure), _) => (CRITICAL, failure.clone()),
        (Ok(status), _) if !status.ready => (CRITICAL, format!("not ready: {}", status.reasons.join("; "))),
        (Ok(_), Err(failure)) => (WARNING, format!("protection lost: {failure}")),
        // Who stands alone by configuration lacks nothing.
        (Ok(status), Ok(view)) if alone || view.protection == "full" => {
            ("OK", format!("ready, {} queued, protection {}", status.queued_recipients, view.protection))
        }
        (Ok(_), Ok(view)) => {
            let pause = paused(view).map(|pause| format!("; {pause}")).unwrap_or_default();
            (WARNING, format!("{}{pause}", view.protection))
        }
    };
    say(format_args!("MAILSWITCH {word} - {text}"))?;
    // A plug-in's 1 and 2 are numbers of ours too, with other names.
    Ok(match word {
        CRITICAL => Exit::Usage,
        WARNING => Exit::Failed,
        _ => Exit::Ok,
    })
}
