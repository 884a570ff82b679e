//! What every session needs of the rest of the switch.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use mail_model::Clock;
use queue_format::record::MessageKey;
use queue_store::Queue;
use settings::{ListenerKind, Settings, TlsMode};
use tokio::sync::watch;

use super::inspection::LiveInspection;
use super::login::Logins;
use super::turns::Turns;
use crate::counters::Counters;
use crate::names::LiveNames;
use crate::readiness::Gate;
use crate::tls::LiveTls;
use crate::tracers::Tracers;

/// A listener, as its sessions know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Door {
    /// Its place among the listeners.
    pub(crate) index: usize,
    /// What it is for.
    pub(crate) kind: ListenerKind,
    /// When TLS begins, if it has a certificate.
    pub(crate) mode: TlsMode,
}

/// What sessions are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Go on.
    Open,
    /// Close when between messages.
    Finishing,
    /// Close now; a message whose end has come is still answered.
    Closing,
}

/// Tells delivery of a message that is durable, with its content if that is at hand. Cheap, never waits.
pub(crate) type Notice = Arc<dyn Fn(MessageKey, Bytes) + Send + Sync>;

/// The parts.
pub(crate) struct Parts {
    /// Where messages go.
    pub(crate) queue: Queue,
    /// The configuration in use.
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    /// The certificates in use.
    pub(crate) tls: LiveTls,
    /// Who watches dialogues.
    pub(crate) tracers: Arc<Tracers>,
    /// Who may submit mail.
    pub(crate) logins: Logins,
    /// Who sees whole messages; replaced as the settings are.
    pub(crate) inspection: LiveInspection,
    /// Who is asked for names.
    pub(crate) names: LiveNames,
    /// The clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// What was done.
    pub(crate) counters: Arc<Counters>,
    /// Whether new mail is taken.
    pub(crate) gate: Arc<Gate>,
    /// Who stores a message that may be a repeat.
    pub(crate) turns: Turns,
    /// Who is told of new mail.
    pub(crate) notice: Notice,
    /// What sessions are to do.
    pub(crate) phase: watch::Receiver<Phase>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("queue", self.queue.id()).finish_non_exhaustive()
    }
}
