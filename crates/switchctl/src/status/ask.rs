//! The programs of a node, asked; without an answer there is a sentence.

use control::heartbeatd::HeartbeatdStatus;
use control::switch::SwitchStatus;
use control::{Program, heartbeatd, switch};
use mail_model::{NodeId, QueueId};

use crate::command::{ANSWER_WITHIN, Context, Failure, misfit};
use crate::exit::Exit;

/// A page as it will be printed, and how the command ends.
pub(super) type Page = Result<(Vec<u8>, Exit), Failure>;

/// What the programs of a node say, or why they say nothing.
pub(super) struct Said {
    /// The switch of its own queue.
    pub(super) switch: Result<SwitchStatus, String>,
    pub(super) heartbeatd: Result<HeartbeatdStatus, String>,
}

/// What a node says.
pub(super) fn ask(context: &Context, node: &NodeId) -> Said {
    let switch = ask_switch(context, node, &QueueId::of(node.clone()));
    Said { switch, heartbeatd: ask_heartbeatd(context, node) }
}

/// What the switch of a queue says, on a node.
pub(super) fn ask_switch(context: &Context, node: &NodeId, queue: &QueueId) -> Result<SwitchStatus, String> {
    let program = Program::Switch(queue.clone());
    match context.ask(node, &program, switch::Request::Status, ANSWER_WITHIN) {
        Ok(switch::Answer::Status(status)) => Ok(*status),
        Ok(
            switch::Answer::Ready(_)
            | switch::Answer::Done { .. }
            | switch::Answer::Operated(_)
            | switch::Answer::Traced(_)
            | switch::Answer::Metrics { .. },
        ) => Err(misfit().message),
        Err(Failure { message, .. }) => Err(message),
    }
}

/// What the heartbeatd of a node says.
pub(super) fn ask_heartbeatd(context: &Context, node: &NodeId) -> Result<HeartbeatdStatus, String> {
    match context.ask(node, &Program::Heartbeatd, heartbeatd::Request::Status, ANSWER_WITHIN) {
        Ok(heartbeatd::Answer::Status(status)) => Ok(*status),
        Ok(heartbeatd::Answer::Done { .. } | heartbeatd::Answer::Records(_)) => Err(misfit().message),
        Err(Failure { message, .. }) => Err(message),
    }
}
