//! What load balancers and monitorings ask: `/health/live`, `/health/ready`, `/health/takeover` and `/metrics`. No disk is
//! touched.
//!
//! `live` answers while the program runs. `ready` answers 200 only while new mail would be taken; otherwise 503 with the
//! reasons, and the SMTP greeting is 421 at the same time, by the same readiness. `takeover` answers 200 only while this
//! node's heartbeatd could take another node's queue; it is asked each time, and silence is a no.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use control::heartbeatd::{Answer, Request};
use serde::Serialize;
use tokio::net::TcpListener;

/// heartbeatd answers within this time, or not at all.
const HEARTBEATD_LIMIT: Duration = Duration::from_millis(500);

/// The body of an answer: whether this node takes new mail, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// `ready` or `not_ready`.
    pub(crate) state: &'static str,
    /// This node.
    pub(crate) node: String,
    /// Empty if ready.
    pub(crate) reasons: Vec<String>,
    /// Recipients in the queue.
    pub(crate) queue: u64,
    /// The epoch owned, 0 if none.
    pub(crate) epoch: u64,
}

impl Report {
    /// A state made from its reasons: none means ready.
    pub(crate) fn new(node: String, reasons: Vec<String>, queue: u64, epoch: u64) -> Self {
        let state = if reasons.is_empty() { "ready" } else { "not_ready" };
        Self { state, node, reasons, queue, epoch }
    }

    fn response(self) -> Response {
        let status = if self.reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self)).into_response()
    }
}

/// Where the answers come from.
#[derive(Clone)]
pub(crate) struct Sources {
    /// "Are we ready?", from memory.
    pub(crate) report: Arc<dyn Fn() -> Report + Send + Sync>,
    /// The page for Prometheus. May take a moment.
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The socket of this node's heartbeatd.
    pub(crate) heartbeatd: PathBuf,
}

/// Answers until the program ends.
pub(crate) async fn serve(listener: TcpListener, sources: Sources) {
    let routes = Router::new()
        .route("/health/live", get(|| async { StatusCode::OK }))
        .route("/health/ready", get(ready))
        .route("/health/takeover", get(takeover))
        .route("/metrics", get(metrics))
        .with_state(sources);
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(event = "health.stopped", %error);
    }
}

async fn ready(State(sources): State<Sources>) -> Response {
    (sources.report)().response()
}

async fn takeover(State(sources): State<Sources>) -> Response {
    let reasons = match control::ask(&sources.heartbeatd, Request::Status, HEARTBEATD_LIMIT).await {
        Ok(Answer::Status(status)) => status.unfit,
        Ok(Answer::Done { .. } | Answer::Records(_)) => vec!["heartbeatd speaks another version".to_owned()],
        Err(error) => vec![error.to_string()],
    };
    let report = (sources.report)();
    Report::new(report.node, reasons, report.queue, report.epoch).response()
}

async fn metrics(State(sources): State<Sources>) -> Response {
    match tokio::task::spawn_blocking(move || (sources.metrics)()).await {
        Ok(page) => ([(header::CONTENT_TYPE, daemon_kit::metrics::CONTENT_TYPE)], page).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
