//! Whether a demo passed, and its numbers: a line for programs, a summary for people, a report with everything.

use std::path::Path;

use anyhow::Result;
use mail_model::{Epoch, Moment, QueueId};
use rig::{Delivery, Probe};
use serde::Serialize;
use serde_json::{Value, json};

use super::books::{Books, is_of};
use super::leases::History;
use super::options::{Fault, Options};

/// Milliseconds from the fault.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Phases {
    /// A heartbeatd decided to take the queue.
    pub(crate) detect: u64,
    /// The next epoch was claimed.
    pub(crate) claim: u64,
    /// The secondary worked: its lease said so, or its first delivery showed it.
    pub(crate) active: u64,
    /// The sink got the first message of the failed node from the secondary; none if there was none.
    pub(crate) first_delivery: Option<u64>,
    /// The sink got the last one.
    pub(crate) drained: u64,
}

/// What happened between the beginning of traffic and its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Story {
    /// The takeover.
    pub(crate) phases: Option<Phases>,
    /// From the node's return until it worked on its queue again.
    pub(crate) handback_ms: Option<u64>,
    /// Messages of the failed node that the secondary delivered.
    pub(crate) taken_over: usize,
    /// The queue that was taken over, and the last epoch of the node that failed.
    pub(crate) last_epoch: Option<(QueueId, Epoch)>,
    /// When the node went on that had stood still.
    pub(crate) thawed_at: Option<Moment>,
    /// Deliveries by that node after that: each was a committed attempt, and counts as in doubt.
    pub(crate) late_deliveries: usize,
    /// What must not have happened, in words.
    pub(crate) faults: Vec<String>,
    /// The epochs of each queue.
    pub(crate) epochs: Vec<(QueueId, Vec<Epoch>)>,
    /// Records of decisions about the queue.
    pub(crate) decisions: Vec<Value>,
    /// Lines of level ERROR in the programs' logs.
    pub(crate) errors: Vec<String>,
}

impl Story {
    /// Where no takeover may follow, no queue may have a second epoch.
    pub(crate) fn judge_epochs(&mut self, history: &History, fault: Fault) {
        let queues: Vec<_> = history.latest.iter().map(|seen| seen.queue.clone()).collect();
        for queue in queues {
            let epochs = history.epochs(&queue);
            let hit = self.last_epoch.as_ref().is_some_and(|(hit, _)| *hit == queue);
            if epochs.len() > 1 && !(hit && fault.leads_to_takeover()) {
                self.faults.push(format!("queue {queue} was taken without need: epochs {epochs:?}"));
            }
            self.epochs.push((queue, epochs));
        }
    }

    /// A node that stood still must do nothing under its old epoch once it goes on.
    pub(crate) fn judge_zombie<'a>(
        &mut self,
        probes: impl Iterator<Item = &'a Probe>,
        deliveries: &[Delivery],
    ) {
        let (Some(thawed), Some((queue, last))) = (self.thawed_at, &self.last_epoch) else { return };
        let promised = probes.filter_map(|probe| probe.accepted.as_ref());
        let promised = promised.filter(|a| a.at >= thawed && is_of(a.id(), queue, *last)).count();
        if promised > 0 {
            self.faults.push(format!("{promised} messages were accepted by the zombie"));
        }
        self.late_deliveries =
            deliveries.iter().filter(|d| d.at >= thawed && is_of(d.id.as_deref(), queue, *last)).count();
    }
}

/// The line for programs: its keys, in this order, are a contract.
#[derive(Debug, Serialize)]
struct Line<'a> {
    verdict: &'static str,
    seed: u64,
    accepted: u64,
    delivered: u64,
    lost: usize,
    duplicates: u64,
    in_doubt: u64,
    client_retries_delivered_twice: u64,
    still_queued: u64,
    takeover_ms: Option<Phases>,
    handback_ms: Option<u64>,
    report: &'a Path,
}

/// A demo that has ended.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) options: Options,
    pub(crate) story: Story,
    pub(crate) books: Books,
    /// Why it did not come to its end.
    pub(crate) broken_off: Option<String>,
}

impl Verdict {
    /// A demo that did not come to its end.
    pub(crate) fn broken_off(options: Options, why: String) -> Self {
        Self { options, story: Story::default(), books: Books::default(), broken_off: Some(why) }
    }

    /// Nothing lost, nothing damaged, nothing delivered twice without a doubt on record, no takeover without need.
    pub(crate) fn passed(&self) -> bool {
        self.faults().is_empty()
    }

    fn faults(&self) -> Vec<String> {
        if let Some(why) = &self.broken_off {
            return vec![why.clone()];
        }
        let mut faults = self.books.faults();
        faults.extend(self.story.faults.iter().cloned());
        if self.story.late_deliveries as u64 > self.books.in_doubt {
            faults.push(format!("{} deliveries by the zombie", self.story.late_deliveries));
        }
        faults
    }

    fn word(&self) -> &'static str {
        if self.passed() { "pass" } else { "fail" }
    }

    /// The line for programs.
    pub(crate) fn line(&self, report: &Path) -> Result<String> {
        Ok(serde_json::to_string(&Line {
            verdict: self.word(),
            seed: self.options.seed,
            accepted: self.books.accepted,
            delivered: self.books.delivered,
            lost: self.books.lost.len(),
            duplicates: self.books.duplicates,
            in_doubt: self.books.in_doubt,
            client_retries_delivered_twice: self.books.client_retries_delivered_twice,
            still_queued: self.books.still_queued,
            takeover_ms: self.story.phases,
            handback_ms: self.story.handback_ms,
            report,
        })?)
    }

    /// Everything, as indented JSON.
    pub(crate) fn report(&self) -> Result<String> {
        let options = &self.options;
        let epochs: serde_json::Map<String, Value> =
            self.story.epochs.iter().map(|(queue, epochs)| (queue.to_string(), json!(epochs))).collect();
        Ok(serde_json::to_string_pretty(&json!({
            "schema": "mailswitch.demo.report/1",
            "verdict": self.word(),
            "faults": self.faults(),
            "options": {
                "nodes": options.nodes, "rate": options.rate, "seconds": options.seconds,
                "fault": options.fault.to_string(), "seed": options.seed,
            },
            "takeover_ms": self.story.phases,
            "handback_ms": self.story.handback_ms,
            "taken_over": self.story.taken_over,
            "late_deliveries": self.story.late_deliveries,
            "epochs": epochs,
            "books": self.books,
            "errors_in_logs": self.story.errors,
            "decisions": self.story.decisions,
        }))?)
    }

    /// Lines for people.
    pub(crate) fn summary(&self) -> Vec<String> {
        let books = &self.books;
        let mut lines = vec![String::new()];
        if self.passed() {
            lines.push("PASS: every message that got a 250 was delivered".to_owned());
        } else {
            lines.push("FAIL".to_owned());
            lines.extend(self.faults().into_iter().map(|fault| format!("  ! {fault}")));
        }
        if self.broken_off.is_some() {
            return lines;
        }
        lines.push(format!("  accepted {:>7}   250 replies that the client saw", books.accepted));
        lines.push(format!("  delivered {:>6}   different messages at the far end", books.delivered));
        lines.push(format!("  lost {:>11}", books.lost.len()));
        lines.push(format!(
            "  duplicates {:>5}   second deliveries, of {} attempts in doubt",
            books.duplicates, books.in_doubt
        ));
        lines.push(format!(
            "  sent twice {:>5}   by the client itself, which saw no reply to a message that was durable",
            books.client_retries_delivered_twice
        ));
        lines.push(format!("  still queued {:>3}", books.still_queued));
        if let Some(phases) = &self.story.phases {
            lines.push(format!(
                "  takeover: detected +{} ms, claimed +{} ms, active +{} ms, drained +{} ms ({} messages)",
                phases.detect, phases.claim, phases.active, phases.drained, self.story.taken_over
            ));
        } else {
            lines.push("  takeover: none, as it must be".to_owned());
        }
        if let Some(ms) = self.story.handback_ms {
            lines.push(format!("  hand-back: {ms} ms after the node's return (15 s of it is the hold)"));
        }
        if !self.story.errors.is_empty() {
            lines.push(format!(
                "  {} lines of level ERROR in the logs; the report lists them",
                self.story.errors.len()
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use cluster::observe::LeaseView;
    use mail_model::{LeaseState, Role};

    use super::super::leases::Seen;
    use super::*;

    fn options(fault: Fault) -> Options {
        Options { nodes: 2, rate: 200, seconds: 20, fault, seed: 1, json: true, keep: false }
    }

    fn history(epochs: &[(&str, u64)]) -> History {
        let seen = |(queue, epoch): &(&str, u64)| Seen {
            at: Moment(0),
            queue: queue.parse().unwrap(),
            lease: LeaseView {
                epoch: Epoch(*epoch),
                owner: "a".parse().unwrap(),
                role: Role::Primary,
                seq: 1,
                state: Some(LeaseState::Active),
                working: true,
                window_ms: 2000,
                renew_ms: 300,
                queued: 0,
            },
        };
        let changes: Vec<Seen> = epochs.iter().map(seen).collect();
        History { latest: changes.clone(), changes }
    }

    #[test]
    fn a_takeover_that_nothing_called_for_fails_the_demo() {
        let epochs = [("a", 1), ("b", 1), ("b", 2)];
        for (fault, hit, passes) in [
            (Fault::Kill, Some("b"), true),
            (Fault::Kill, Some("a"), false),
            (Fault::Isolate, None, false),
            (Fault::None, None, false),
        ] {
            let last_epoch = hit.map(|queue| (queue.parse().unwrap(), Epoch(1)));
            let mut story = Story { last_epoch, ..Story::default() };
            story.judge_epochs(&history(&epochs), fault);
            let verdict =
                Verdict { options: options(fault), story, books: Books::default(), broken_off: None };
            assert_eq!(verdict.passed(), passes, "{fault} {hit:?}: {:?}", verdict.faults());
        }
    }

    #[test]
    fn the_line_has_every_key_whatever_happened() {
        let verdict = Verdict::broken_off(options(Fault::Kill), "a switch did not start".to_owned());
        let wanted = concat!(
            r#"{"verdict":"fail","seed":1,"accepted":0,"delivered":0,"lost":0,"duplicates":0,"in_doubt":0,"#,
            r#""client_retries_delivered_twice":0,"still_queued":0,"takeover_ms":null,"handback_ms":null,"#,
            r#""report":"r.json"}"#
        );
        assert_eq!(verdict.line(Path::new("r.json")).unwrap(), wanted);
    }
}
