//! While a drill runs: is it safe still? A cluster stands the one fault that was ordered; what else goes wrong meanwhile ends
//! the drill, and its fault at once where the node can be told.

use std::path::PathBuf;
use std::time::Duration;

use control::Program;
use control::heartbeatd::{Answer, HeartbeatdStatus, Request};
use mail_model::NodeId;
use tokio::time::sleep;

use crate::command::{ANSWER_WITHIN, Context, Failure, misfit};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// A look alone may have met a moment's delay.
const LOOKS: u32 = 3;

pub(super) fn socket(context: &Context) -> PathBuf {
    control::paths::heartbeatd(&context.settings.node.state_dir)
}

/// How the heartbeatd of this node sees the cluster.
pub(super) async fn ask(context: &Context) -> Result<HeartbeatdStatus, Failure> {
    match control::ask(&socket(context), Request::Status, ANSWER_WITHIN).await? {
        Answer::Status(view) => Ok(*view),
        Answer::Done { .. } | Answer::Records(_) => Err(misfit()),
    }
}

/// Comes back once something besides the drill's own fault is wrong, and says what.
pub(super) async fn second_fault(context: &Context, hit: &NodeId) -> String {
    let mut seen = 0;
    loop {
        let why = match ask(context).await {
            Ok(view) => wrong(&view, hit),
            Err(failure) => Some(failure.message),
        };
        seen = if why.is_some() { seen + 1 } else { 0 };
        if let Some(why) = why.filter(|_| seen >= LOOKS) {
            return why;
        }
        sleep(LOOK_EVERY).await;
    }
}

fn wrong(view: &HeartbeatdStatus, hit: &NodeId) -> Option<String> {
    let others = view.peers.iter().filter(|peer| peer.node != *hit);
    let lost = others.filter(|peer| !peer.is_heard()).map(|peer| format!("node {} is not heard", peer.node));
    let unfit = view.unfit.iter().map(|why| format!("node {} could take no queue: {why}", view.node));
    lost.chain(unfit).next()
}

/// Has the node end its fault now. What came of it.
pub(super) async fn end_fault(context: &Context, hit: &NodeId) -> String {
    let told = async {
        let (node, members) = context.way(hit)?;
        control::ask_node(&node, &members, &Program::Heartbeatd, Request::DrillEnd, ANSWER_WITHIN).await?;
        Ok::<(), Failure>(())
    };
    match told.await {
        Ok(()) => format!("node {hit} was told to end its fault"),
        Err(failure) => {
            format!("node {hit} could not be told, so its fault ends by itself: {}", failure.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_besides_the_node_that_is_hit_is_a_second_fault() {
        let peer = |node: &str, up: bool| {
            serde_json::json!({
                "node": node, "state": "up", "version": "1", "config_hash": "x",
                "paths": [ { "address": "10.0.0.1:7100", "heard_ms_ago": 5, "up": up } ],
            })
        };
        let view = |peers: Vec<serde_json::Value>, unfit: &[&str]| -> HeartbeatdStatus {
            let text = serde_json::json!({
                "node": "a", "incarnation": 1, "peers": peers, "queues": [], "protection": "reduced",
                "unfit": unfit, "paused_until": null,
            });
            serde_json::from_value(text).unwrap()
        };
        let hit = NodeId::new("b").unwrap();
        assert_eq!(wrong(&view(vec![peer("b", false), peer("c", true)], &[]), &hit), None);
        let lost = wrong(&view(vec![peer("b", false), peer("c", false)], &[]), &hit).unwrap();
        assert_eq!(lost, "node c is not heard");
        let unfit =
            wrong(&view(vec![peer("b", false)], &["there is no room for one more queue"]), &hit).unwrap();
        assert!(unfit.contains("no room"), "{unfit}");
    }
}
