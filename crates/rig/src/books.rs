//! The books: what the client was promised against what the sink got. Pure, and the only judge of a run.
//!
//! | count | what it is |
//! |---|---|
//! | accepted | probes that got a 250 |
//! | delivered | different probes at the sink |
//! | lost | accepted, but not at the sink for every recipient |
//! | lost copies | accepted as ID, and at the sink only as another copy of the same probe |
//! | duplicates | deliveries of one message id to a recipient who had it already |
//! | client retries delivered twice | further message ids of one probe, each explained by a session that was cut after the final dot |
//! | damaged | deliveries whose bytes below the topmost Received field are not those that were sent |
//! | unexpected | deliveries that nothing explains |
//!
//! A run is whole if nothing is lost, damaged or unexpected. Duplicates are for the caller to hold against what was in doubt.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::record::{Delivery, Probe};

/// Deliveries of one message id beyond the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// The probe.
    pub number: u64,
    /// The message id.
    pub id: String,
    /// How many deliveries were too many.
    pub times: u64,
}

/// Why a delivery is not expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnexpectedReason {
    /// It bears no probe tag: a bounce, or foreign mail.
    NoProbe,
    /// It bears the tag of another run.
    OtherRun,
    /// It bears a number that was never begun.
    NeverBegun,
    /// The client got no 250 and was never cut after a final dot, so nobody may hold the message.
    NeverAccepted,
    /// One more message id than the client's transactions explain.
    ExtraCopy,
    /// It went to more recipients than the probe has.
    ExtraRecipient,
}

/// A delivery, or a copy, that nothing explains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unexpected {
    /// Why.
    pub reason: UnexpectedReason,
    /// The tag, as far as there is one.
    pub probe: Option<String>,
    /// The message id, as far as there is one.
    pub id: Option<String>,
}

/// The closed books of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Messages begun by the client.
    pub begun: u64,
    /// Messages with a 250.
    pub accepted: u64,
    /// Messages with a 5yz.
    pub refused: u64,
    /// Different probes of this run at the sink.
    pub delivered: u64,
    /// Numbers accepted, but missing at the sink for one recipient or more.
    pub lost: Vec<u64>,
    /// Numbers whose 250 named an id that never came, though another copy did.
    pub lost_copies: Vec<u64>,
    /// Sum of `duplicated`.
    pub duplicates: u64,
    /// The duplicates by message id.
    pub duplicated: Vec<Duplicate>,
    /// Copies that the client itself sent again because it could not know that the first was durable.
    pub client_retries_delivered_twice: u64,
    /// Probes delivered without a 250 after a session that was cut behind the final dot.
    pub delivered_unacknowledged: u64,
    /// Numbers with a delivery whose bytes differ.
    pub damaged: Vec<u64>,
    /// What nothing explains.
    pub unexpected: Vec<Unexpected>,
}

/// What came for one probe.
#[derive(Debug, Default)]
struct Arrived<'a> {
    /// Recipients by message id. A delivery without an id is a copy of its own: it came from the client itself.
    copies: BTreeMap<(Option<&'a str>, usize), BTreeSet<&'a str>>,
    repeated: BTreeMap<&'a str, u64>,
    damaged: bool,
}

impl Balance {
    /// Closes the books of `run` over all records of both sides.
    #[must_use]
    pub fn close(run: &str, probes: &[Probe], deliveries: &[Delivery]) -> Self {
        let mut balance = Self::default();
        let known: BTreeMap<u64, &Probe> = probes.iter().map(|probe| (probe.number, probe)).collect();
        let mut arrived: BTreeMap<u64, Arrived<'_>> = BTreeMap::new();
        for (place, delivery) in deliveries.iter().enumerate() {
            let reason = match &delivery.probe {
                None => UnexpectedReason::NoProbe,
                Some(tag) if tag.run != run => UnexpectedReason::OtherRun,
                Some(tag) => match known.get(&tag.number) {
                    None => UnexpectedReason::NeverBegun,
                    Some(probe) => {
                        arrived.entry(tag.number).or_default().add(place, probe, delivery);
                        continue;
                    }
                },
            };
            let probe = delivery.probe.as_ref().map(ToString::to_string);
            balance.unexpected.push(Unexpected { reason, probe, id: delivery.id.clone() });
        }
        balance.begun = known.len() as u64;
        balance.delivered = arrived.len() as u64;
        for (number, probe) in known {
            balance.accepted += u64::from(probe.accepted.is_some());
            balance.refused += u64::from(probe.refused.is_some());
            balance.enter(run, number, probe, arrived.get(&number));
        }
        balance.unexpected.sort_by_key(|unexpected| unexpected.reason);
        balance
    }

    /// Whether everything that was accepted came whole, and nothing came that nobody sent.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty()
            && self.lost_copies.is_empty()
            && self.damaged.is_empty()
            && self.unexpected.is_empty()
    }

    fn enter(&mut self, run: &str, number: u64, probe: &Probe, arrived: Option<&Arrived<'_>>) {
        let Some(arrived) = arrived else {
            if probe.accepted.is_some() {
                self.lost.push(number);
            }
            return;
        };
        if arrived.damaged {
            self.damaged.push(number);
        }
        for (id, times) in &arrived.repeated {
            self.duplicates += times;
            self.duplicated.push(Duplicate { number, id: (*id).to_owned(), times: *times });
        }
        let recipients: BTreeSet<&str> = arrived.copies.values().flatten().copied().collect();
        let accepted_id = probe.accepted.as_ref().and_then(|accepted| accepted.id());
        let copy_of_id = accepted_id.and_then(|id| arrived.copies.get(&(Some(id), 0)));
        if probe.accepted.is_some() && recipients.len() < probe.recipients {
            self.lost.push(number);
        } else if accepted_id.is_some()
            && arrived.copies.keys().all(|(id, _)| id.is_some())
            && copy_of_id.is_none_or(|recipients| recipients.len() < probe.recipients)
        {
            self.lost_copies.push(number);
        }
        let mut surprise = |reason, id: Option<&str>| {
            let (probe, id) = (Some(format!("{run}-{number}")), id.map(str::to_owned));
            self.unexpected.push(Unexpected { reason, probe, id });
        };
        if recipients.len() > probe.recipients {
            surprise(UnexpectedReason::ExtraRecipient, None);
        }
        let copies = arrived.copies.len() as u64;
        let in_doubt = u64::from(probe.cuts_after_dot);
        let explained = in_doubt + u64::from(probe.accepted.is_some());
        if explained == 0 {
            surprise(UnexpectedReason::NeverAccepted, arrived.copies.keys().find_map(|(id, _)| *id));
            return;
        }
        for _ in explained..copies {
            surprise(UnexpectedReason::ExtraCopy, None);
        }
        self.delivered_unacknowledged += u64::from(probe.accepted.is_none());
        self.client_retries_delivered_twice += copies.min(explained) - 1;
    }
}

impl<'a> Arrived<'a> {
    fn add(&mut self, place: usize, probe: &Probe, delivery: &'a Delivery) {
        self.damaged |= delivery.checksum != probe.checksum;
        let id = delivery.id.as_deref();
        let copy = self.copies.entry((id, if id.is_some() { 0 } else { place })).or_default();
        // One message may come in several transactions, each for other recipients: that is no duplicate.
        let mut again = false;
        for recipient in &delivery.recipients {
            again |= !copy.insert(recipient);
        }
        if let (true, Some(id)) = (again, id) {
            *self.repeated.entry(id).or_default() += 1;
        }
    }
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
