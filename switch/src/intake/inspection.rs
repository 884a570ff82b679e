//! The stage between the last byte of a message and its 250: whoever must see the whole of it sees it here.
//!
//! | file | what it is |
//! |---|---|
//! | `exhibit` | what an inspector sees, and what it may say |
//! | `authentication` | SPF, DKIM, DMARC and ARC of mail from strangers |
//! | `signing` | DKIM signatures of mail from trusted clients |
//!
//! Inspectors are asked in order. Each may put fields on top of the message, or refuse it; the first refusal counts. A content
//! filter (rspamd, clamd, a milter) is one more [`Inspector`] and is added in [`Inspection::load`].
//!
//! An inspector never stores or sends anything, and whatever it says the message is written once, after it, with its fields in
//! front: there is no moment at which a message lies in the queue that was not inspected. What it cannot find out is its own
//! to judge; a panic or a hang of it is bounded by [`PATIENCE`] and answered with 451, so nothing is lost.

mod authentication;
mod exhibit;
mod signing;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mail_model::{EnhancedStatus, Reply, Role};
use settings::{Authentication, Settings};

use self::authentication::Authenticator;
pub(crate) use self::exhibit::Exhibit;
use self::exhibit::{Inspector, Opinion};
use self::signing::Signer;

/// The longest an inspection may take. RFC 5321 4.5.3.2.6: the client waits ten minutes for the reply.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is in use; replaced as a whole.
pub(crate) type LiveInspection = Arc<ArcSwap<Inspection>>;

/// Who sees the messages of each listener.
#[derive(Debug)]
pub(crate) struct Inspection {
    /// For mail of strangers, by listener; none if it is not looked at.
    strangers: Vec<Vec<Arc<dyn Inspector>>>,
    /// For mail of trusted clients.
    trusted: Vec<Arc<dyn Inspector>>,
}

impl Inspection {
    /// Reads the keys that the settings name. A secondary takes no mail, so a missing key does not keep it from draining a
    /// queue. Every fault at once.
    pub(crate) fn load(settings: &Settings, role: Role) -> Result<Self, Vec<String>> {
        if role == Role::Secondary {
            return Ok(Self { strangers: Vec::new(), trusted: Vec::new() });
        }
        let mut faults = Vec::new();
        let signer = Signer::load(&settings.dkim, &mut faults);
        let mut authenticator = |enforce| match Authenticator::new(settings, enforce) {
            Ok(authenticator) => Some(Arc::new(authenticator) as Arc<dyn Inspector>),
            Err(error) => {
                faults.push(error);
                None
            }
        };
        let strangers = settings.listeners.iter().map(|listener| match listener.authentication {
            Authentication::Off => Vec::new(),
            Authentication::Mark => authenticator(false).into_iter().collect(),
            Authentication::Enforce => authenticator(true).into_iter().collect(),
        });
        let strangers = strangers.collect();
        let trusted =
            if signer.is_empty() { Vec::new() } else { vec![Arc::new(signer) as Arc<dyn Inspector>] };
        if faults.is_empty() { Ok(Self { strangers, trusted }) } else { Err(faults) }
    }

    fn inspectors(&self, listener: usize, trusted: bool) -> &[Arc<dyn Inspector>] {
        let strangers = self.strangers.get(listener).map_or(&[][..], Vec::as_slice);
        if trusted { &self.trusted } else { strangers }
    }

    /// True if mail that comes this way is looked at, and so must be at hand as a whole.
    pub(crate) fn looks_at(&self, listener: usize, trusted: bool) -> bool {
        !self.inspectors(listener, trusted).is_empty()
    }

    /// What is to stand on top of the message, or why it is not taken.
    pub(crate) async fn of(&self, listener: usize, exhibit: &Exhibit) -> Result<String, Reply> {
        let mut fields = String::new();
        for inspector in self.inspectors(listener, exhibit.trusted) {
            let opinion = tokio::time::timeout(PATIENCE, inspector.inspect(exhibit)).await;
            let late = || {
                Reply::local(451, EnhancedStatus::new(4, 3, 0), "inspection took too long, try again later")
            };
            match opinion.map_err(|_| late())? {
                Opinion::Fields(new) => fields.insert_str(0, &new),
                Opinion::Refuse(reply) => return Err(reply),
            }
        }
        Ok(fields)
    }
}
