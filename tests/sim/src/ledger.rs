//! What the outside knows: the clients remember each 250, the next hop counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use mail_model::{QueueId, RecipientIndex};
use parking_lot::Mutex;
use queue_format::record::MessageKey;

use crate::chance::Chance;

/// A message in the switch: its queue and its key.
pub(crate) type Name = (QueueId, MessageKey);

/// What a client offered once. It never offers the same again.
#[derive(Debug)]
struct Offer {
    name: Name,
    len: usize,
    recipients: RecipientIndex,
    acknowledged: bool,
}

#[derive(Debug, Default)]
struct Inner {
    offers: BTreeMap<u64, Offer>,
    by_name: BTreeMap<Name, u64>,
    /// Final dots, by message and recipient.
    delivered: BTreeMap<(Name, RecipientIndex), u32>,
    /// Refused for good by the next hop.
    refused: BTreeMap<(Name, RecipientIndex), u32>,
    wrong: Vec<String>,
    closed: bool,
}

/// The ledger. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Inner>>);

/// Sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Messages with a 250.
    pub(crate) accepted: u64,
    /// Recipients of those.
    pub(crate) recipients: u64,
    /// Recipients that the next hop took at least once.
    pub(crate) delivered: u64,
    /// Further times it took one.
    pub(crate) duplicates: u64,
}

impl Sums {
    pub(crate) fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.recipients += other.recipients;
        self.delivered += other.delivered;
        self.duplicates += other.duplicates;
    }
}

/// The content that belongs to a message: no two messages share it.
pub(crate) fn content((queue, key): &Name, len: usize) -> Vec<u8> {
    let seed = key.epoch.0 << 40 ^ key.sequence << 8 ^ u64::from(queue.as_str().as_bytes()[0]);
    let mut chance = Chance::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&chance.number().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

impl Ledger {
    /// A client begins to offer a message.
    pub(crate) fn offer(&self, name: &Name, len: usize, recipients: RecipientIndex) -> u64 {
        let mut inner = self.0.lock();
        let number = inner.offers.len() as u64;
        inner.offers.insert(number, Offer { name: name.clone(), len, recipients, acknowledged: false });
        if inner.by_name.insert(name.clone(), number).is_some() {
            inner.wrong.push(format!("{name:?} was given to two messages"));
        }
        number
    }

    /// The client has its 250.
    pub(crate) fn acknowledge(&self, number: u64) {
        self.0.lock().offers.get_mut(&number).unwrap().acknowledged = true;
    }

    /// No client offers anything from now on.
    pub(crate) fn close(&self) {
        self.0.lock().closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// The next hop takes a message for some recipients.
    pub(crate) fn deliver(&self, name: &Name, recipients: &[RecipientIndex]) {
        let mut inner = self.0.lock();
        for recipient in recipients {
            *inner.delivered.entry((name.clone(), *recipient)).or_default() += 1;
        }
    }

    /// The next hop refuses a message for good for some recipients.
    pub(crate) fn refuse(&self, name: &Name, recipients: &[RecipientIndex]) {
        let mut inner = self.0.lock();
        for recipient in recipients {
            *inner.refused.entry((name.clone(), *recipient)).or_default() += 1;
        }
    }

    /// A message was read to be sent: it must be what was offered.
    pub(crate) fn check_content(&self, name: &Name, found: &Result<Vec<u8>, String>) {
        let mut inner = self.0.lock();
        let known = inner.by_name.get(name).map(|number| inner.offers[number].len);
        let fault = match (known, found) {
            (None, _) => Some(format!("{name:?} was never offered")),
            (Some(len), Ok(bytes)) if *bytes != content(name, len) => {
                Some(format!("{name:?} has another content"))
            }
            (Some(_), Ok(_) | Err(_)) => None,
        };
        inner.wrong.extend(fault);
    }

    pub(crate) fn wrong(&self) -> Vec<String> {
        self.0.lock().wrong.clone()
    }

    /// Acknowledged recipients that the next hop has neither taken nor refused.
    pub(crate) fn missing(&self) -> Vec<(Name, RecipientIndex)> {
        let inner = self.0.lock();
        let acknowledged = inner.offers.values().filter(|offer| offer.acknowledged);
        let all = acknowledged.flat_map(|offer| (0..offer.recipients).map(|r| (offer.name.clone(), r)));
        all.filter(|one| !inner.delivered.contains_key(one) && !inner.refused.contains_key(one)).collect()
    }

    /// Recipients that the next hop took more than once, and how often more.
    pub(crate) fn duplicates(&self) -> Vec<((Name, RecipientIndex), u32)> {
        let inner = self.0.lock();
        let taken = |one: &(Name, RecipientIndex), count: u32| count + inner.refused.get(one).unwrap_or(&0);
        let more = inner.delivered.iter().map(|(one, count)| (one.clone(), taken(one, *count)));
        more.filter(|(_, count)| *count > 1).map(|(one, count)| (one, count - 1)).collect()
    }

    /// Recipients with a 250, and final dots, of one queue.
    pub(crate) fn of_queue(&self, queue: &QueueId) -> (u64, u64) {
        let inner = self.0.lock();
        let acknowledged = inner.offers.values().filter(|o| o.acknowledged && o.name.0 == *queue);
        let accepted = acknowledged.map(|offer| u64::from(offer.recipients)).sum();
        let delivered = inner.delivered.keys().filter(|((of, _), _)| of == queue).count() as u64;
        (accepted, delivered)
    }

    pub(crate) fn sums(&self) -> Sums {
        let duplicates = self.duplicates().iter().map(|(_, count)| u64::from(*count)).sum();
        let inner = self.0.lock();
        let acknowledged = || inner.offers.values().filter(|offer| offer.acknowledged);
        Sums {
            accepted: acknowledged().count() as u64,
            recipients: acknowledged().map(|offer| u64::from(offer.recipients)).sum(),
            delivered: inner.delivered.len() as u64,
            duplicates,
        }
    }
}
