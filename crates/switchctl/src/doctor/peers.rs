//! The programs of this node, the other nodes, their versions, ways and clocks.

use std::net::SocketAddr;
use std::time::Duration;

use control::heartbeatd::{Answer, HeartbeatdStatus, PeerStatus, Request};
use control::switch;
use daemon_kit::SystemClock;
use mail_model::{Clock, QueueId};

use super::finding::Findings;
use crate::command::{Context, misfit};
use crate::lb;
use crate::lights::Light;

/// A date in HTTP has whole seconds, and an answer takes its time.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

pub(super) fn look(context: &Context, findings: &mut Findings) {
    own_switch(context, findings);
    if context.settings.cluster.nodes.len() == 1 {
        findings.ok("peers", "this node stands alone");
        return;
    }
    let view = match context.ask_heartbeatd(Request::Status) {
        Ok(Answer::Status(view)) => view,
        Ok(Answer::Done { .. } | Answer::Records(_)) => {
            findings.bad("heartbeatd", misfit().message, "restart heartbeatd");
            return;
        }
        Err(failure) => {
            findings.bad(
                "heartbeatd",
                failure.message,
                "without it nobody is watched: systemctl start heartbeatd",
            );
            return;
        }
    };
    let state = if view.protection == "full" { Light::Green } else { Light::Amber };
    findings.add(
        "heartbeatd",
        state,
        &format_args!("protection: {}", view.protection),
        &"see the lines below",
    );
    for why in &view.unfit {
        findings.warn(
            "takeover",
            format_args!("this node could take no queue: {why}"),
            "see: switchctl ha status",
        );
    }
    for peer in &view.peers {
        paths(peer, findings);
        likeness(&view, peer, findings);
    }
    clocks(context, &view, findings);
}

fn own_switch(context: &Context, findings: &mut Findings) {
    let own = QueueId::of(context.settings.node.id.clone());
    let answer = context.ask_switch(&own, switch::Request::Status);
    let status = match answer {
        Ok(switch::Answer::Status(status)) => status,
        Ok(_) => return findings.bad("switch", misfit().message, "restart the switch"),
        Err(failure) => {
            return findings.bad(
                "switch",
                failure.message,
                format_args!("systemctl start switch@{own}; its log says why it ended"),
            );
        }
    };
    if status.ready {
        findings.ok("switch", format_args!("{}, takes mail, version {}", status.state, status.version));
    } else {
        findings.bad(
            "switch",
            format_args!("takes no mail: {}", status.reasons.join("; ")),
            "its log says more",
        );
    }
    let here = env!("CARGO_PKG_VERSION");
    if status.version != here {
        let found = format!("the switch runs {}, switchctl is {here}", status.version);
        findings.warn("versions", found, "systemctl restart switch@NODE: it still runs the old program");
    }
}

/// The ways its heartbeats come.
fn paths(peer: &PeerStatus, findings: &mut Findings) {
    let up = peer.paths.iter().filter(|path| path.up).count();
    let silent: Vec<&str> =
        peer.paths.iter().filter(|path| !path.up).map(|path| path.address.as_str()).collect();
    let state = match (up, silent.len()) {
        (0, _) => Light::Red,
        (_, 0) => Light::Green,
        _ => Light::Amber,
    };
    let silent = if silent.is_empty() { String::new() } else { format!(", silent: {}", silent.join(", ")) };
    findings.add(
        "heartbeats",
        state,
        &format_args!("node {} is heard on {up} of {} paths{silent}", peer.node, peer.paths.len()),
        &"does it run, has it the same key, does a firewall let UDP pass? See: switchctl status --matrix",
    );
}

/// The same version and the same configuration of the cluster.
fn likeness(view: &HeartbeatdStatus, peer: &PeerStatus, findings: &mut Findings) {
    let here = env!("CARGO_PKG_VERSION");
    if peer.version.is_empty() {
        return;
    }
    let state = if peer.version == here { Light::Green } else { Light::Amber };
    let found = format!("node {} runs {}, here it is {here}", peer.node, peer.version);
    findings.add(
        "versions",
        state,
        &found,
        &"fine during an upgrade; bring all nodes to one version after it",
    );
    let same = view.config_hash == peer.config_hash;
    let state = if same { Light::Green } else { Light::Amber };
    let found = if same { "the same" } else { "another" };
    findings.add(
        "configurations",
        state,
        &format_args!("node {} has {found} configuration", peer.node),
        &"compare the files: switchctl config diff OTHER",
    );
}

/// Ownership does not rest on clocks. Retry times, lifetimes and dates in messages do.
fn clocks(context: &Context, view: &HeartbeatdStatus, findings: &mut Findings) {
    let Some(health) = context.settings.health else {
        findings.warn(
            "clock",
            "cannot be compared with peers",
            "set health.address: the peers' answers have a date",
        );
        return;
    };
    for (node, address) in lb::places(&context.settings, Some(view)) {
        if node == context.settings.node.id {
            continue;
        }
        match lb::date(SocketAddr::new(address, health.port())) {
            Ok(theirs) => {
                let here = SystemClock.wall();
                let apart = here.since(theirs).max(theirs.since(here));
                let state = if apart > CLOCK_TOLERANCE { Light::Amber } else { Light::Green };
                findings.add(
                    "clock",
                    state,
                    &format_args!("node {node} is less than {} s apart", apart.as_secs() + 1),
                    &"let both machines keep time: timedatectl set-ntp true",
                );
            }
            Err(why) => {
                let remedy = "let this node reach its health.address, if clocks are to be compared";
                findings.warn("clock", format_args!("node {node} cannot be asked: {why}"), remedy);
            }
        }
    }
}
