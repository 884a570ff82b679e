//! What heartbeatd tells Prometheus: what it sees, and what it decided. Decides nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use cluster::takeover::{Decision, Verdict};
use control::heartbeatd::{HeartbeatdStatus, QueueStatus};
use daemon_kit::metrics::{Labels, Page, real};
use mail_model::{LeaseState, Moment, QueueId};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

/// What was decided since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    decisions: BTreeMap<(QueueId, String), u64>,
    /// The last step of each queue's takeover, and when.
    last: BTreeMap<QueueId, (Verdict, Moment)>,
    /// How long each phase took the last time.
    phases: BTreeMap<(QueueId, &'static str), Duration>,
}

impl Counts {
    /// Takes a decision into the counts.
    pub(crate) fn decided(&mut self, now: Moment, decision: &Decision) {
        let queue = &decision.queue;
        *self.decisions.entry((queue.clone(), word(decision.verdict))).or_default() += 1;
        let Some(phase) = phase_that_ends(decision.verdict) else { return };
        if let Some((_, began)) = self.last.insert(queue.clone(), (decision.verdict, now))
            && let Some(phase) = phase
        {
            self.phases.insert((queue.clone(), phase), now.since(began));
        }
    }
}

/// A verdict as the records spell it.
pub(crate) fn word(verdict: Verdict) -> String {
    let word = serde_json::to_value(verdict).ok();
    word.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

/// `None` for what is no step of a takeover.
#[expect(clippy::option_option, reason = "no step, a step that ends no phase, a step that ends one")]
fn phase_that_ends(verdict: Verdict) -> Option<Option<&'static str>> {
    match verdict {
        Verdict::Suspected => Some(None),
        Verdict::Candidate => Some(Some("suspect")),
        Verdict::Take => Some(Some("candidate")),
        Verdict::Taken => Some(Some("take")),
        Verdict::Handback => Some(Some("hold")),
        Verdict::HandedBack => Some(Some("handback")),
        Verdict::OwnerChanged
        | Verdict::StandDown
        | Verdict::LostRace
        | Verdict::NotTaken
        | Verdict::HandbackWait
        | Verdict::Restart
        | Verdict::InstanceDead
        | Verdict::Adopted
        | Verdict::Device
        | Verdict::Alarm
        | Verdict::Paused
        | Verdict::Resumed => None,
    }
}

/// How everything stands at one instant.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) status: HeartbeatdStatus,
    pub(crate) counts: Counts,
    /// Slow operations of the owners on their leases: 999 of 1000 were quicker.
    pub(crate) lease_io: BTreeMap<QueueId, Duration>,
    /// Datagrams without effect, by reason.
    pub(crate) ignored: Vec<(&'static str, u64)>,
}

impl Collector for Look {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        page.gauges("mailswitch_heartbeatd_build_info", "The program's version", [(version, 1.0)])?;
        page.gauge(
            "mailswitch_protection_level",
            "How well mail is protected: 2 full, 1 reduced, 0 not at all",
            f64::from(level(&self.status.protection)),
        )?;
        page.gauge(
            "mailswitch_takeover_possible",
            "1 if this node could take a queue over now",
            truth(self.status.unfit.is_empty()),
        )?;
        page.gauge(
            "mailswitch_takeover_paused",
            "1 while an operator's pause holds",
            truth(self.status.paused_until.is_some()),
        )?;
        self.peers(&mut page)?;
        self.queues(&mut page)?;
        self.decisions(&mut page)
    }
}

impl Look {
    fn peers(&self, page: &mut Page<'_>) -> fmt::Result {
        let paths = || {
            self.status.peers.iter().flat_map(|peer| {
                peer.paths
                    .iter()
                    .map(|path| (vec![("peer", peer.node.to_string()), ("path", path.address.clone())], path))
            })
        };
        page.gauges(
            "mailswitch_peer_path_up",
            "1 if the peer's heartbeats come by this path",
            paths().map(|(labels, path)| (labels, truth(path.up))),
        )?;
        let ages = paths().filter_map(|(labels, path)| Some((labels, seconds(path.heard_ms_ago?))));
        page.gauges(
            "mailswitch_peer_heard_age_seconds",
            "Since the peer's last heartbeat on this path",
            ages,
        )?;
        let rows = self.ignored.iter().map(|(why, count)| (vec![("reason", (*why).to_owned())], *count));
        page.counters("mailswitch_heartbeats_ignored", "Datagrams that had no effect, by reason", rows)
    }

    fn queues(&self, page: &mut Page<'_>) -> fmt::Result {
        let rows = |value: fn(&QueueStatus) -> Option<f64>| {
            self.status
                .queues
                .iter()
                .filter_map(move |queue| Some((one("queue", queue.queue.as_str()), value(queue)?)))
        };
        page.gauges(
            "mailswitch_lease_age_seconds",
            "Since a renewal of the queue's lease was last seen",
            rows(|queue| queue.lease_age_ms.map(seconds)),
        )?;
        page.gauges(
            "mailswitch_lease_epoch",
            "The top epoch of the queue",
            rows(|queue| Some(real(queue.epoch.0))),
        )?;
        page.gauges(
            "mailswitch_queue_away",
            "1 if another node than its home owns the queue",
            rows(|queue| {
                let owner = queue.owner.as_ref()?;
                let held = queue.lease_state != Some(LeaseState::Released);
                Some(truth(held && owner != queue.queue.home()))
            }),
        )?;
        page.gauges(
            "mailswitch_lease_readable",
            "1 if the lease of the queue can be read from this node",
            rows(|queue| Some(truth(queue.owner.is_some() || queue.epoch.0 == 0))),
        )?;
        page.gauges(
            "mailswitch_storage_sick",
            "1 if the owner of the queue says that its storage failed",
            rows(|queue| Some(truth(queue.lease_state == Some(LeaseState::StorageSick)))),
        )?;
        let states = self.status.queues.iter().map(|queue| {
            let labels = vec![("queue", queue.queue.to_string()), ("state", queue.state.clone())];
            (labels, 1.0)
        });
        page.gauges("mailswitch_watch_state", "1 for the state in which the queue is watched", states)?;
        let io = self.lease_io.iter().map(|(queue, io)| (one("queue", queue.as_str()), io.as_secs_f64()));
        page.gauges(
            "mailswitch_lease_io_p999_seconds",
            "999 of 1000 operations of the owner on its lease were quicker",
            io,
        )
    }

    fn decisions(&self, page: &mut Page<'_>) -> fmt::Result {
        let decisions = self.counts.decisions.iter().map(|((queue, verdict), count)| {
            (vec![("queue", queue.to_string()), ("verdict", verdict.clone())], *count)
        });
        page.counters("mailswitch_decisions", "Decisions about queues, by verdict", decisions)?;
        let phases = self.counts.phases.iter().map(|((queue, phase), took)| {
            (vec![("queue", queue.to_string()), ("phase", (*phase).to_owned())], took.as_secs_f64())
        });
        page.gauges(
            "mailswitch_takeover_phase_seconds",
            "How long each phase of the last takeover or hand-back took",
            phases,
        )
    }
}

/// The first word of the protection says it.
fn level(protection: &str) -> u8 {
    match protection.split(':').next() {
        Some("full") => 2,
        Some("reduced") => 1,
        Some(_) | None => 0,
    }
}

fn one(label: &'static str, value: &str) -> Labels {
    vec![(label, value.to_owned())]
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}
