//! Questions and orders over the control socket, handed to the node's loop one at a time.

use std::path::Path;

use anyhow::{Context, Result};
use control::heartbeatd::{Answer, Request};
use control::{Fault, Server};
use tokio::sync::{mpsc, oneshot};

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) request: Request,
    pub(crate) reply: oneshot::Sender<Result<Answer, Fault>>,
}

/// Requests that wait at a time.
const WAITING_MAX: usize = 64;

/// Makes the socket and answers until the runtime ends.
pub(crate) fn serve(state_dir: &Path) -> Result<mpsc::Receiver<Ask>> {
    let server = Server::bind(&control::paths::heartbeatd(state_dir)).context("make the control socket")?;
    let (asks, inbox) = mpsc::channel(WAITING_MAX);
    tokio::spawn(server.serve(move |request: Request| {
        let asks = asks.clone();
        async move {
            let ended = || Fault::busy("heartbeatd is ending; ask again after its restart");
            let (reply, answer) = oneshot::channel();
            asks.send(Ask { request, reply }).await.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        }
    }));
    Ok(inbox)
}
