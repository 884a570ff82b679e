//! What the programs of this node log: asked, and changed, over their control sockets.

use control::{CallError, heartbeatd, paths, switch};
use mail_model::QueueId;

use crate::command::{Context, Outcome, misfit, say};
use crate::exit::Exit;

/// Orders the same of every program that runs here; without an order it only asks. One that does not run is left out.
pub(crate) fn run(context: &Context, order: &str) -> Outcome {
    let state_dir = &context.settings.node.state_dir;
    let mut told = false;
    let request = heartbeatd::Request::Log { order: order.to_owned() };
    if let Some(answer) = context.ask_if_running(&paths::heartbeatd(state_dir), request)? {
        let heartbeatd::Answer::Done { message } = answer else { return Err(misfit()) };
        say(format_args!("heartbeatd: {message}"))?;
        told = true;
    }
    for node in &context.settings.cluster.nodes {
        let queue = QueueId::of(node.id.clone());
        let request = switch::Request::Log { order: order.to_owned() };
        if let Some(answer) = context.ask_if_running(&paths::switch(state_dir, &queue), request)? {
            let switch::Answer::Done { message } = answer else { return Err(misfit()) };
            say(format_args!("switch of queue {queue}: {message}"))?;
            told = true;
        }
    }
    if told {
        return Ok(Exit::Ok);
    }
    let listener = "mailswitch".to_owned();
    Err(CallError::NotRunning { listener, path: state_dir.clone() }.into())
}
