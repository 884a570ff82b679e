//! What load balancers ask: `/health/live` and `/health/ready`. No disk is touched and nothing is waited for.
//!
//! `live` answers while the program runs. `ready` answers 200 only while new mail would be taken; otherwise 503 with the
//! reasons, and the SMTP greeting is 421 at the same time, by the same readiness.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;

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
}

/// Answers "are we ready?" from memory.
pub(crate) type ReportSource = Arc<dyn Fn() -> Report + Send + Sync>;

/// Answers probes until the program ends.
pub(crate) async fn serve(listener: TcpListener, source: ReportSource) {
    let routes = Router::new()
        .route("/health/live", get(|| async { StatusCode::OK }))
        .route("/health/ready", get(ready))
        .with_state(source);
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(event = "health.stopped", %error);
    }
}

async fn ready(State(source): State<ReportSource>) -> impl IntoResponse {
    let report = source();
    let status = if report.reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}
