//! A node leaves the cluster in order and comes back.
//!
//! Leaving: health probes say 503 while clients are greeted still, so that balancers go elsewhere; after that notice new
//! clients get 421, sessions and attempts finish, the queue is released, the switch ends. What is left in the queue is taken
//! by a peer. The node stays away until it is told to come back, or its service is started.

use std::time::Duration;

use control::heartbeatd::{Answer, HeartbeatdStatus, PeerStatus, Request};
use control::{heartbeatd, switch};
use daemon_kit::SystemClock;
use mail_model::{Clock, NodeId, QueueId};
use serde_json::{Value, json};

use crate::command::{Context, Failure, Outcome, misfit, say};
use crate::exit::Exit;
use crate::output::Listing;

/// How long sessions and the release may take beyond notice and grace.
const MARGIN: Duration = Duration::from_secs(15);
/// How long a switch may take until it takes mail.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Every node as one node's heartbeatd sees it.
pub(crate) fn show(context: &Context) -> Outcome {
    let view = view(context)?;
    let mut listing = Listing::new(
        "mailswitch.node.show/1",
        &["node", "state", "heard", "version", "config", "smtp", "paused", "owns"],
    );
    let owns = |node: &NodeId| -> Vec<Value> {
        let queues = view.queues.iter().filter(|queue| queue.owner.as_ref() == Some(node));
        queues.map(|queue| json!(queue.queue)).collect()
    };
    listing.row(vec![
        json!(view.node),
        json!("up"),
        json!("itself"),
        json!(env!("CARGO_PKG_VERSION")),
        json!(view.config_hash),
        json!(view.smtp),
        json!(view.paused_until.is_some()),
        json!(owns(&view.node)),
    ]);
    for peer in &view.peers {
        let up = peer.paths.iter().filter(|path| path.up).count();
        listing.row(vec![
            json!(peer.node),
            json!(if up == 0 { "not heard" } else { peer.state.as_str() }),
            json!(format!("{up} of {} paths", peer.paths.len())),
            json!(peer.version),
            json!(peer.config_hash),
            json!(peer.smtp),
            json!(peer.paused),
            json!(owns(&peer.node)),
        ]);
    }
    context.show(&listing)
}

/// Takes the node out. Refused with 4 where nobody could take what is left in its queue.
pub(crate) fn drain(context: &Context, notice: Duration, force: bool) -> Outcome {
    let own = QueueId::of(context.asked().clone());
    if !force {
        nobody_else(context)?;
    }
    let grace = context.settings.cluster.timers.grace;
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let order = switch::Request::Drain { grace_ms: ms(grace), notice_ms: ms(notice) };
    context.ask_switch(&own, order)?;
    say(format_args!(
        "node {}: balancers are told to go elsewhere; in {} s new clients get 421",
        own.home(),
        notice.as_secs()
    ))?;
    let deadline = SystemClock.now() + notice + grace + MARGIN;
    while SystemClock.now() < deadline {
        if context.ask_switch(&own, switch::Request::Ready).is_err() {
            say(format_args!(
                "node {}: the switch has released its queue and ended; come back with: switchctl node resume",
                own.home()
            ))?;
            return Ok(Exit::Ok);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Err(Failure::new(Exit::Timeout, "the switch drains still; look at: switchctl status"))
}

/// Fails if no other node could take the queue.
fn nobody_else(context: &Context) -> Result<(), Failure> {
    let unsafe_now = |why: &str| {
        let text =
            format!("{why}, so nobody would deliver what is left in the queue; --force drains all the same");
        Err(Failure::new(Exit::Unsafe, text))
    };
    let Ok(view) = view(context) else {
        return unsafe_now("heartbeatd of the node does not answer");
    };
    if view.peers.iter().any(PeerStatus::may_take) {
        Ok(())
    } else {
        unsafe_now("no other node is heard that could take the queue over")
    }
}

/// Brings the node back.
pub(crate) fn resume(context: &Context) -> Outcome {
    let own = QueueId::of(context.asked().clone());
    let deadline = SystemClock.now() + START_PATIENCE;
    let answer = loop {
        match context.ask_heartbeatd(Request::StartPrimary) {
            // The one that was drained may be about to end.
            Err(failure) if failure.exit == Exit::Failed && SystemClock.now() < deadline => {
                std::thread::sleep(LOOK_EVERY);
            }
            answer => break answer?,
        }
    };
    match answer {
        Answer::Done { message } => say(format_args!("node {}: {message}", own.home()))?,
        Answer::Status(_) | Answer::Records(_) => return Err(misfit()),
    }
    let mut reasons = vec!["it does not answer yet".to_owned()];
    while SystemClock.now() < deadline {
        if let Ok(switch::Answer::Ready(readiness)) = context.ask_switch(&own, switch::Request::Ready) {
            if readiness.ready {
                say(format_args!("node {}: ready", own.home()))?;
                return Ok(Exit::Ok);
            }
            reasons = readiness.reasons;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let why = reasons.join("; ");
    Err(Failure::new(
        Exit::Timeout,
        format_args!("not ready after {} s: {why}; look at: switchctl status", START_PATIENCE.as_secs()),
    ))
}

fn view(context: &Context) -> Result<HeartbeatdStatus, Failure> {
    match context.ask_heartbeatd(heartbeatd::Request::Status)? {
        Answer::Status(view) => Ok(*view),
        Answer::Done { .. } | Answer::Records(_) => Err(misfit()),
    }
}
