//! "If NODE died now": would its queue be taken over by this node, and how soon?
//!
//! Each thing that a takeover needs is tried or measured now: the lease is read, the storage probed, the queue read as
//! recovery would read it. Touches nothing but a probe file beside the queues.

use std::time::Duration;

use cluster::Timers;
use cluster::device::Word;
use control::heartbeatd::{Answer, HeartbeatdStatus, Request};
use control::switch;
use daemon_kit::SystemClock;
use mail_model::{Clock, NodeId, QueueId};
use nix::sys::statvfs::statvfs;
use queue_store::inspect::Depth;
use queue_store::observe;
use serde_json::json;
use settings::Storage;

use crate::command::{Context, Outcome, misfit, say};
use crate::exit::Exit;
use crate::fscheck;
use crate::lights::{Light, Lights};
use crate::output::Format;

/// Between the decision and the claim: a process is started.
const START_MS: u64 = 150;

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    lights: Lights,
    probe_ms: u64,
    recovery_ms: u64,
    messages: usize,
}

/// Says how a takeover of the queue of `node` by this node would go. Ends with 1 if it would fail.
pub(crate) fn run(context: &Context, node: &NodeId) -> Outcome {
    context.known(node)?;
    let mut found = Findings::default();
    let view = match context.ask_heartbeatd(Request::Status) {
        Ok(Answer::Status(view)) => Some(*view),
        Ok(Answer::Done { .. } | Answer::Records(_)) => return Err(misfit()),
        Err(why) => {
            found.lights.add("heartbeatd", Light::Red, why.message);
            None
        }
    };
    let timers = context.settings.cluster.timers;
    if let Some(view) = &view {
        taker(context, node, view, &mut found);
        lease(node, view, &timers, &mut found);
    }
    storage(context, &timers, &mut found);
    queue(context, node, &mut found);
    let at_one_copy = copies(context, node, view.as_ref(), &mut found);
    let (light, text) = fscheck::last(context);
    found.lights.add("fscheck", light, text);
    let own = *node == context.settings.node.id;
    let takers = context.settings.cluster.takers(node);
    let rank = takers.iter().take_while(|other| **other != context.settings.node.id).count();
    let stagger = timers.stagger * u32::try_from(rank).unwrap_or(u32::MAX).min(64);
    let detect = millis(timers.window + timers.observe * 2 + stagger);
    let predicted = detect + found.probe_ms + START_MS + found.recovery_ms;
    let worst = found.lights.worst();
    let mut listing = found.lights.listing("mailswitch.ha.readiness/1");
    listing.with("node", json!(node));
    listing.with("taker", json!(if own { None } else { Some(&context.settings.node.id) }));
    listing.with("ready", json!(worst != Light::Red));
    listing.with("predicted_ms", json!(predicted));
    let phases =
        json!({"detect": detect, "start": START_MS, "claim": found.probe_ms, "recover": found.recovery_ms});
    listing.with("phases_ms", phases);
    listing.with("recovery_ms", json!(found.recovery_ms));
    listing.with("messages", json!(found.messages));
    listing.with("messages_at_one_copy", json!(at_one_copy));
    let shown = context.show(&listing)?;
    if context.format == Format::Table {
        say(format_args!(
            "phases: detect {detect} ms, start a secondary {START_MS} ms, claim {} ms, recover {} ms (measured now, nothing was taken)",
            found.probe_ms, found.recovery_ms
        ))?;
        let after = format!("{}.{} s", predicted / 1_000, predicted % 1_000 / 100);
        say(match worst {
            Light::Red => format!("RED: if node {node} died now, its queue would not be taken over"),
            light @ (Light::Green | Light::Amber) => format!(
                "{}: if node {node} died now, its queue would be at work again after about {after}",
                light.as_str().to_uppercase()
            ),
        })?;
    }
    Ok(if worst == Light::Red { Exit::Failed } else { shown })
}

/// Who would take it, and whether he may.
fn taker(context: &Context, node: &NodeId, view: &HeartbeatdStatus, found: &mut Findings) {
    if *node == view.node {
        let takers: Vec<&str> =
            view.peers.iter().filter(|peer| peer.may_take()).map(|peer| peer.node.as_str()).collect();
        let text =
            format!("nodes that could take it: [{}]; ask one of them for its own view", takers.join(", "));
        found.lights.if_well("taker", !takers.is_empty(), Light::Red, text);
    } else {
        let paused = view.paused_until.is_some();
        let text = if paused { "takeovers by this node are paused" } else { "this node may take it" };
        found.lights.if_well("taker", !paused, Light::Red, text);
        let own = QueueId::of(view.node.clone());
        match context.ask_switch(&own, switch::Request::Ready) {
            Ok(switch::Answer::Ready(said)) => {
                let text = if said.ready { "takes mail".to_owned() } else { said.reasons.join("; ") };
                // A sick lease of one's own is an obstacle to every takeover; a full disk or a drain are not.
                let light = if said.state == "STORAGE_SICK" { Light::Red } else { Light::Amber };
                found.lights.if_well("own switch", said.ready, light, text);
            }
            Ok(_) => found.lights.add("own switch", Light::Amber, misfit().message),
            Err(why) => found.lights.add("own switch", Light::Amber, why.message),
        }
    }
    let twin = view.peers.iter().find(|peer| peer.node == *node);
    if let Some(peer) = twin {
        let up = peer.paths.iter().filter(|path| path.up).count();
        let text = format!("heard on {up} of {} paths", peer.paths.len());
        found.lights.if_well("heartbeats", up == peer.paths.len(), Light::Amber, text);
    }
    for peer in &view.peers {
        let own = env!("CARGO_PKG_VERSION");
        let text = format!("node {}: {}, this node: {own}", peer.node, or_unknown(&peer.version));
        found.lights.if_well("version", peer.version == own, Light::Amber, text);
        let text = format!(
            "node {}: {}, this node: {} (names, timers, relay, routes, retries)",
            peer.node,
            or_unknown(&peer.config_hash),
            view.config_hash
        );
        found.lights.if_well("configuration", peer.config_hash == view.config_hash, Light::Amber, text);
    }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

fn lease(node: &NodeId, view: &HeartbeatdStatus, timers: &Timers, found: &mut Findings) {
    let queue = view.queues.iter().find(|queue| queue.queue == QueueId::of(node.clone()));
    let age = queue.and_then(|queue| queue.lease_age_ms);
    let owner = queue.and_then(|queue| queue.owner.as_ref());
    match (queue, age, owner) {
        (Some(queue), Some(age), Some(owner)) => {
            let text = format!("epoch {} of {owner}, renewed {age} ms ago, {}", queue.epoch, queue.state);
            found.lights.if_well("lease", age <= millis(timers.window), Light::Amber, text);
            let text = if owner == node { "at home".to_owned() } else { format!("with node {owner}") };
            found.lights.if_well("owner", owner == node, Light::Amber, text);
        }
        _ => found.lights.add("lease", Light::Red, "it cannot be read from here; look at queue.dir"),
    }
}

/// How many messages would be gone with one disk; none where that is not ours to know.
fn copies(
    context: &Context,
    node: &NodeId,
    view: Option<&HeartbeatdStatus>,
    found: &mut Findings,
) -> Option<usize> {
    if context.settings.queue.storage == Storage::Shared {
        let text = "one file system for all nodes; how often it keeps each byte is its own affair";
        found.lights.add("copies", Light::Green, text);
        return None;
    }
    let queue = QueueId::of(node.clone());
    let status = view.and_then(|view| view.queues.iter().find(|status| status.queue == queue))?;
    let alone = if status.device_fault.is_some_and(Word::is_alarm) { found.messages } else { 0 };
    let text = format!("{alone} messages have one copy that counts; {}", or_unknown(&status.device));
    found.lights.if_well("copies", alone == 0, Light::Amber, text);
    Some(alone)
}

fn storage(context: &Context, timers: &Timers, found: &mut Findings) {
    let spool = &context.settings.queue.dir;
    match observe::probe(spool, daemon_kit::instance_id(), &SystemClock) {
        Ok(took) => {
            found.probe_ms = millis(took);
            let text =
                format!("a write with its sync took {} ms of {} ms", millis(took), millis(timers.renew));
            found.lights.if_well("storage", took <= timers.renew, Light::Red, text);
        }
        Err(error) => found.lights.add("storage", Light::Red, format!("{}: {error}", spool.display())),
    }
    match statvfs(spool) {
        Ok(stat) => {
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            let wanted =
                context.settings.queue.free_space_reserve.max(context.settings.queue.segment_size * 2);
            let text = format!("{} MiB free, {} MiB wanted", free >> 20, wanted >> 20);
            let light = if free < context.settings.queue.segment_size { Light::Red } else { Light::Amber };
            found.lights.if_well("space", free >= wanted, light, text);
        }
        Err(error) => found.lights.add("space", Light::Red, format!("{}: {error}", spool.display())),
    }
}

/// Reads the queue as recovery would, and takes the time.
fn queue(context: &Context, node: &NodeId, found: &mut Findings) {
    let began = SystemClock.now();
    match context.inspect(&QueueId::of(node.clone()), Depth::Books) {
        Ok(seen) => {
            found.recovery_ms = millis(SystemClock.now().since(began));
            found.messages = seen.replay.books.len();
            let faults = seen.replay.faults.len();
            let text =
                format!("{} messages read in {} ms, {faults} faults", found.messages, found.recovery_ms);
            found.lights.if_well("queue", faults == 0, Light::Amber, text);
        }
        Err(why) => found.lights.add("queue", Light::Red, why),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
