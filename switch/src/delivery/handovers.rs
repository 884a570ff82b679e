//! Names of hand-overs toward hosts that know repeats (`docs/ONCE.md`), and when such a host may forget them: once the books say
//! that the whole message is done. What a crash forgets here, the host remembers for longer.

use std::collections::{HashMap, VecDeque};

use mail_model::{MessageId, WallTime};
use parking_lot::Mutex;
use queue_format::books::Books;
use queue_format::record::MessageKey;
use routing::HostPort;
use smtp::once;

/// Hand-overs whose message is not done, and names that wait for the next message to one host.
const KEPT_MAX: usize = 65_536;
/// Looked at in one go, while commits wait.
const SWEEP_MAX: usize = 4_096;

/// The name of a message for whoever gets it: the same each time, whoever owns its queue, and nobody else's. The time tells it from one of
/// a queue of the same name that was begun anew.
pub(crate) fn name(cluster: &str, id: &MessageId, received: WallTime) -> String {
    format!("{id}.{:x}@{cluster}", received.0)
}

#[derive(Debug, Default)]
struct Inner {
    open: VecDeque<(MessageKey, HostPort, Box<str>)>,
    over: HashMap<HostPort, VecDeque<Box<str>>>,
}

impl Inner {
    fn end(&mut self, host: HostPort, name: Box<str>) {
        let over = self.over.entry(host).or_default();
        if over.len() < KEPT_MAX {
            over.push_back(name);
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Handovers(Mutex<Inner>);

impl Handovers {
    /// `host` has the message, or may have it, under this name.
    pub(crate) fn made(&self, key: MessageKey, host: &HostPort, name: &str) {
        let mut inner = self.0.lock();
        if inner.open.len() < KEPT_MAX {
            inner.open.push_back((key, host.clone(), name.into()));
        }
    }

    /// Names that `host` may forget, to be told with the next message.
    pub(crate) fn over(&self, host: &HostPort) -> Vec<Box<str>> {
        let mut inner = self.0.lock();
        let Some(over) = inner.over.get_mut(host) else { return Vec::new() };
        let names = over.drain(..over.len().min(once::DONE_MAX)).collect();
        if over.is_empty() {
            inner.over.remove(host);
        }
        names
    }

    /// They could not be told.
    pub(crate) fn not_told(&self, host: &HostPort, names: Vec<Box<str>>) {
        let mut inner = self.0.lock();
        for name in names {
            inner.end(host.clone(), name);
        }
    }

    /// Finds out whose messages are done by now.
    pub(crate) fn sweep(&self, books: &Books) {
        let mut inner = self.0.lock();
        for _ in 0..inner.open.len().min(SWEEP_MAX) {
            let Some((key, host, name)) = inner.open.pop_front() else { return };
            if books.is_live(key) {
                inner.open.push_back((key, host, name));
            } else {
                inner.end(host, name);
            }
        }
    }

    /// True if there is nothing to find out.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use mail_model::Epoch;

    use super::*;

    #[test]
    fn a_host_may_forget_what_is_done_and_is_told_a_few_at_a_time() {
        let handovers = Handovers::default();
        let host = |port| HostPort { host: routing::Host::Address([192, 0, 2, 1].into()), port };
        let key = |sequence| MessageKey { epoch: Epoch(1), sequence };
        for sequence in 0..=once::DONE_MAX as u64 {
            handovers.made(key(sequence), &host(25), &sequence.to_string());
        }
        assert_eq!(handovers.over(&host(25)), Vec::<Box<str>>::new());
        // The books of an empty queue: all are done.
        handovers.sweep(&Books::new("a".parse().unwrap()));
        assert!(handovers.is_empty());
        assert_eq!(handovers.over(&host(26)), Vec::<Box<str>>::new());
        let told = handovers.over(&host(25));
        assert_eq!(told.len(), once::DONE_MAX);
        handovers.not_told(&host(25), told);
        assert_eq!(handovers.over(&host(25)).first().map(|name| &**name), Some("8"));
    }

    #[test]
    fn a_name_tells_the_cluster_the_message_and_when_it_came() {
        let id: MessageId = "a-7-1f".parse().unwrap();
        assert_eq!(name("demo", &id, WallTime(255)), "a-7-1f.ff@demo");
    }
}
