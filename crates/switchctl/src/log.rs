//! What the programs of a node log: asked, and changed.

use control::{CallError, Program, heartbeatd, switch};
use mail_model::QueueId;

use crate::command::{Context, Outcome, misfit, say};
use crate::exit::Exit;

/// Orders the same of every program that runs here; without an order it only asks. One that does not run is left out.
pub(crate) fn run(context: &Context, order: &str) -> Outcome {
    let mut told = false;
    let request = heartbeatd::Request::Log { order: order.to_owned() };
    if let Some(answer) = context.ask_if_running(&Program::Heartbeatd, request)? {
        let heartbeatd::Answer::Done { message } = answer else { return Err(misfit()) };
        say(format_args!("heartbeatd: {message}"))?;
        told = true;
    }
    for node in &context.settings.cluster.nodes {
        let queue = QueueId::of(node.id.clone());
        let request = switch::Request::Log { order: order.to_owned() };
        if let Some(answer) = context.ask_if_running(&Program::Switch(queue.clone()), request)? {
            let switch::Answer::Done { message } = answer else { return Err(misfit()) };
            say(format_args!("switch of queue {queue}: {message}"))?;
            told = true;
        }
    }
    if told {
        return Ok(Exit::Ok);
    }
    let listener = "mailswitch".to_owned();
    Err(CallError::NotRunning { listener, path: context.settings.node.state_dir.clone() }.into())
}
