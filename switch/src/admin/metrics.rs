//! The page for Prometheus: the counters of this instance, and numbers that are looked up when somebody asks.
//!
//! Touches no disk. Never a row for each client or address: of destinations only the [`DESTINATIONS_MAX`] with the most
//! mail are named.

use std::fmt;
use std::sync::Arc;

use cluster::instance::State;
use daemon_kit::metrics::{Labels, Page, real, text};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use queue_store::Figures;

use super::Admin;
use crate::delivery::DeliveryFigures;
use crate::tls::Expiry;

/// Destinations that are named.
const DESTINATIONS_MAX: usize = 20;

const STATES: [State; 11] = [
    State::Init,
    State::Claiming,
    State::Fencing,
    State::Recovering,
    State::Sealing,
    State::Active,
    State::Draining,
    State::Released,
    State::Fenced,
    State::StorageSick,
    State::GaveUp,
];

impl Admin {
    /// The page. Walks all messages now and then, so not for a task that must not wait.
    pub(crate) fn metrics(&self) -> String {
        let settings = self.settings.load();
        let labels = [
            ("node", settings.node.id.to_string()),
            ("queue", self.queue.id().to_string()),
            ("role", self.role.to_string()),
        ];
        let mut registry =
            Registry::with_labels(labels.into_iter().map(|(name, value)| (name.into(), value.into())));
        self.counters.register(&mut registry);
        self.queue.register(&mut registry);
        let figures = self.queue.figures();
        let oldest_age = figures.oldest.map_or(0.0, |oldest| self.clock.wall().since(oldest).as_secs_f64());
        registry.register_collector(Box::new(Look {
            queue: figures,
            oldest_age,
            ready: self.gate.reasons().is_empty(),
            connections: self.intake.as_ref().map(crate::intake::Intake::connections),
            delivery: self.delivery.get().map(|delivery| delivery.figures(DESTINATIONS_MAX)),
            certificates: Arc::clone(&self.tls.load()).expiries().to_vec(),
        }));
        text(&registry)
    }
}

/// How everything stands at one instant.
#[derive(Debug)]
struct Look {
    queue: Figures,
    oldest_age: f64,
    ready: bool,
    connections: Option<usize>,
    delivery: Option<DeliveryFigures>,
    certificates: Vec<Expiry>,
}

impl Collector for Look {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        page.gauges("mailswitch_build_info", "The program's version", [(version, 1.0)])?;
        page.gauge("mailswitch_ready", "1 if new mail is taken", truth(self.ready))?;
        self.ownership(&mut page)?;
        self.messages(&mut page)?;
        if let Some(connections) = self.connections {
            page.gauge("mailswitch_smtp_connections", "Open connections of clients", size(connections))?;
        }
        if let Some(delivery) = &self.delivery {
            destinations(delivery, &mut page)?;
        }
        let certificates = self.certificates.iter().map(|expiry| {
            let labels = vec![("listener", expiry.listener.clone())];
            (labels, real(expiry.not_after))
        });
        page.gauges(
            "mailswitch_certificate_expiry_timestamp_seconds",
            "When the certificate of a listener ends",
            certificates,
        )
    }
}

impl Look {
    fn ownership(&self, page: &mut Page<'_>) -> fmt::Result {
        let queue = &self.queue;
        let states = STATES.map(|state| (one("state", state.as_str()), truth(queue.state == state)));
        page.gauges("mailswitch_queue_state", "1 for the state of this instance of the queue", states)?;
        page.gauge("mailswitch_queue_epoch", "The epoch owned, 0 if none", real(queue.epoch.0))?;
        if let Some(age) = queue.lease_age {
            let help = "Since the own lease was last renewed";
            page.gauge("mailswitch_lease_renewal_age_seconds", help, age.as_secs_f64())?;
        }
        let spent =
            queue.spent.iter().map(|(state, span)| (one("phase", state.as_str()), span.as_secs_f64()));
        page.gauges(
            "mailswitch_ownership_phase_seconds",
            "Time this instance spent in each phase of taking and leaving the queue",
            spent,
        )?;
        if let Some(found) = queue.recovery {
            let found = [
                ("in_doubt", found.in_doubt),
                ("late_frames", found.late_frames),
                ("unreplied", found.unreplied),
                ("faults", found.faults),
            ];
            page.gauges(
                "mailswitch_recovery_found",
                "What earlier owners left, as this instance found it",
                found.map(|(what, count)| (one("what", what), real(count))),
            )?;
        }
        page.gauge(
            "mailswitch_commit_running_seconds",
            "How long the running group commit has taken so far",
            queue.commit_running.as_secs_f64(),
        )?;
        page.gauge(
            "mailswitch_queue_free_bytes",
            "Free bytes of the queue's file system",
            real(queue.free_bytes),
        )?;
        page.gauge(
            "mailswitch_queue_reserve_bytes",
            "New mail is refused when less than this is free",
            real(queue.reserve_bytes),
        )
    }

    fn messages(&self, page: &mut Page<'_>) -> fmt::Result {
        let queue = &self.queue;
        page.gauge("mailswitch_queue_messages", "Messages in the queue", real(queue.messages))?;
        let (Some(tally), Some(totals)) = (queue.tally, queue.totals) else { return Ok(()) };
        let states = [("queued", tally.queued), ("held", tally.held), ("owed", tally.owed)];
        page.gauges(
            "mailswitch_queue_recipients",
            "Recipients in the queue: waiting, held by an operator, owed a bounce",
            states.map(|(state, count)| (one("state", state), real(count))),
        )?;
        page.gauge(
            "mailswitch_queue_oldest_age_seconds",
            "Age of the oldest message in the queue",
            self.oldest_age,
        )?;
        let fates = [
            ("accepted", totals.accepted),
            ("generated", totals.generated),
            ("delivered", totals.delivered),
            ("bounced", totals.bounced),
            ("expired", totals.expired),
            ("deleted", totals.deleted),
            ("in_doubt", totals.in_doubt),
        ];
        page.counters(
            "mailswitch_ledger_recipients",
            "The ledger of the queue, over all its owners",
            fates.map(|(fate, count)| (one("fate", fate), count)),
        )?;
        page.gauge(
            "mailswitch_ledger_imbalance",
            "Recipients by which the ledger and the queue differ; anything but 0 is a fault",
            real(queue.imbalance()),
        )
    }
}

fn destinations(delivery: &DeliveryFigures, page: &mut Page<'_>) -> fmt::Result {
    page.gauge("mailswitch_delivery_waiting", "Messages that wait for a next hop", size(delivery.waiting))?;
    page.gauge("mailswitch_delivery_running", "Attempts that run", size(delivery.running))?;
    let rows = |value: fn(&crate::delivery::Line) -> f64| {
        delivery.lines.iter().map(move |line| (one("destination", &line.destination), value(line)))
    };
    page.gauges(
        "mailswitch_destination_waiting",
        "Messages that wait for a next hop, of those with the most",
        rows(|line| size(line.waiting)),
    )?;
    page.gauges(
        "mailswitch_destination_unreachable",
        "1 if the next hop cannot be reached, of those with the most messages",
        rows(|line| truth(line.unreachable)),
    )
}

fn one(label: &'static str, value: &str) -> Labels {
    vec![(label, value.to_owned())]
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn size(count: usize) -> f64 {
    real(count as u64)
}
