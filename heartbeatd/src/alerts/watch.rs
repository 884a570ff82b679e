//! What is wrong, and when it is told. A condition is told when it lasted for `alerts.after`, once, however often it is
//! seen; a takeover at once. It is over when it was gone for as long, so that what comes and goes makes no noise.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::device::Word;
use control::heartbeatd::HeartbeatdStatus;
use mail_model::{LeaseState, Moment};

use super::notice::{Condition, Notice, Status};
use crate::own::{OwnSwitch, Standing};

#[derive(Debug)]
struct Known {
    condition: Condition,
    since: Moment,
    told: Option<Moment>,
    /// When it last held.
    seen: Moment,
}

/// What is known to be wrong.
#[derive(Debug)]
pub(crate) struct Alerts {
    after: Duration,
    repeat: Duration,
    known: BTreeMap<String, Known>,
}

impl Alerts {
    /// Nothing yet.
    pub(crate) fn new(after: Duration, repeat: Duration) -> Self {
        Self { after, repeat, known: BTreeMap::new() }
    }

    /// This is what is wrong now. What is to be told about it.
    pub(crate) fn step(&mut self, now: Moment, conditions: Vec<Condition>) -> Vec<Notice> {
        let mut notices = Vec::new();
        for condition in conditions {
            let known = self.known.entry(condition.name.clone()).or_insert_with(|| Known {
                condition: condition.clone(),
                since: now,
                told: None,
                seen: now,
            });
            known.condition = condition;
            known.seen = now;
        }
        self.known.retain(|_, known| {
            let lasted = now.since(known.since);
            let unseen = now.since(known.seen);
            let notice = |status| Notice { status, condition: known.condition.clone(), lasted };
            if unseen.is_zero() {
                let due = match known.told {
                    None => known.condition.at_once || lasted >= self.after,
                    Some(told) => now.since(told) >= self.repeat,
                };
                if due {
                    notices.push(notice(Status::Firing));
                    known.told = Some(now);
                }
                return true;
            }
            match known.told {
                None => false,
                Some(_) if unseen >= self.after => {
                    notices.push(notice(Status::Resolved));
                    false
                }
                Some(_) => true,
            }
        });
        notices
    }
}

/// What is wrong, as this node sees it. Of a takeover only the node speaks that holds the queue.
pub(crate) fn conditions(status: &HeartbeatdStatus, own: &OwnSwitch) -> Vec<Condition> {
    let mut found = Vec::new();
    let mut add = |name: String, severity, text, at_once| {
        found.push(Condition { name, severity, text, at_once });
    };
    let protection = &status.protection;
    if !protection.starts_with("full") && !status.peers.is_empty() {
        let severity = if protection.starts_with("none") { "critical" } else { "warning" };
        add("protection".to_owned(), severity, format!("mail is not fully protected: {protection}"), false);
    }
    for queue in &status.queues {
        let name = &queue.queue;
        let held = queue.lease_state.is_some_and(|state| state != LeaseState::Released);
        if held && queue.owner.as_ref() == Some(&status.node) && *name.home() != status.node {
            let text =
                format!("node {} has taken over queue {name}; why: switchctl ha why {name}", status.node);
            add(format!("takeover:{name}"), "warning", text, true);
        }
        if queue.lease_state == Some(LeaseState::StorageSick) {
            let text = format!("the storage of queue {name} failed; look at the mount on its owner");
            add(format!("storage:{name}"), "critical", text, true);
        }
        match queue.device_fault {
            Some(Word::Split) => {
                let text =
                    format!("the copies of queue {name} have parted; see the runbook: {}", queue.device);
                add(format!("split:{name}"), "critical", text, true);
            }
            Some(Word::Unknown | Word::WentBack) => {
                add(format!("arbiter:{name}"), "critical", format!("queue {name}: {}", queue.device), false);
            }
            // The queue's state tells of these.
            Some(
                Word::Held
                | Word::LetGo
                | Word::Lost
                | Word::NotCurrent
                | Word::NotPromoted
                | Word::NotFenced,
            )
            | None => {}
        }
        if matches!(queue.state.as_str(), "INELIGIBLE" | "BLOCKED") {
            let text =
                format!("queue {name} needs another owner, and this node may not take it: {}", queue.detail);
            add(format!("stuck:{name}"), "critical", text, false);
        }
    }
    // A witness has no switch.
    let serves = status.queues.iter().any(|queue| *queue.queue.home() == status.node);
    if serves && !own.ready && matches!(own.standing, Standing::Absent | Standing::Silent | Standing::Running)
    {
        let text = format!("node {} takes no new mail: {}", status.node, own.reasons.join("; "));
        add("switch".to_owned(), "critical", text, false);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(name: &str, at_once: bool) -> Condition {
        Condition { name: name.to_owned(), severity: "warning", text: name.to_owned(), at_once }
    }

    /// Steps once a second with what holds then; what is told, and when.
    fn told(at_once: bool, holds: &str) -> Vec<(usize, Status)> {
        let mut alerts = Alerts::new(Duration::from_secs(3), Duration::from_secs(10));
        let mut found = Vec::new();
        for (second, holds) in holds.chars().enumerate() {
            let now = Moment(1_000_000 + 1_000 * second as u64);
            let conditions = if holds == '#' { vec![condition("x", at_once)] } else { Vec::new() };
            found.extend(alerts.step(now, conditions).iter().map(|notice| (second, notice.status)));
        }
        found
    }

    #[test]
    fn what_lasts_is_told_once_repeated_seldom_and_resolved() {
        use Status::{Firing, Resolved};
        assert_eq!(told(false, "..#####......"), [(5, Firing), (9, Resolved)]);
        assert_eq!(told(false, "##############"), [(3, Firing), (13, Firing)]);
        assert_eq!(told(true, "#...."), [(0, Firing), (3, Resolved)]);
    }

    #[test]
    fn what_comes_and_goes_makes_no_noise() {
        assert_eq!(told(false, "##.##.##.##."), []);
        assert_eq!(told(false, "####.##..##.#"), [(3, Status::Firing)]);
    }
}
