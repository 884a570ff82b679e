//! Who hears whom: what a heartbeatd hears, and what the others say that they hear.
//!
//! What a node says is as old as its last heartbeat, so a node that is not heard now has said nothing.

use control::heartbeatd::HeartbeatdStatus;
use mail_model::NodeId;
use serde_json::{Value, json};

use super::ask::{Page, ask_heartbeatd};
use crate::command::{Context, Failure, render};
use crate::output::{Format, Listing};

const SCHEMA: &str = "mailswitch.status.matrix/1";

/// The paths on which one node hears another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// It is the node itself.
    Itself,
    /// So many of so many.
    Paths(u32, usize),
    /// The node that would know is not heard.
    Unknown,
}

/// A square for people; a row for each pair for programs.
pub(super) fn page(context: &Context) -> Page {
    let view = ask_heartbeatd(context, context.asked()).map_err(Failure::failed)?;
    let cluster = &context.settings.cluster;
    let nodes = cluster.nodes.iter().chain(&cluster.witness);
    let nodes: Vec<(&NodeId, usize)> = nodes.map(|node| (&node.id, node.heartbeat.len())).collect();
    let mut listing = match context.format {
        Format::Table => square(&view, &nodes),
        Format::Json | Format::Jsonl | Format::Tsv | Format::PostqueueJson => pairs(&view, &nodes),
    };
    for peer in view.peers.iter().filter(|peer| !peer.is_heard()) {
        listing.lacks(format!("node {}", peer.node), &"it is not heard on any path");
    }
    let mut page = Vec::new();
    let exit = render(context.format, &listing, &mut page)?;
    Ok((page, exit))
}

fn square(view: &HeartbeatdStatus, nodes: &[(&NodeId, usize)]) -> Listing {
    let mut columns = vec!["hears"];
    columns.extend(nodes.iter().map(|(node, _)| node.as_str()));
    let mut listing = Listing::new(SCHEMA, &columns);
    for (from, _) in nodes {
        let mut row = vec![json!(from)];
        row.extend(nodes.iter().map(|(to, paths)| match cell(view, from, to, *paths) {
            Cell::Itself => Value::Null,
            Cell::Paths(up, all) => json!(format!("{up} of {all}")),
            Cell::Unknown => json!("?"),
        }));
        listing.row(row);
    }
    listing
}

fn pairs(view: &HeartbeatdStatus, nodes: &[(&NodeId, usize)]) -> Listing {
    let mut listing = Listing::new(SCHEMA, &["from", "to", "paths_up", "paths"]);
    for (from, _) in nodes {
        for (to, paths) in nodes {
            let up = match cell(view, from, to, *paths) {
                Cell::Itself => continue,
                Cell::Paths(up, _) => json!(up),
                Cell::Unknown => Value::Null,
            };
            listing.row(vec![json!(from), json!(to), up, json!(paths)]);
        }
    }
    listing
}

fn cell(view: &HeartbeatdStatus, from: &NodeId, to: &NodeId, paths: usize) -> Cell {
    if from == to {
        return Cell::Itself;
    }
    let peer = |node: &NodeId| view.peers.iter().find(|peer| peer.node == *node);
    if *from == view.node {
        let up = peer(to).map_or(0, |peer| peer.paths.iter().filter(|path| path.up).count());
        return Cell::Paths(u32::try_from(up).unwrap_or(u32::MAX), paths);
    }
    match peer(from).filter(|peer| peer.is_heard()) {
        Some(peer) => {
            let said = peer.hears.iter().find(|hears| hears.node == *to);
            Cell::Paths(said.map_or(0, |hears| hears.paths), paths)
        }
        None => Cell::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use control::heartbeatd::{HearsStatus, PathStatus, PeerStatus};
    use expect_test::expect;

    use super::*;

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn peer(name: &str, up: [bool; 2], hears: &[(&str, u32)]) -> PeerStatus {
        let path = |up| PathStatus { address: "x".to_owned(), heard_ms_ago: Some(1), up };
        PeerStatus {
            node: node(name),
            paths: up.map(path).to_vec(),
            hears: hears
                .iter()
                .map(|(name, paths)| HearsStatus { node: node(name), paths: *paths })
                .collect(),
            state: "up".to_owned(),
            version: String::new(),
            config_hash: String::new(),
            paused: false,
            smtp: None,
            drill: None,
            witness: false,
        }
    }

    /// a hears b on one path and c on none; b hears both.
    fn view() -> HeartbeatdStatus {
        HeartbeatdStatus {
            node: node("a"),
            incarnation: 1,
            peers: vec![
                peer("b", [true, false], &[("a", 2), ("c", 1)]),
                peer("c", [false, false], &[("a", 2)]),
            ],
            queues: Vec::new(),
            protection: "full".to_owned(),
            unfit: Vec::new(),
            paused_until: None,
            config_hash: String::new(),
            smtp: None,
            drill: None,
        }
    }

    fn shown(format: Format, listing: &Listing) -> String {
        let mut out = Vec::new();
        listing.write(format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_node_says_whom_it_hears_and_a_silent_one_says_nothing() {
        let (a, b, c) = (node("a"), node("b"), node("c"));
        let nodes = [(&a, 2), (&b, 2), (&c, 2)];
        expect![[r"
            HEARS  A       B       C
            a      -       1 of 2  0 of 2
            b      2 of 2  -       1 of 2
            c      ?       ?       -
        "]]
        .assert_eq(&shown(Format::Table, &square(&view(), &nodes)));
        let rows = shown(Format::Tsv, &pairs(&view(), &nodes));
        assert_eq!(
            rows,
            "from\tto\tpaths_up\tpaths\na\tb\t1\t2\na\tc\t0\t2\nb\ta\t2\t2\nb\tc\t1\t2\nc\ta\t-\t2\nc\tb\t-\t2\n"
        );
    }
}
