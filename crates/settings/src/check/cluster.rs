//! The nodes, the heartbeat key, the protocol's timers and the order of takers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ::cluster::Timers;
use mail_model::NodeId;

use super::promoted;
use crate::model::{ClusterSettings, PeerSettings};
use crate::reader::{At, Reader};

/// A node's name.
pub(super) fn node_id<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Option<NodeId> {
    read.parsed(at, |text| text.parse().map_err(|error: mail_model::IdError| error.to_string()))
}

/// `cluster`, and that `node.id` is one of its nodes.
pub(super) fn cluster<'a>(read: &mut Reader<'a>, at: &At<'a>, node: &At<'a>) -> Option<ClusterSettings> {
    let id = read.required(
        &at.key("id"),
        |read, at| {
            read.parsed(at, |text| {
                let word = "is not a cluster's name: use 1 to 32 of a-z, 0-9 and '-', with a letter or digit at both ends";
                NodeId::new(text).map(|_| text.to_owned()).map_err(|_| format!("'{text}' {word}"))
            })
        },
        "name the cluster, the same on every node, for example 'id: demo'",
    );
    let here = node.key("id");
    let here_id: Option<NodeId> = here.quietly_text().and_then(|text| text.parse().ok());
    let nodes = at.key("nodes");
    let several = nodes.items().len() > 1;
    let (mut peers, witness) = peers(read, &nodes, several);
    let names: Vec<NodeId> = peers.iter().chain(&witness).map(|peer| peer.id.clone()).collect();
    let etcd = promoted::etcd(read, &at.key("arbiter"), witness.as_ref());
    if let Some(id) = &here_id {
        if peers.is_empty() && !nodes.is_there() {
            peers.push(PeerSettings { id: id.clone(), heartbeat: Vec::new(), control: None });
        } else if !names.contains(id) {
            let known: Vec<&str> = names.iter().map(NodeId::as_str).collect();
            let what = format!(
                "'{id}' is none of cluster.nodes ({}); write one of them, or add it there",
                known.join(", ")
            );
            read.fault(&here, what);
        }
    }
    let key_file = read.path(&at.key("key_file"));
    if several && !at.key("key_file").is_there() {
        let what = "missing, and nodes prove themselves by it; write 'key_file: cluster.key' and run 'switchctl cluster keygen'";
        read.fault(&at.key("key_file"), what);
    }
    let takeover = at.key("takeover");
    let timers = timers(read, &takeover);
    let (takeover_order, takeover_named) = order(read, &takeover.key("order"), &peers);
    Some(ClusterSettings {
        id: id?,
        nodes: peers,
        witness,
        etcd,
        key_file,
        timers,
        takeover_order,
        takeover_named,
    })
}

/// The nodes with a queue, and the witness.
fn peers<'a>(
    read: &mut Reader<'a>,
    nodes: &At<'a>,
    several: bool,
) -> (Vec<PeerSettings>, Option<PeerSettings>) {
    let mut peers: Vec<PeerSettings> = Vec::new();
    let mut witness: Option<PeerSettings> = None;
    let mut heartbeats: BTreeMap<SocketAddr, String> = BTreeMap::new();
    let mut controls: BTreeMap<SocketAddr, String> = BTreeMap::new();
    if nodes.is_there() && nodes.has_no_items() {
        read.fault(nodes, "no node; list this one and its peers, or remove the key to stand alone");
    }
    for item in nodes.items() {
        let at = item.key("id");
        let id = read.required(&at, node_id, "name the node, for example 'id: a'");
        if let Some(id) = &id
            && peers.iter().chain(&witness).any(|peer| peer.id == *id)
        {
            read.fault(&at, format!("node '{id}' is listed twice; give every node its own name"));
        }
        let name = id.as_ref().map_or_else(|| "another node".to_owned(), ToString::to_string);
        let mut heartbeat = Vec::new();
        for path in item.key("heartbeat").items() {
            heartbeat.extend(reachable(read, &path, &name, &mut heartbeats));
        }
        if several && item.key("heartbeat").items().is_empty() {
            let what = format!(
                "node '{name}' has no heartbeat address; write 'heartbeat: [ADDRESS:PORT]', one for each path"
            );
            read.fault(&item.key("heartbeat"), what);
        }
        let control = reachable(read, &item.key("control"), &name, &mut controls);
        let peer = id.map(|id| PeerSettings { id, heartbeat, control });
        if !read.flag(&item.key("witness")).unwrap_or(false) {
            peers.extend(peer);
        } else if let Some(other) = &witness {
            let what = format!("node '{}' is the witness already; one is enough, remove this one", other.id);
            read.fault(&item.key("witness"), what);
        } else {
            if control.is_none() {
                let what = "a witness is asked there; write 'control: ADDRESS:PORT'";
                read.fault(&item.key("control"), what);
            }
            witness = peer;
        }
    }
    if peers.is_empty() && witness.is_some() {
        read.fault(nodes, "only a witness, and no node with a queue; list those, too");
    }
    (peers, witness)
}

/// An address that other nodes send to, and that nobody else has.
fn reachable<'a>(
    read: &mut Reader<'a>,
    at: &At<'a>,
    name: &str,
    seen: &mut BTreeMap<SocketAddr, String>,
) -> Option<SocketAddr> {
    let address = read.address(at)?;
    if address.ip().is_unspecified() || address.port() == 0 {
        read.fault(at, format!("nobody can send to {address}; write the node's own address and a port"));
    } else if let Some(other) = seen.get(&address) {
        read.fault(at, format!("{address} is an address of {other} already; give each its own"));
    } else {
        seen.insert(address, name.to_owned());
    }
    Some(address)
}

fn timers<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Timers {
    let window = at.key("window");
    // The window's own bounds are a rule of the timers; noted below, once.
    let any = Duration::ZERO..=Duration::from_hours(24);
    let written = read.duration(&window, any);
    let mut timers = written.map_or_else(Timers::default, Timers::for_window);
    let noticeable = Duration::from_millis(10)..=Duration::from_hours(24);
    let waits = Duration::ZERO..=Duration::from_hours(24);
    for (key, timer, bounds) in [
        ("renew", &mut timers.renew, &noticeable),
        ("observe", &mut timers.observe, &noticeable),
        ("own_limit", &mut timers.own_limit, &noticeable),
        ("heartbeat", &mut timers.heartbeat, &noticeable),
        ("suspect", &mut timers.suspect, &noticeable),
        ("stagger", &mut timers.stagger, &waits),
        ("handback_hold", &mut timers.handback_hold, &waits),
        ("grace", &mut timers.grace, &waits),
    ] {
        if let Some(span) = read.duration(&at.key(key), bounds.clone()) {
            *timer = span;
        }
    }
    let window_is_bad = window.is_there() && written.is_none();
    for fault in timers.faults() {
        // A rule speaks of one timer in its first word, and of the window.
        let key = fault.rule.split(' ').next().unwrap_or_default();
        let key = if at.key(key).is_there() { at.key(key) } else { window.clone() };
        if !window_is_bad {
            read.fault(&key, format!("the rule is: {}; {}", fault.rule, fault.remedy));
        }
    }
    if timers.suspect <= timers.heartbeat {
        let key = if at.key("suspect").is_there() { "suspect" } else { "heartbeat" };
        read.fault(&at.key(key), "suspect must be longer than heartbeat; set it to three heartbeats or more");
    }
    timers
}

fn order<'a>(read: &mut Reader<'a>, at: &At<'a>, peers: &[PeerSettings]) -> (Vec<NodeId>, usize) {
    let mut order: Vec<NodeId> = Vec::new();
    for item in at.items() {
        let Some(id) = node_id(read, &item) else { continue };
        if !peers.iter().any(|peer| peer.id == id) {
            read.fault(&item, format!("'{id}' is none of cluster.nodes; remove it, or list the node there"));
        } else if order.contains(&id) {
            read.fault(&item, format!("'{id}' stands in the order twice; remove one"));
        } else {
            order.push(id);
        }
    }
    let named = order.len();
    for peer in peers {
        if !order.contains(&peer.id) {
            order.push(peer.id.clone());
        }
    }
    (order, named)
}
