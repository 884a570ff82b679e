//! A witness: another node's heartbeatd, over the control network.

use std::time::Duration;

use cluster::register::{Entry, Register, Version};
use mail_model::{NodeId, QueueId};
use parking_lot::Mutex;

use crate::client::{CallError, Client};
use crate::network::{Members, Node};
use crate::program::Program;
use crate::register::{Answer, Request};

/// Connections that are kept: one for each thread that asks.
const IDLE_MAX: usize = 4;

/// The witness, with the connections that are open.
#[derive(Debug)]
pub(super) struct Witness {
    node: Node,
    members: Members,
    /// Taken out for each question: an answer that was given up takes its connection with it, so that a late one is never
    /// taken for the next.
    idle: Mutex<Vec<Client>>,
}

impl Witness {
    pub(super) fn new(node: Node, members: Members) -> Self {
        Self { node, members, idle: Mutex::default() }
    }

    pub(super) fn node(&self) -> &NodeId {
        &self.node.id
    }

    pub(super) async fn read(&self, queue: &QueueId, within: Duration) -> Result<Entry, String> {
        let request = Request::Read { queue: queue.clone() };
        // A connection that nobody used for long was closed by the other side.
        let answer = match self.ask_on_idle(request.clone(), within).await {
            Some(Ok(answer)) => answer,
            Some(Err(_)) | None => self.ask(request, within).await?,
        };
        match answer {
            Answer::Entry(entry) => Ok(entry),
            Answer::Changed => Err("it answered something else than what was asked".to_owned()),
        }
    }

    pub(super) async fn swap(
        &self,
        queue: &QueueId,
        expected: Version,
        register: Register,
        within: Duration,
    ) -> Result<Option<Version>, String> {
        // Asked once, on a connection that surely was not closed: what is asked twice may be done twice.
        match self.ask(Request::Swap { queue: queue.clone(), expected, register }, within).await? {
            Answer::Entry(entry) => Ok(Some(entry.version)),
            Answer::Changed => Ok(None),
        }
    }

    async fn ask_on_idle(&self, request: Request, within: Duration) -> Option<Result<Answer, CallError>> {
        let mut client = self.idle.lock().pop()?;
        Some(self.call(&mut client, request, within).await.inspect(|_| self.keep(client)))
    }

    async fn ask(&self, request: Request, within: Duration) -> Result<Answer, String> {
        let fresh = Client::connect_to(&self.node, &self.members, &Program::Witness).await;
        let mut client = fresh.map_err(|error| error.to_string())?;
        let answer = self.call(&mut client, request, within).await.map_err(|error| error.to_string())?;
        self.keep(client);
        Ok(answer)
    }

    async fn call(
        &self,
        client: &mut Client,
        request: Request,
        within: Duration,
    ) -> Result<Answer, CallError> {
        client.call(request, within).await
    }

    fn keep(&self, client: Client) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(client);
        }
    }
}
