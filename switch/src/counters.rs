//! What this instance did since its start, as plain numbers that any task may add to. Nothing is decided by them.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter as Number;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A number that only grows.
#[derive(Debug, Clone, Default)]
pub struct Counter(Number);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.inc_by(amount);
    }

    /// The sum so far.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.get()
    }
}

/// Numbers that only grow, one for each combination of `N` labels. The values are words of ours, so there are few.
#[derive(Debug, Clone)]
pub struct Kinds<const N: usize> {
    labels: [&'static str; N],
    family: Family<[(&'static str, &'static str); N], Number>,
}

impl<const N: usize> Kinds<N> {
    fn new(labels: [&'static str; N]) -> Self {
        Self { labels, family: Family::default() }
    }

    /// Adds `amount` to the number of these values of the labels.
    pub fn add(&self, values: [&'static str; N], amount: u64) {
        if amount > 0 {
            let mut pairs = self.labels.map(|label| (label, ""));
            for (pair, value) in pairs.iter_mut().zip(values) {
                pair.1 = value;
            }
            self.family.get_or_create(&pairs).inc_by(amount);
        }
    }
}

/// The counters of a switch.
#[derive(Debug)]
pub struct Counters {
    /// Messages accepted from clients.
    pub accepted: Counter,
    /// Their bytes.
    pub accepted_bytes: Counter,
    /// Their recipients.
    pub accepted_recipients: Counter,
    /// Recipients refused to clients.
    pub refused: Counter,
    /// Messages that were begun by a client and never completed.
    pub aborted: Counter,
    /// Messages that were here before under their name, and were not taken again.
    pub repeated: Counter,
    /// Recipients whom the next hop had when they were handed over again.
    pub doubts_settled: Counter,
    /// Sessions of clients.
    pub sessions: Counter,
    /// What clients were refused, by `stage` (connection, sender, recipient, message) and `reason`.
    pub refusals: Kinds<2>,
    /// Handshakes of TLS, by `direction` (in, out) and `result` (done, failed).
    pub handshakes: Kinds<2>,
    /// Messages that content filters saw, by `kind` (rspamd, clamd, milter) and `result`.
    pub filtered: Kinds<2>,
    /// Recipients a next hop took.
    pub delivered: Counter,
    /// Recipients that failed for good.
    pub bounced: Counter,
    /// Recipients put off, each time counted.
    pub deferred: Counter,
    /// What attempts came to, a recipient each time counted, by `result` and the class of the `reply`.
    pub outcomes: Kinds<2>,
    /// Notifications made.
    pub bounces: Counter,
    /// The same by `kind` (failure, success, delay).
    pub notifications: Kinds<1>,
    /// Recipients in doubt that were not just sent again, by `action` (held, bounced, `crash_held`).
    pub doubtful: Kinds<1>,
    /// Recipients that failed and whose mail had no sender.
    pub double_bounces: Counter,
    /// How long attempts took.
    attempts: Histogram,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            accepted_bytes: Counter::default(),
            accepted_recipients: Counter::default(),
            refused: Counter::default(),
            aborted: Counter::default(),
            repeated: Counter::default(),
            doubts_settled: Counter::default(),
            sessions: Counter::default(),
            refusals: Kinds::new(["stage", "reason"]),
            handshakes: Kinds::new(["direction", "result"]),
            filtered: Kinds::new(["kind", "result"]),
            delivered: Counter::default(),
            bounced: Counter::default(),
            deferred: Counter::default(),
            outcomes: Kinds::new(["result", "reply"]),
            bounces: Counter::default(),
            notifications: Kinds::new(["kind"]),
            doubtful: Kinds::new(["action"]),
            double_bounces: Counter::default(),
            // 1 ms to 17 minutes.
            attempts: Histogram::new(exponential_buckets(0.001, 4.0, 11)),
        }
    }
}

impl Counters {
    /// An attempt took so long.
    pub(crate) fn attempted(&self, took: Duration) {
        self.attempts.observe(took.as_secs_f64());
    }

    /// Hands all of them to `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let plain = [
            (&self.accepted, "mailswitch_messages_accepted", "Messages accepted from clients"),
            (
                &self.accepted_bytes,
                "mailswitch_accepted_bytes",
                "Bytes of the messages accepted from clients",
            ),
            (
                &self.accepted_recipients,
                "mailswitch_recipients_accepted",
                "Recipients of the messages accepted from clients",
            ),
            (
                &self.aborted,
                "mailswitch_messages_aborted",
                "Messages that a client began and did not complete",
            ),
            (
                &self.repeated,
                "mailswitch_messages_repeated",
                "Messages that were handed over again and had been taken for some or all of their recipients",
            ),
            (
                &self.doubts_settled,
                "mailswitch_doubts_settled",
                "Recipients handed over again whom the next hop had taken before",
            ),
            (&self.sessions, "mailswitch_smtp_sessions", "Connections of clients that were taken"),
            (&self.bounces, "mailswitch_bounces", "Notifications made for senders, of any kind"),
            (
                &self.double_bounces,
                "mailswitch_double_bounces",
                "Recipients that failed and whose mail had no sender to tell",
            ),
        ];
        for (counter, name, help) in plain {
            registry.register(name, help, counter.0.clone());
        }
        let kinds = [
            (&self.refusals, "mailswitch_smtp_refusals", "What clients were refused, by stage and reason"),
            (&self.handshakes, "mailswitch_tls_handshakes", "TLS handshakes with clients and next hops"),
            (
                &self.filtered,
                "mailswitch_filter_messages",
                "Messages that content filters were asked about, by what came of it",
            ),
            (
                &self.outcomes,
                "mailswitch_delivery_recipients",
                "Recipients tried, by result and class of the reply",
            ),
        ];
        for (kinds, name, help) in kinds {
            registry.register(name, help, kinds.family.clone());
        }
        registry.register(
            "mailswitch_doubtful_recipients",
            "Recipients in doubt that were held or given up",
            self.doubtful.family.clone(),
        );
        registry.register(
            "mailswitch_notifications",
            "Notifications made for senders, by kind",
            self.notifications.family.clone(),
        );
        let help = "Time of one delivery attempt, from its record to its outcome";
        registry.register("mailswitch_delivery_seconds", help, self.attempts.clone());
    }
}
