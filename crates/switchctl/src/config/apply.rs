//! The configuration of a node taken into use by the switches that run there, without a session that is dropped.
//!
//! Each of them reads its files again, its certificates and tables too, and checks them first: one that finds a fault says every
//! one and goes on as before. What only a restart changes is named.
//!
//! Never: the files of one node for the programs of another.

use control::Program;
use control::switch::{Answer, Request};
use mail_model::QueueId;
use queue_store::inspect;
use serde_json::json;

use crate::command::{Context, Failure, Outcome, misfit};
use crate::exit::Exit;
use crate::output::Listing;

/// Orders it of every switch of the node that is asked: its own, and those of queues that it took over.
pub(crate) fn apply(context: &Context) -> Outcome {
    let node = context.asked();
    let mut listing = Listing::new("mailswitch.config.apply/1", &["node", "queue", "answer"]);
    let mut runs = false;
    for queue in queues(context) {
        let answer = ask(context, &queue);
        runs |= !matches!(answer, Ok(None));
        match answer {
            Ok(Some(message)) => listing.row(vec![json!(node), json!(queue), json!(message)]),
            Ok(None) => {}
            Err(failure) => listing.lacks(format!("switch of queue {queue}"), &failure.message),
        }
    }
    if !runs {
        return Err(Failure::failed(format_args!(
            "no switch runs on node {node}; one that starts reads the configuration by itself"
        )));
    }
    let nothing = listing.is_empty();
    let exit = context.show(&listing)?;
    Ok(if exit == Exit::Partial && nothing { Exit::Failed } else { exit })
}

/// `None` if no switch of the queue runs there.
fn ask(context: &Context, queue: &QueueId) -> Result<Option<String>, Failure> {
    match context.ask_if_running(&Program::Switch(queue.clone()), Request::Reload)? {
        None => Ok(None),
        Some(Answer::Done { message }) => Ok(Some(message)),
        Some(
            Answer::Status(_)
            | Answer::Ready(_)
            | Answer::Operated(_)
            | Answer::Traced(_)
            | Answer::Metrics { .. },
        ) => Err(misfit()),
    }
}

/// Every queue that a switch could have there.
fn queues(context: &Context) -> Vec<QueueId> {
    let settings = &context.settings;
    let mut queues: Vec<QueueId> =
        settings.cluster.nodes.iter().map(|node| QueueId::of(node.id.clone())).collect();
    queues.extend(inspect::queues(&settings.queue.dir).unwrap_or_default());
    queues.sort();
    queues.dedup();
    queues
}
