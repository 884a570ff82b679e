//! What came of a drill, against its objective: the verdict, and everything it rests on. Decides only.

use mail_model::{Moment, NodeId, WallTime};
use rig::{Balance, Delivery, Probe};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::options::Options;
use super::plan::Plan;

/// Two points of the chart are so far apart, in milliseconds.
const POINT_MS: u64 = 100;

/// Milliseconds from the fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Phases {
    /// The heartbeatd that ordered the drill decided to take the queue; none if another did.
    pub(crate) detect: Option<u64>,
    /// The next epoch was claimed.
    pub(crate) claim: Option<u64>,
    /// The taker worked.
    pub(crate) active: Option<u64>,
    /// The sink got the first probe that the node had accepted before its fault.
    pub(crate) first_delivery: Option<u64>,
    /// And the last one.
    pub(crate) drained: Option<u64>,
    /// How many these were.
    pub(crate) taken_over: usize,
}

/// When what happened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct When {
    pub(crate) fault: Option<Moment>,
    pub(crate) over: Option<Moment>,
    pub(crate) home: Option<Moment>,
}

/// Events as they were shown.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    began: Moment,
    lines: Vec<Event>,
}

impl Events {
    pub(crate) fn new(began: Moment) -> Self {
        Self { began, lines: Vec::new() }
    }

    pub(crate) fn add(&mut self, at: Moment, text: String) {
        let ms = self.since(at);
        self.lines.push(Event { ms, text });
    }

    fn since(&self, at: Moment) -> u64 {
        millis(at, self.began)
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Milliseconds from the beginning of probe traffic.
    pub(crate) ms: u64,
    /// What.
    pub(crate) text: String,
}

/// A point of the chart: sums until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Milliseconds from the beginning of probe traffic.
    pub(crate) ms: u64,
    /// Probes with a 250.
    pub(crate) accepted: u64,
    /// Different probes at the sink.
    pub(crate) delivered: u64,
}

/// A node as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Its name.
    #[serde(rename = "node")]
    pub(crate) name: NodeId,
    /// Its version.
    pub(crate) version: String,
    /// The digest of its configuration.
    pub(crate) config_hash: String,
}

/// The report. Its keys are a contract: `mailswitch.drill.report/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) schema: String,
    pub(crate) id: String,
    pub(crate) verdict: String,
    /// Why it did not pass.
    pub(crate) faults: Vec<String>,
    pub(crate) fault: String,
    pub(crate) node: NodeId,
    pub(crate) who: String,
    pub(crate) ordered_by: NodeId,
    pub(crate) at: String,
    pub(crate) at_ms: u64,
    pub(crate) nodes: Vec<Member>,
    pub(crate) slo_ms: u64,
    /// From the fault to what the objective is about; none where no takeover may follow.
    pub(crate) measured_ms: Option<u64>,
    pub(crate) taker: Option<NodeId>,
    pub(crate) takeover_ms: Phases,
    /// From the end of the fault until the node worked on its queue again.
    pub(crate) handback_ms: Option<u64>,
    /// The longest time in which no client got a 250.
    pub(crate) accept_gap_ms: u64,
    pub(crate) accepted: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: usize,
    pub(crate) duplicates: u64,
    pub(crate) in_doubt: u64,
    pub(crate) client_retries_delivered_twice: u64,
    pub(crate) warnings: Vec<String>,
    pub(crate) events: Vec<Event>,
    /// Milliseconds from the beginning of probe traffic.
    pub(crate) fault_ms: Option<u64>,
    /// See `fault_ms`.
    pub(crate) over_ms: Option<u64>,
    pub(crate) points: Vec<Point>,
    pub(crate) decisions: Vec<Value>,
}

/// What a report is made of.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) id: u64,
    pub(crate) who: String,
    pub(crate) ordered_by: NodeId,
    pub(crate) began_wall: WallTime,
    pub(crate) when: When,
    pub(crate) phases: Phases,
    pub(crate) taker: Option<NodeId>,
    pub(crate) decisions: Vec<Value>,
    pub(crate) balance: Balance,
    pub(crate) in_doubt: u64,
    pub(crate) probes: &'a [Probe],
    pub(crate) deliveries: &'a [Delivery],
    pub(crate) events: Events,
    pub(crate) faults: Vec<String>,
}

impl Report {
    /// The report of a drill that has ended.
    pub(crate) fn make(options: &Options, plan: &Plan, found: Found<'_>) -> Self {
        let slo_ms = u64::try_from(options.slo.as_millis()).unwrap_or(u64::MAX);
        let takeover = options.fault.leads_to_takeover();
        // A queue that was empty when the node died is served as soon as somebody works on it.
        let measured = found.phases.first_delivery.or(found.phases.active).filter(|_| takeover);
        let points = points(&found);
        let when = found.when;
        let mut faults = found.faults;
        judge(&found.balance, found.in_doubt, &mut faults);
        if takeover && when.fault.is_some() {
            match measured {
                Some(ms) if ms > slo_ms => {
                    faults.push(format!("the objective is {slo_ms} ms, and it took {ms} ms"));
                }
                Some(_) => {}
                None => faults.push("nobody took the queue".to_owned()),
            }
        }
        let at = crate::output::plain(&crate::output::time(found.began_wall));
        let digits = at.chars().filter(char::is_ascii_digit).take(14).collect::<String>();
        let member = |(name, version, config_hash): &(NodeId, String, String)| Member {
            name: name.clone(),
            version: version.clone(),
            config_hash: config_hash.clone(),
        };
        Self {
            schema: "mailswitch.drill.report/1".to_owned(),
            id: format!("{digits}-{}-{}-{:04x}", options.fault, options.node, found.id & 0xffff),
            verdict: if faults.is_empty() { "pass" } else { "fail" }.to_owned(),
            faults,
            fault: options.fault.to_string(),
            node: options.node.clone(),
            who: found.who,
            ordered_by: found.ordered_by,
            at,
            at_ms: found.began_wall.0,
            nodes: plan.nodes.iter().map(member).collect(),
            slo_ms,
            measured_ms: measured,
            taker: found.taker,
            takeover_ms: found.phases,
            handback_ms: when.home.zip(when.over).map(|(home, over)| millis(home, over)),
            accept_gap_ms: accept_gap(found.probes),
            accepted: found.balance.accepted,
            delivered: found.balance.delivered,
            lost: found.balance.lost.len() + found.balance.lost_copies.len(),
            duplicates: found.balance.duplicates,
            in_doubt: found.in_doubt,
            client_retries_delivered_twice: found.balance.client_retries_delivered_twice,
            warnings: plan.warnings.clone(),
            fault_ms: when.fault.map(|at| found.events.since(at)),
            over_ms: when.over.map(|at| found.events.since(at)),
            events: found.events.lines,
            points,
            decisions: found.decisions,
        }
    }

    /// Nothing speaks against it.
    pub(crate) fn passed(&self) -> bool {
        self.faults.is_empty()
    }

    /// Lines for people.
    pub(crate) fn summary(&self) -> Vec<String> {
        let mut lines = vec![format!("\n{}: drill {}", self.verdict.to_uppercase(), self.id)];
        lines.extend(self.faults.iter().map(|fault| format!("  ! {fault}")));
        if let Some(measured) = self.measured_ms {
            lines.push(format!(
                "  first delivery  {measured:>6} ms after the fault; the objective is {} ms",
                self.slo_ms
            ));
        }
        lines.extend(
            self.handback_ms.map(|ms| format!("  hand-back       {ms:>6} ms after the end of the fault")),
        );
        lines.push(format!("  accept gap      {:>6} ms, the longest time without a 250", self.accept_gap_ms));
        lines.push(format!(
            "  accepted {}, delivered {}, lost {}, duplicates {} of {} in doubt, {} sent again by the client",
            self.accepted,
            self.delivered,
            self.lost,
            self.duplicates,
            self.in_doubt,
            self.client_retries_delivered_twice
        ));
        lines
    }

    /// The report as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut lines = vec![
            format!("# Drill {}: {}", self.id, self.verdict),
            String::new(),
            format!(
                "`{}` of node {}, ordered on node {} by {}, {}.",
                self.fault, self.node, self.ordered_by, self.who, self.at
            ),
            String::new(),
        ];
        lines.extend(self.faults.iter().map(|fault| format!("- **{fault}**")));
        lines.extend(self.warnings.iter().map(|warning| format!("- warning: {warning}")));
        lines.push("\n| what | |\n|---|--:|".to_owned());
        lines.extend(self.rows().into_iter().map(|(what, value)| format!("| {what} | {value} |")));
        lines.push("\n| node | version | configuration |\n|---|---|---|".to_owned());
        lines.extend(
            self.nodes.iter().map(|n| format!("| {} | {} | `{}` |", n.name, n.version, n.config_hash)),
        );
        lines.push("\n| ms | event |\n|--:|---|".to_owned());
        lines.extend(
            self.events.iter().map(|event| format!("| {} | {} |", event.ms, event.text.replace('|', "\\|"))),
        );
        lines.push(String::new());
        lines.join("\n")
    }

    /// The numbers, each with its name.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let ms = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        vec![
            ("objective: fault to first delivery", format!("{} ms", self.slo_ms)),
            ("measured", ms(self.measured_ms)),
            ("decided to take", ms(self.takeover_ms.detect)),
            ("claimed", ms(self.takeover_ms.claim)),
            ("active", ms(self.takeover_ms.active)),
            ("first delivery", ms(self.takeover_ms.first_delivery)),
            ("drained", ms(self.takeover_ms.drained)),
            ("probes taken over", self.takeover_ms.taken_over.to_string()),
            ("taken by", self.taker.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)),
            ("hand-back after the end of the fault", ms(self.handback_ms)),
            ("longest time without a 250", ms(Some(self.accept_gap_ms))),
            ("accepted", self.accepted.to_string()),
            ("delivered", self.delivered.to_string()),
            ("lost", self.lost.to_string()),
            ("duplicates", self.duplicates.to_string()),
            ("in doubt", self.in_doubt.to_string()),
            ("sent again by the client", self.client_retries_delivered_twice.to_string()),
        ]
    }
}

/// Everything that must not be.
fn judge(balance: &Balance, in_doubt: u64, faults: &mut Vec<String>) {
    let mut forbid = |found: bool, text: String| {
        if found {
            faults.push(text);
        }
    };
    let lost: Vec<_> = balance.lost.iter().chain(&balance.lost_copies).collect();
    forbid(!lost.is_empty(), format!("lost: probes {lost:?}"));
    forbid(!balance.damaged.is_empty(), format!("damaged: probes {:?}", balance.damaged));
    forbid(
        balance.duplicates > in_doubt,
        format!("{} duplicates, and only {in_doubt} in doubt: {:?}", balance.duplicates, balance.duplicated),
    );
    forbid(!balance.unexpected.is_empty(), format!("nothing explains {:?}", balance.unexpected));
    forbid(balance.refused > 0, format!("{} probes were refused for good", balance.refused));
    forbid(balance.accepted == 0, "no probe was accepted: nothing was tried".to_owned());
}

fn points(found: &Found<'_>) -> Vec<Point> {
    let began = found.events.began;
    let mut accepted: Vec<u64> =
        found.probes.iter().filter_map(|p| p.accepted.as_ref()).map(|a| millis(a.at, began)).collect();
    let mut seen = std::collections::BTreeSet::new();
    let first = found.deliveries.iter().filter(|d| seen.insert(d.probe.clone()));
    let mut delivered: Vec<u64> = first.map(|d| millis(d.at, began)).collect();
    accepted.sort_unstable();
    delivered.sort_unstable();
    let last = accepted.last().max(delivered.last()).copied().unwrap_or(0);
    let until = |times: &[u64], ms: u64| times.partition_point(|at| *at <= ms) as u64;
    (0..=last / POINT_MS + 1)
        .map(|step| step * POINT_MS)
        .map(|ms| Point { ms, accepted: until(&accepted, ms), delivered: until(&delivered, ms) })
        .collect()
}

fn accept_gap(probes: &[Probe]) -> u64 {
    let mut times: Vec<Moment> = probes.iter().filter_map(|p| p.accepted.as_ref()).map(|a| a.at).collect();
    times.sort_unstable();
    times.iter().zip(times.iter().skip(1)).map(|(a, b)| millis(*b, *a)).max().unwrap_or(0)
}

fn millis(at: Moment, since: Moment) -> u64 {
    u64::try_from(at.since(since).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cluster::drill::DrillFault;

    use super::*;

    fn made(fault: DrillFault, phases: Phases, balance: Balance, in_doubt: u64) -> Report {
        let options = Options {
            fault,
            node: "b".parse().unwrap(),
            slo: Duration::from_secs(5),
            span: None,
            rate: 20,
            through: None,
            sink: None,
            dry_run: false,
        };
        let plan = Plan {
            queue: "b".parse().unwrap(),
            span: Duration::from_secs(8),
            targets: Vec::new(),
            warnings: Vec::new(),
            nodes: vec![("a".parse().unwrap(), "1".to_owned(), "f00".to_owned())],
        };
        let found = Found {
            id: 0x00ab,
            who: "root@mx".to_owned(),
            ordered_by: "a".parse().unwrap(),
            began_wall: WallTime(1_767_323_045_000),
            when: When { fault: Some(Moment(1)), over: None, home: None },
            phases,
            taker: None,
            decisions: Vec::new(),
            balance,
            in_doubt,
            probes: &[],
            deliveries: &[],
            events: Events::new(Moment(0)),
            faults: Vec::new(),
        };
        Report::make(&options, &plan, found)
    }

    fn whole() -> Balance {
        Balance { accepted: 9, delivered: 9, duplicates: 1, ..Balance::default() }
    }

    #[test]
    fn a_drill_passes_only_within_its_objective_and_with_closed_books() {
        let quick = Phases { first_delivery: Some(4_999), active: Some(2_000), ..Phases::default() };
        let late = Phases { first_delivery: Some(5_001), ..quick };
        let empty = Phases { first_delivery: None, ..quick };
        let kill = |phases, balance, doubt| made(DrillFault::Kill, phases, balance, doubt).passed();
        assert!(kill(quick, whole(), 1));
        assert!(kill(empty, whole(), 1), "an empty queue is served by who is active");
        assert!(!kill(late, whole(), 1));
        assert!(!kill(Phases::default(), whole(), 1), "nobody took it");
        assert!(made(DrillFault::Isolate, Phases::default(), whole(), 1).passed());
        assert!(!kill(quick, whole(), 0), "a duplicate that no doubt explains");
        assert!(!kill(quick, Balance { lost: vec![3], ..whole() }, 1));
        assert!(!kill(quick, Balance { damaged: vec![3], ..whole() }, 1));
        assert!(!kill(quick, Balance { refused: 1, ..whole() }, 1));
        assert!(!kill(quick, Balance::default(), 0), "nothing was tried");
    }

    #[test]
    fn a_report_is_read_back_as_it_was_written_and_is_told_in_words() {
        let phases = Phases { first_delivery: Some(5_001), ..Phases::default() };
        let report = made(DrillFault::Kill, phases, whole(), 1);
        assert_eq!(report.id, "20260102030405-kill-b-00ab");
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        let page = report.markdown();
        for wanted in ["fail", "**the objective is 5000 ms, and it took 5001 ms**", "| lost | 0 |", "`f00`"] {
            assert!(page.contains(wanted), "{wanted}\n{page}");
        }
    }
}
