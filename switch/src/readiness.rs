//! Whether this switch takes new mail. One answer for the SMTP greeting, the health probe and the control socket.
//!
//! Touches no disk and waits for nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use cluster::instance::State;
use mail_model::Role;
use queue_store::{Queue, Refusal};

/// The gate before new mail. Shut until somebody delivers.
#[derive(Debug)]
pub(crate) struct Gate {
    queue: Queue,
    role: Role,
    delivering: AtomicBool,
    leaving: AtomicBool,
    draining: AtomicBool,
}

impl Gate {
    /// A gate that is still shut.
    pub(crate) fn new(queue: Queue, role: Role) -> Self {
        let unset = || AtomicBool::new(false);
        Self { queue, role, delivering: unset(), leaving: unset(), draining: unset() }
    }

    /// Delivery works: whatever is accepted from here on is noticed by it.
    pub(crate) fn delivery_works(&self) {
        self.delivering.store(true, Ordering::Release);
    }

    /// Balancers are told to go elsewhere, for good. Clients are greeted still.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// True after [`Self::leave`] or [`Self::drain`].
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire) || self.is_draining()
    }

    /// No new mail from here on, for good.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// True after [`Self::drain`].
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// True if clients are greeted. With a full disk they are, and told 452 when they come to their message: that is what a
    /// sender understands, while the probe says 503 and takes the node out of the balancer.
    pub(crate) fn is_open(&self) -> bool {
        self.role == Role::Primary
            && self.delivering.load(Ordering::Acquire)
            && !self.is_draining()
            && *self.queue.state().borrow() == State::Active
            && self.queue.may_act().is_ok()
    }

    /// Why no new mail is taken; empty if it is.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.role == Role::Secondary {
            reasons.push("this switch drains the queue of another node and takes no mail".to_owned());
        }
        if self.is_leaving() {
            reasons.push("this switch is draining".to_owned());
        }
        let state = *self.queue.state().borrow();
        match self.queue.admit(0) {
            Ok(()) if state != State::Active => reasons.push(standing(state).to_owned()),
            Ok(()) if !self.delivering.load(Ordering::Acquire) => {
                reasons.push("delivery has not started yet".to_owned());
            }
            Ok(()) => {}
            Err(Refusal::NotActive(state)) => reasons.push(standing(state).to_owned()),
            Err(refusal @ (Refusal::LeaseStale | Refusal::Full | Refusal::Append(_))) => {
                reasons.push(refusal.to_string());
            }
        }
        reasons
    }
}

/// What a state other than ACTIVE means for new mail.
fn standing(state: State) -> &'static str {
    match state {
        State::Init => "INIT: waiting for the queue, another owner may be alive",
        State::Claiming => "CLAIMING: taking the queue",
        State::Fencing => "FENCING: fencing the earlier owners",
        State::Recovering => "RECOVERING: reading the queue",
        State::Sealing => "SEALING: sealing what earlier owners wrote",
        State::Active => "ACTIVE",
        State::Draining => "DRAINING: giving the queue up",
        State::Released => "RELEASED: the queue was given up",
        State::Fenced => "FENCED: another owner has the queue",
        State::StorageSick => "STORAGE_SICK: the queue's storage failed",
        State::GaveUp => "GAVE_UP: the queue is another's",
    }
}
