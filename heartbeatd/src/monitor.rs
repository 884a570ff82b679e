//! What monitorings ask over HTTP: `/health/live`, `/health/takeover` and `/metrics`. The last has the metrics of the
//! secondaries of this node too: they listen nowhere themselves.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use control::switch::{Answer, Request};
use daemon_kit::metrics::{merged, text};
use mail_model::QueueId;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::metrics::Look;
use crate::node::Node;
use crate::plan::Plan;

/// The loop answers within this time, or something is wrong with it.
const LOOP_LIMIT: Duration = Duration::from_secs(1);
/// A secondary answers within this time, or its numbers are left out.
const SECONDARY_LIMIT: Duration = Duration::from_secs(1);
/// Questions that wait at a time.
const WAITING_MAX: usize = 16;

/// A question that waits for the node's loop.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The page of metrics.
    Metrics(oneshot::Sender<String>),
    /// Why this node could take no queue over now.
    Unfit(oneshot::Sender<Vec<String>>),
}

impl Asked {
    /// Answers. Who went away needs no answer.
    pub(crate) fn answer(self, node: &Node) {
        match self {
            Self::Metrics(reply) => drop(reply.send(page(node))),
            Self::Unfit(reply) => drop(reply.send(node.unfit())),
        }
    }
}

/// Where the answers come from.
#[derive(Clone)]
struct Sources {
    node: String,
    asks: mpsc::Sender<Asked>,
    /// The control socket of each queue that is not the own.
    secondaries: Arc<Vec<PathBuf>>,
}

/// Answers until the runtime ends, if the configuration says where. What comes out is for the node's loop.
pub(crate) async fn serve(plan: &Plan) -> Result<mpsc::Receiver<Asked>> {
    let (asks, inbox) = mpsc::channel(WAITING_MAX);
    let Some(address) = plan.monitor else { return Ok(inbox) };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} for monitorings; is monitor.address free?"))?;
    let others = plan.queues().filter(|queue| *queue != plan.own());
    let secondaries = others.map(|queue| control::paths::switch(&plan.state_dir, &queue));
    let sources = Sources { node: plan.me.to_string(), asks, secondaries: Arc::new(secondaries.collect()) };
    let routes = Router::new()
        .route("/health/live", get(|| async { StatusCode::OK }))
        .route("/health/takeover", get(takeover))
        .route("/metrics", get(metrics))
        .with_state(sources);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(event = "monitor.stopped", %error);
        }
    });
    Ok(inbox)
}

impl Sources {
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Asked) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.asks.send(question(reply)).await.ok()?;
            answer.await.ok()
        };
        timeout(LOOP_LIMIT, asked).await.ok()?
    }
}

async fn takeover(State(sources): State<Sources>) -> Response {
    let silent = || vec!["heartbeatd does not answer".to_owned()];
    let reasons = sources.ask(Asked::Unfit).await.unwrap_or_else(silent);
    let (status, state) = if reasons.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    (status, Json(json!({"state": state, "node": sources.node, "reasons": reasons}))).into_response()
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let Some(own) = sources.ask(Asked::Metrics).await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let mut pages = vec![own];
    for socket in sources.secondaries.iter() {
        // Whoever listens there: a unit of systemd may be older than this program.
        if let Ok(Answer::Metrics { page }) = control::ask(socket, Request::Metrics, SECONDARY_LIMIT).await {
            pages.push(page);
        }
    }
    ([(header::CONTENT_TYPE, daemon_kit::metrics::CONTENT_TYPE)], merged(&pages)).into_response()
}

fn page(node: &Node) -> String {
    let mut registry = Registry::with_labels([("node".into(), node.plan.me.to_string().into())].into_iter());
    let ignored = node.link.as_ref().map(crate::link::Link::ignored).unwrap_or_default();
    let unopened: u64 = ignored.unopened.values().sum();
    let io = |(queue, watched): (&QueueId, &crate::node::Watched)| {
        let seen = watched.seen.as_ref()?;
        Some((queue.clone(), Duration::from_micros(seen.io_p999_us.into())))
    };
    registry.register_collector(Box::new(Look {
        status: node.status(),
        counts: node.counts.clone(),
        lease_io: node.queues.iter().filter_map(io).collect(),
        ignored: vec![("unopened", unopened), ("replayed", ignored.replayed), ("unproved", ignored.unproved)],
    }));
    text(&registry)
}
