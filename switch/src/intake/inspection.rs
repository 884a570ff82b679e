//! The stage between the last byte of a message and its 250: whoever must see the whole of it sees it here.
//!
//! | file | what it is |
//! |---|---|
//! | `exhibit` | what an inspector sees, and what it may say |
//! | `authentication` | SPF, DKIM, DMARC and ARC of mail from strangers |
//! | `filter` | content filters: rspamd, clamd, milters |
//! | `signing` | DKIM signatures of mail from trusted clients |
//!
//! Inspectors are asked in this order, filters in that of the configuration. Each may put fields on top of the message, change it,
//! have it held, or refuse it; the first refusal counts. The next one sees what the one before made of the content, but not the
//! fields on top.
//!
//! An inspector never stores or sends anything, and whatever it says the message is written once, after it, with its fields in
//! front: there is no moment at which a message lies in the queue that was not inspected. What it cannot find out is its own
//! to judge; a panic or a hang of it is bounded by [`PATIENCE`] and answered with 451, so nothing is lost.

mod authentication;
mod exhibit;
mod filter;
mod signing;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mail_model::{EnhancedStatus, Reply, Role};
use settings::{Authentication, FilterClients, ListenerSettings, Settings};

use self::authentication::Authenticator;
pub(crate) use self::exhibit::{Changes, Exhibit};
use self::exhibit::{Inspector, Opinion};
use self::filter::Filter;
use self::signing::Signer;
use crate::counters::Counters;

/// The longest that one inspector may take. RFC 5321 4.5.3.2.6: the client waits ten minutes for the reply.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is in use; replaced as a whole.
pub(crate) type LiveInspection = Arc<ArcSwap<Inspection>>;

/// Who sees a listener's messages.
#[derive(Debug, Default)]
struct Panel {
    strangers: Vec<Arc<dyn Inspector>>,
    trusted: Vec<Arc<dyn Inspector>>,
}

/// Who sees the messages of each listener.
#[derive(Debug)]
pub(crate) struct Inspection {
    panels: Vec<Panel>,
    counters: Arc<Counters>,
}

impl Inspection {
    /// Reads the keys that the settings name. A secondary takes no mail, so a missing key does not keep it from draining a
    /// queue. Every fault at once.
    pub(crate) fn load(
        settings: &Settings,
        role: Role,
        counters: &Arc<Counters>,
    ) -> Result<Self, Vec<String>> {
        let mut panels = Vec::new();
        if role == Role::Secondary {
            return Ok(Self { panels, counters: Arc::clone(counters) });
        }
        let mut faults = Vec::new();
        let signer = Signer::load(&settings.dkim, &mut faults);
        let signer = (!signer.is_empty()).then(|| Arc::new(signer) as Arc<dyn Inspector>);
        let hostname = settings.node.hostname.as_str();
        let filters: Vec<Arc<dyn Inspector>> = settings
            .filters
            .iter()
            .map(|filter| {
                Arc::new(Filter::new(filter.clone(), hostname.to_owned(), Arc::clone(counters))) as _
            })
            .collect();
        for listener in &settings.listeners {
            let mut panel = Panel::default();
            match authenticator(settings, listener) {
                Ok(authenticator) => panel.strangers.extend(authenticator),
                Err(error) => faults.push(error),
            }
            for (filter, inspector) in settings.filters.iter().zip(&filters) {
                if !filter.listeners.is_empty() && !filter.listeners.contains(&listener.address) {
                    continue;
                }
                if filter.clients != FilterClients::Trusted {
                    panel.strangers.push(Arc::clone(inspector));
                }
                if filter.clients != FilterClients::Strangers {
                    panel.trusted.push(Arc::clone(inspector));
                }
            }
            // Last, so that what is signed is what is sent.
            panel.trusted.extend(signer.clone());
            panels.push(panel);
        }
        if faults.is_empty() { Ok(Self { panels, counters: Arc::clone(counters) }) } else { Err(faults) }
    }

    /// The same for other settings.
    pub(crate) fn renewed(&self, settings: &Settings, role: Role) -> Result<Self, Vec<String>> {
        Self::load(settings, role, &self.counters)
    }

    fn inspectors(&self, listener: usize, trusted: bool) -> &[Arc<dyn Inspector>] {
        let Some(panel) = self.panels.get(listener) else { return &[] };
        if trusted { &panel.trusted } else { &panel.strangers }
    }

    /// True if mail that comes this way is looked at, and so must be at hand as a whole.
    pub(crate) fn looks_at(&self, listener: usize, trusted: bool) -> bool {
        !self.inspectors(listener, trusted).is_empty()
    }

    /// What becomes of the message, or why it is not taken.
    pub(crate) async fn of(&self, listener: usize, mut exhibit: Exhibit) -> Result<Changes, Reply> {
        let mut all = Changes::default();
        for inspector in self.inspectors(listener, exhibit.trusted) {
            let opinion = tokio::time::timeout(PATIENCE, inspector.inspect(&exhibit)).await;
            let late = || {
                Reply::local(451, EnhancedStatus::new(4, 3, 0), "inspection took too long, try again later")
            };
            let changes = match opinion.map_err(|_| late())? {
                Opinion::Changes(changes) => *changes,
                Opinion::Refuse(reply) => return Err(reply),
            };
            all.top.insert_str(0, &changes.top);
            if let Some(content) = changes.content {
                exhibit.content = content.clone();
                all.content = Some(content);
            }
            if let Some(recipients) = changes.recipients {
                exhibit.envelope.recipients.clone_from(&recipients);
                all.recipients = Some(recipients);
            }
            all.hold = all.hold.or(changes.hold);
            if changes.discard.is_some() {
                // Nobody will read it, so nobody else need look at it; but what was said of it stays.
                all.discard = changes.discard;
                return Ok(all);
            }
        }
        Ok(all)
    }
}

fn authenticator(
    settings: &Settings,
    listener: &ListenerSettings,
) -> Result<Option<Arc<dyn Inspector>>, String> {
    let mode = listener.authentication;
    if mode == Authentication::Off {
        return Ok(None);
    }
    Ok(Some(Arc::new(Authenticator::new(settings, mode)?)))
}
