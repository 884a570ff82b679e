//! What the lease, the peers and the own children prove about an owner.

use std::time::Duration;

use mail_model::{LeaseState, Moment, NodeId, QueueId, Reason};

use super::decision::Rule;
use super::view::{PeerView, View};
use crate::observe::{Freshness, LeaseView, Observation};

/// A peer that says it restarts its instance is believed for this long beyond the window.
const RESTART_PATIENCE: Duration = Duration::from_secs(8);

/// The judgement.
pub(super) enum Evidence {
    /// The owner lives.
    Peace,
    /// It is late.
    Suspect,
    /// Proof or not, others come first; why, in a sentence.
    Wait(Rule, &'static str),
    /// It is to be taken over; by which rule, and what the claim says.
    Proof(Rule, Reason),
}

const HOME_WAITS: Evidence =
    Evidence::Wait(Rule::HomeWaits, "the home node waits for its queue and takes it itself");

/// The witness: what one node knows of one queue.
pub(super) struct Witness<'a> {
    pub(super) me: &'a NodeId,
    pub(super) queue: &'a QueueId,
    pub(super) observe: Duration,
    pub(super) observation: &'a Observation,
    /// The own secondary of the top epoch has ended.
    pub(super) ended: bool,
    /// The lease is known from heartbeats only.
    pub(super) promoted: bool,
    /// The home node could take its queue back, as far as its copy is concerned.
    pub(super) home_fit: bool,
}

impl Witness<'_> {
    pub(super) fn judge(&self, now: Moment, lease: &LeaseView, view: &View) -> Evidence {
        let home = view.peer(self.queue.home());
        let owner = view.peers.get(&lease.owner);
        let freshness = self.observation.freshness(now);
        let stale = matches!(freshness, Freshness::Stale { .. });
        if lease.state == Some(LeaseState::Released) {
            if self.me == self.queue.home() {
                // Who released it gives the device back, if that node still can.
                return if stale {
                    Evidence::Proof(Rule::Released, Reason::Released)
                } else {
                    Evidence::Peace
                };
            }
            return if home.waiting && home.heard() && self.home_fit {
                HOME_WAITS
            } else if lease.queued == 0 {
                Evidence::Wait(Rule::ReleasedEmpty, "released and empty: there is nothing to take")
            } else if stale || (!home.heard() && home.known) {
                Evidence::Proof(Rule::Released, Reason::Released)
            } else {
                // A home node that is up gets the window to start its switch again.
                Evidence::Suspect
            };
        }
        if self.ended && lease.owner == *self.me {
            return Evidence::Proof(Rule::SecondaryEnded, Reason::Expired);
        }
        if lease.state == Some(LeaseState::StorageSick) {
            return Evidence::Proof(Rule::StorageSick, Reason::Expired);
        }
        let attested = |peer: &PeerView| {
            peer.heard() && peer.dead.iter().any(|(q, e)| *q == *self.queue && *e == lease.epoch)
        };
        if owner.is_some_and(attested) {
            return Evidence::Proof(Rule::InstanceDead, Reason::Expired);
        }
        match freshness {
            Freshness::Stale { span, .. } => {
                if home.waiting && home.heard() && self.home_fit && lease.owner != *self.queue.home() {
                    HOME_WAITS
                } else if self.lives_elsewhere(lease, view) {
                    let text = "not heard here, but its device is connected, or another node hears it: its node lives";
                    Evidence::Wait(Rule::NetworkDown, text)
                } else if owner.is_some_and(|o| o.heard() && o.restarting)
                    && span < Duration::from_millis(u64::from(lease.window_ms)) + RESTART_PATIENCE
                {
                    let text = "its heartbeatd starts the instance again: local restart comes first";
                    Evidence::Wait(Rule::LocalRestart, text)
                } else {
                    Evidence::Proof(Rule::StaleWindow, Reason::Expired)
                }
            }
            Freshness::Watching { span, .. }
                if span >= Duration::from_millis(u64::from(lease.renew_ms)) * 2 + self.observe =>
            {
                Evidence::Suspect
            }
            Freshness::Unknown | Freshness::Fresh | Freshness::Watching { .. } => Evidence::Peace,
        }
    }

    /// Where the lease comes by heartbeats, their silence may be a cut way, or a heartbeatd that was stopped.
    fn lives_elsewhere(&self, lease: &LeaseView, view: &View) -> bool {
        let third = |(node, peer): (&NodeId, &PeerView)| {
            *node != lease.owner && peer.heard() && peer.hears.contains(&lease.owner)
        };
        let lives = view.device(self.queue).connected || view.peers.iter().any(third);
        self.promoted && lease.owner != *self.me && !view.peer(&lease.owner).heard() && lives
    }
}
