//! What load balancers ask: `/health/live` and `/health/ready`. No disk is touched and nothing is waited for.
//!
//! `live` answers while the program runs. `ready` answers 200 only while new mail would be taken; otherwise 503 with the
//! reasons, and the SMTP greeting is 421 at the same time, by the same [`Readiness`].

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;

/// Whether this node takes new mail, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// `ready` or `not_ready`.
    pub state: &'static str,
    /// This node.
    pub node: String,
    /// Empty if ready.
    pub reasons: Vec<String>,
    /// Recipients in the queue.
    pub queue: u64,
    /// The epoch owned, 0 if none.
    pub epoch: u64,
}

impl Readiness {
    /// A state made from its reasons: none means ready.
    #[must_use]
    pub fn new(node: String, reasons: Vec<String>, queue: u64, epoch: u64) -> Self {
        let state = if reasons.is_empty() { "ready" } else { "not_ready" };
        Self { state, node, reasons, queue, epoch }
    }

    /// True if new mail is taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// Answers "are we ready?" from memory.
pub type ReadinessSource = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// Serves probes until the program ends. Fails only if the address cannot be bound.
pub async fn serve(address: SocketAddr, readiness: ReadinessSource) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let routes = Router::new()
        .route("/health/live", get(|| async { StatusCode::OK }))
        .route("/health/ready", get(ready))
        .with_state(readiness);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(event = "health.stopped", %error);
        }
    });
    Ok(())
}

async fn ready(State(readiness): State<ReadinessSource>) -> impl IntoResponse {
    let now = readiness();
    let status = if now.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(now))
}
