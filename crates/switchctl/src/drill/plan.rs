//! Whether a drill may be done now. Decides only, over what the heartbeatd of this node sees.
//!
//! A drill takes protection away for a while: nothing else may be wrong, or one more fault would meet a cluster that cannot
//! stand it.

use std::net::SocketAddr;
use std::time::Duration;

use cluster::drill::DrillStage;
use control::heartbeatd::{HeartbeatdStatus, PeerStatus};
use mail_model::{NodeId, QueueId, Role};

use super::options::Options;
use crate::demo::leases::History;

/// What a fault lasts beyond two windows: time for the takeover and the drain.
const BEYOND: Duration = Duration::from_secs(4);

/// A drill that may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The queue whose home is hit.
    pub(crate) queue: QueueId,
    /// How long the fault lasts.
    pub(crate) span: Duration,
    /// Listeners that get probe mail.
    pub(crate) targets: Vec<SocketAddr>,
    /// Oddities that are no obstacle.
    pub(crate) warnings: Vec<String>,
    /// Name, version and configuration of every node that says them.
    pub(crate) nodes: Vec<(NodeId, String, String)>,
}

impl Plan {
    /// The plan, or every reason against it.
    pub(crate) fn check(
        options: &Options,
        view: &HeartbeatdStatus,
        leases: &History,
        window: Duration,
    ) -> Result<Self, Vec<String>> {
        let mut against = Vec::new();
        let mut forbid = |found: bool, text: String| {
            if found {
                against.push(text);
            }
        };
        let node = &options.node;
        forbid(
            *node == view.node,
            format!("node {node} is this one, which must watch; order the drill from another node"),
        );
        forbid(
            view.protection != "full",
            format!("protection is not full ({}); wait until it is", view.protection),
        );
        let own_drill = view.drill.as_ref().is_some_and(|drill| is_open(&drill.stage));
        forbid(own_drill, "a drill hits this node now".to_owned());
        for peer in &view.peers {
            let name = &peer.node;
            forbid(!peer.is_heard(), format!("node {name} is not heard"));
            forbid(peer.state != "up", format!("node {name} says that it is '{}'", peer.state));
            forbid(peer.paused, format!("takeovers by node {name} are paused"));
            let drill = peer.drill.as_ref().is_some_and(|drill| is_open(&drill.stage));
            forbid(drill, format!("a drill hits node {name} now"));
        }
        let homes = view.peers.iter().filter(|peer| !peer.witness).map(|peer| &peer.node);
        for home in homes.chain([&view.node]) {
            let lease = leases.of(&QueueId::of(home.clone()));
            let at_home = lease.is_some_and(|l| l.owner == *home && l.role == Role::Primary && l.working);
            forbid(!at_home, format!("the queue of node {home} is not at work at its home"));
        }
        let targets = match options.through {
            Some(address) => vec![address],
            None => view.smtp.into_iter().chain(view.peers.iter().filter_map(|peer| peer.smtp)).collect(),
        };
        forbid(
            targets.is_empty(),
            "no node has a listener that speaks SMTP in clear at first; name a balancer by --through"
                .to_owned(),
        );
        if against.is_empty() {
            let span = options.span.unwrap_or(window * 2 + BEYOND);
            let queue = QueueId::of(node.clone());
            Ok(Self { queue, span, targets, warnings: warnings(view), nodes: nodes_of(view) })
        } else {
            Err(against)
        }
    }
}

fn is_open(stage: &DrillStage) -> bool {
    match stage {
        DrillStage::Announced { .. } | DrillStage::Running => true,
        DrillStage::Over | DrillStage::Refused { .. } => false,
    }
}

fn nodes_of(view: &HeartbeatdStatus) -> Vec<(NodeId, String, String)> {
    let own = (view.node.clone(), env!("CARGO_PKG_VERSION").to_owned(), view.config_hash.clone());
    let peer = |peer: &PeerStatus| (peer.node.clone(), peer.version.clone(), peer.config_hash.clone());
    std::iter::once(own).chain(view.peers.iter().map(peer)).collect()
}

fn warnings(view: &HeartbeatdStatus) -> Vec<String> {
    let own = env!("CARGO_PKG_VERSION");
    view.peers
        .iter()
        .filter(|peer| peer.version != own)
        .map(|peer| format!("node {} runs version {}, this one {own}", peer.node, peer.version))
        .collect()
}

#[cfg(test)]
mod tests {
    use cluster::drill::{DrillFault, DrillWord};
    use cluster::observe::LeaseView;
    use control::heartbeatd::PathStatus;
    use mail_model::{Epoch, LeaseState, Moment};

    use super::*;
    use crate::demo::leases::Seen;

    fn options() -> Options {
        Options {
            fault: DrillFault::Kill,
            node: "b".parse().unwrap(),
            slo: Duration::from_secs(5),
            span: None,
            rate: 20,
            through: None,
            sink: None,
            dry_run: false,
        }
    }

    fn view() -> HeartbeatdStatus {
        let peer = PeerStatus {
            node: "b".parse().unwrap(),
            paths: vec![PathStatus { address: "x".to_owned(), heard_ms_ago: Some(1), up: true }],
            hears: Vec::new(),
            state: "up".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_hash: "1".to_owned(),
            paused: false,
            smtp: Some(SocketAddr::from(([127, 0, 0, 1], 2525))),
            drill: None,
            witness: false,
        };
        HeartbeatdStatus {
            node: "a".parse().unwrap(),
            incarnation: 1,
            peers: vec![peer],
            queues: Vec::new(),
            unfit: Vec::new(),
            protection: "full".to_owned(),
            paused_until: None,
            config_hash: "2".to_owned(),
            smtp: None,
            drill: None,
        }
    }

    fn leases() -> History {
        let seen = |name: &str| Seen {
            at: Moment(0),
            queue: name.parse().unwrap(),
            lease: LeaseView {
                epoch: Epoch(1),
                owner: name.parse().unwrap(),
                role: Role::Primary,
                seq: 1,
                state: Some(LeaseState::Active),
                working: true,
                window_ms: 2_000,
                renew_ms: 300,
                queued: 0,
            },
        };
        History { changes: Vec::new(), latest: vec![seen("a"), seen("b")] }
    }

    fn against(view: &HeartbeatdStatus, leases: &History) -> usize {
        Plan::check(&options(), view, leases, Duration::from_secs(2)).map_or_else(|why| why.len(), |_| 0)
    }

    #[test]
    fn a_drill_is_done_only_while_nothing_else_is_wrong() {
        assert_eq!(against(&view(), &leases()), 0);
        let spoilt: [fn(&mut HeartbeatdStatus, &mut History); 8] = [
            |view, _| view.protection = "reduced: b is with a".to_owned(),
            |view, _| view.peers[0].paths[0].up = false,
            |view, _| view.peers[0].state = "draining".to_owned(),
            |view, _| view.peers[0].paused = true,
            |view, _| view.drill = Some(DrillWord { id: 1, stage: DrillStage::Running }),
            |view, _| view.peers[0].drill = Some(DrillWord { id: 1, stage: DrillStage::Running }),
            |_, leases| leases.latest[1].lease.owner = "a".parse().unwrap(),
            |view, _| view.peers[0].smtp = None,
        ];
        for (index, spoil) in spoilt.into_iter().enumerate() {
            let (mut view, mut leases) = (view(), leases());
            spoil(&mut view, &mut leases);
            assert_eq!(against(&view, &leases), 1, "{index}");
        }
        let mut over = view();
        over.peers[0].drill = Some(DrillWord { id: 1, stage: DrillStage::Over });
        assert_eq!(against(&over, &leases()), 0, "a drill that is over is no obstacle");
        let mut watched = view();
        let witness =
            PeerStatus { node: "w".parse().unwrap(), witness: true, smtp: None, ..watched.peers[0].clone() };
        watched.peers.push(witness);
        assert_eq!(against(&watched, &leases()), 0, "a witness has no queue");
    }

    #[test]
    fn a_node_does_not_drill_itself() {
        let own = Options { node: "a".parse().unwrap(), ..options() };
        let why = Plan::check(&own, &view(), &leases(), Duration::from_secs(2)).unwrap_err();
        assert!(why.iter().any(|why| why.contains("another node")), "{why:?}");
    }
}
