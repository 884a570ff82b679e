//! This node's own primary, asked over its control socket. Silence is no fault: it may not run.

use std::path::PathBuf;
use std::time::Duration;

use cluster::instance::State;
use control::client::CallError;
use control::switch::{Answer, Request};
use tokio::sync::watch;

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// How it stands, as far as heartbeatd cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    /// Nobody listens on its socket.
    #[default]
    Absent,
    /// It is there and does not answer.
    Silent,
    /// It waits at INIT for its queue.
    Waiting,
    /// It finishes its work.
    Draining,
    /// Anything else.
    Running,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OwnSwitch {
    /// How it stands.
    pub(crate) standing: Standing,
    /// It takes new mail.
    pub(crate) ready: bool,
    /// Why it does not.
    pub(crate) reasons: Vec<String>,
}

impl OwnSwitch {
    fn unready(standing: Standing, reason: &str) -> Self {
        Self { standing, ready: false, reasons: vec![reason.to_owned()] }
    }
}

/// Asks for ever, as long as somebody listens.
pub(crate) fn watch(socket: PathBuf, interval: Duration) -> watch::Receiver<OwnSwitch> {
    let (tell, listen) = watch::channel(OwnSwitch::default());
    tokio::spawn(async move {
        while !tell.is_closed() {
            let said = ask(&socket).await;
            tell.send_if_modified(|known| {
                let changed = *known != said;
                *known = said;
                changed
            });
            tokio::time::sleep(interval).await;
        }
    });
    listen
}

async fn ask(socket: &std::path::Path) -> OwnSwitch {
    match control::ask(socket, Request::Ready, ANSWER_LIMIT).await {
        Ok(Answer::Ready(said)) => OwnSwitch {
            standing: if said.state == State::Init.as_str() {
                Standing::Waiting
            } else if said.state == State::Draining.as_str() {
                Standing::Draining
            } else {
                Standing::Running
            },
            ready: said.ready,
            reasons: said.reasons,
        },
        // It hangs, or speaks another version: it is there, and no more can be said.
        Ok(
            Answer::Status(_)
            | Answer::Done { .. }
            | Answer::Operated(_)
            | Answer::Traced(_)
            | Answer::Metrics { .. },
        )
        | Err(CallError::Timeout { .. } | CallError::Fault(_) | CallError::Protocol { .. }) => {
            OwnSwitch::unready(Standing::Silent, "the switch does not answer")
        }
        Err(
            CallError::NotRunning { .. }
            | CallError::Permission { .. }
            | CallError::Closed { .. }
            | CallError::Node(_)
            | CallError::Io { .. },
        ) => OwnSwitch::unready(Standing::Absent, "the switch is not running"),
    }
}
