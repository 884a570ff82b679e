//! What heartbeatd and operators ask over the control socket, and the answers.

mod metrics;
mod operate;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use cluster::drill::FAULT_MAX;
use cluster::instance::State;
use control::switch::{Answer, CommitStatus, Readiness, Request, SwitchStatus, Trouble};
use control::{Code, Fault};
use daemon_kit::logging::Levels;
use mail_model::{Clock, InstanceId, Role};
use queue_store::Queue;
use routing::DomainPattern;
use settings::Settings;
use tokio::sync::mpsc;

use crate::counters::Counters;
use crate::delivery::Delivery;
use crate::health::Report;
use crate::intake::Intake;
use crate::readiness::Gate;
use crate::reload::Reloader;
use crate::tls::LiveTls;
use crate::tracers::Tracers;

/// An order to give the queue up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DrainOrder {
    /// The longest to wait for running attempts.
    pub(crate) grace: Duration,
    /// Before anything: balancers hear of it, clients do not.
    pub(crate) notice: Duration,
}

/// An order about the mail of a domain.
enum Suspending {
    Begin { domain: String, span: Duration, by: String },
    End { domain: String, by: String },
}

/// Knows how the switch stands.
#[derive(Debug)]
pub(crate) struct Admin {
    /// The queue.
    pub(crate) queue: Queue,
    /// At home or not.
    pub(crate) role: Role,
    /// This run.
    pub(crate) instance: InstanceId,
    /// The configuration in use.
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    /// The clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// What was done.
    pub(crate) counters: Arc<Counters>,
    /// Whether new mail is taken.
    pub(crate) gate: Arc<Gate>,
    /// The certificates in use.
    pub(crate) tls: LiveTls,
    /// Who watches dialogues.
    pub(crate) tracers: Arc<Tracers>,
    /// The levels of the log.
    pub(crate) levels: Levels,
    /// The sessions; a secondary has none.
    pub(crate) intake: Option<Intake>,
    /// Reads the configuration again.
    pub(crate) reloader: Arc<Reloader>,
    /// Where orders to drain go.
    pub(crate) orders: mpsc::Sender<DrainOrder>,
    /// Empty until the queue is owned.
    pub(crate) delivery: Arc<OnceLock<Delivery>>,
}

impl Admin {
    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request) -> Result<Answer, Fault> {
        match request {
            Request::Status => Ok(Answer::Status(Box::new(self.status()))),
            Request::Ready => Ok(Answer::Ready(self.readiness())),
            Request::Drain { grace_ms, notice_ms } => {
                let order = DrainOrder {
                    grace: Duration::from_millis(grace_ms),
                    notice: Duration::from_millis(notice_ms),
                };
                // A second order while one is carried out changes nothing.
                self.orders.try_send(order).ok();
                Ok(Answer::Done { message: format!("queue {} is being given up", self.queue.id()) })
            }
            Request::Reload => {
                let reloader = Arc::clone(&self.reloader);
                let outcome = tokio::task::spawn_blocking(move || reloader.reload()).await;
                match outcome {
                    Ok(Ok(message)) => Ok(Answer::Done { message }),
                    Ok(Err(faults)) => Err(Fault::failed(faults)),
                    Err(_) => Err(Fault::failed("the reload did not end; ask again")),
                }
            }
            Request::Log { order } => match self.levels.order(&order) {
                Ok(message) => Ok(Answer::Done { message }),
                Err(why) => Err(Fault::new(Code::Invalid, why)),
            },
            Request::Trouble { trouble, for_ms } => {
                let trouble = match trouble {
                    Trouble::DiskFull => queue_store::Trouble::DiskFull,
                    Trouble::StorageHang => queue_store::Trouble::StorageHang,
                };
                self.queue.trouble(trouble, Duration::from_millis(for_ms).min(FAULT_MAX));
                Ok(Answer::Done {
                    message: format!("the storage of queue {} is in trouble", self.queue.id()),
                })
            }
            Request::Suspend { domain, for_ms, reason } => {
                let span = Duration::from_millis(for_ms);
                self.suspension(Suspending::Begin { domain, span, by: reason }).await
            }
            Request::Unsuspend { domain, reason } => {
                self.suspension(Suspending::End { domain, by: reason }).await
            }
            Request::Trace { id, way, with, wait_ms } => {
                let wait = Duration::from_millis(wait_ms);
                self.tracers.ask(id, way, &with, wait).await.map(Answer::Traced)
            }
            Request::Metrics => Ok(Answer::Metrics { page: self.metrics() }),
            Request::Operate { verb, messages, reason, to } => {
                let order = operate::Order { verb, messages, by: reason, at: self.clock.wall(), to };
                order.carry_out(&self.queue, &self.delivery).await.map(Answer::Operated)
            }
        }
    }

    /// Orders about the mail of a domain.
    async fn suspension(&self, request: Suspending) -> Result<Answer, Fault> {
        let Some(delivery) = self.delivery.get() else {
            return Err(Fault::failed("the queue is not active here; ask again when it is"));
        };
        let pattern = |domain: &str| {
            domain.parse::<DomainPattern>().map_err(|error| Fault::new(Code::Invalid, error.to_string()))
        };
        let queue = self.queue.id();
        let failed = |error: std::io::Error| Fault::failed(format!("it holds, but cannot be kept: {error}"));
        match request {
            Suspending::Begin { domain, span, by } => {
                let pattern = pattern(&domain)?;
                tracing::info!(event = "queue.suspended", %queue, %domain, for_ms = millis(span), %by);
                delivery.suspend(pattern, self.clock.wall() + span, by).await.map_err(failed)?;
                Ok(Answer::Done { message: format!("nothing is sent to {domain} from queue {queue}") })
            }
            Suspending::End { domain, by } => {
                let found = delivery.unsuspend(&pattern(&domain)?).await.map_err(failed)?;
                if !found {
                    return Err(Fault::new(
                        Code::Invalid,
                        format!("{domain} is not suspended in queue {queue}"),
                    ));
                }
                tracing::info!(event = "queue.unsuspended", %queue, %domain, %by);
                Ok(Answer::Done { message: format!("{domain} is served again from queue {queue}") })
            }
        }
    }

    fn readiness(&self) -> Readiness {
        let reasons = self.gate.reasons();
        let state = *self.queue.state().borrow();
        // For who asks, it drains from the moment it was told to.
        let leaving = self.gate.is_leaving() && state == State::Active;
        let state = if leaving { State::Draining } else { state }.as_str().to_owned();
        Readiness { state, ready: reasons.is_empty(), reasons }
    }

    /// What a health probe is told.
    pub(crate) fn report(&self) -> Report {
        let node = self.settings.load().node.id.to_string();
        let status = self.queue.status();
        Report::new(node, self.gate.reasons(), status.recipients, status.epoch.0)
    }

    /// How the switch stands.
    pub(crate) fn status(&self) -> SwitchStatus {
        let settings = self.settings.load();
        let queue = self.queue.status();
        let readiness = self.readiness();
        let oldest = self.queue.figures().oldest;
        let in_doubt = self.queue.books(|books| books.totals().in_doubt).unwrap_or_default();
        SwitchStatus {
            node: settings.node.id.clone(),
            queue: self.queue.id().clone(),
            epoch: queue.epoch,
            role: self.role,
            state: queue.state.as_str().to_owned(),
            queued_messages: queue.messages,
            queued_recipients: queue.recipients,
            oldest_age_ms: oldest.map_or(0, |oldest| millis(self.clock.wall().since(oldest))),
            in_doubt,
            accepted: self.counters.accepted.read(),
            delivered: self.counters.delivered.read(),
            bounced: self.counters.bounced.read(),
            connections: self.intake.as_ref().map_or(0, |intake| intake.connections() as u64),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_hash: settings.hash.clone(),
            instance: self.instance.to_string(),
            pid: std::process::id(),
            ready: readiness.ready,
            reasons: readiness.reasons,
            commit: CommitStatus {
                batches: queue.batches,
                messages: queue.records,
                p50_us: queue.commit_p50_us.into(),
                p99_us: queue.commit_p99_us.into(),
            },
        }
    }

    /// One line for the service manager.
    pub(crate) fn line(&self) -> String {
        let status = self.queue.status();
        let connections = self.intake.as_ref().map_or(0, Intake::connections);
        format!(
            "{}: {} messages, {} recipients in queue {}, {connections} connections",
            status.state.as_str(),
            status.messages,
            status.recipients,
            self.queue.id()
        )
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
