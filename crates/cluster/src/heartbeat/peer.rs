//! What is believed of one sender: which of its runs, and which of its datagrams were seen.
//!
//! A new run is believed only after it echoed a number that this node made up: a recording of an old run cannot. One
//! number stands until it was echoed, so that replays of many old runs cannot push a living one out.

use mail_model::InstanceId;

/// What a datagram that could be opened is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Of the run that is believed, and new.
    Believed,
    /// The first of a run that has just proved that it lives.
    Proved,
    /// Of a run that has yet to echo. Its content means nothing.
    Unproved,
    /// Seen before, or too old to tell.
    Replayed,
}

/// The sender.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    believed: Option<(InstanceId, Window)>,
    challenge: Option<u64>,
    echo: Option<u64>,
}

impl Peer {
    /// The run that is believed.
    #[must_use]
    pub fn incarnation(&self) -> Option<InstanceId> {
        self.believed.as_ref().map(|(incarnation, _)| *incarnation)
    }

    /// The number this sender must echo, if one is out.
    #[must_use]
    pub fn challenge(&self) -> Option<u64> {
        self.challenge
    }

    /// The number this sender asked for last.
    #[must_use]
    pub fn echo(&self) -> Option<u64> {
        self.echo
    }

    /// Takes a datagram that could be opened. `fresh` is a random number, used if a new challenge is needed.
    pub fn receive(
        &mut self,
        incarnation: InstanceId,
        counter: u64,
        challenge: Option<u64>,
        echo: Option<u64>,
        fresh: u64,
    ) -> Standing {
        if let Some((believed, window)) = &mut self.believed
            && *believed == incarnation
        {
            if !window.take(counter) {
                return Standing::Replayed;
            }
            self.echo = challenge;
            return Standing::Believed;
        }
        if self.challenge.is_some() && echo == self.challenge {
            let mut window = Window::default();
            window.take(counter);
            self.believed = Some((incarnation, window));
            self.challenge = None;
            self.echo = challenge;
            return Standing::Proved;
        }
        self.challenge.get_or_insert(fresh);
        // Without an answer two nodes that start together would never prove anything.
        if challenge.is_some() {
            self.echo = challenge;
        }
        Standing::Unproved
    }
}

/// The newest counter and which of the 64 up to it were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Window {
    top: u64,
    seen: u64,
}

impl Window {
    /// False if it was seen, is too old, or is 0.
    fn take(&mut self, counter: u64) -> bool {
        if counter > self.top {
            let ahead = counter - self.top;
            self.seen = if ahead >= 64 { 0 } else { self.seen << ahead };
            self.seen |= 1;
            self.top = counter;
            return true;
        }
        let behind = self.top - counter;
        if behind >= 64 || counter == 0 {
            return false;
        }
        let bit = 1 << behind;
        let new = self.seen & bit == 0;
        self.seen |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const OLD: InstanceId = InstanceId(1);
    const NEW: InstanceId = InstanceId(2);

    fn proved(incarnation: InstanceId) -> Peer {
        let mut peer = Peer::default();
        assert_eq!(peer.receive(incarnation, 1, None, None, 77), Standing::Unproved);
        assert_eq!(peer.receive(incarnation, 2, None, Some(77), 0), Standing::Proved);
        peer
    }

    #[test]
    fn a_new_run_is_believed_only_after_its_echo_and_the_old_one_not_any_more() {
        let mut peer = proved(OLD);
        assert_eq!(peer.receive(NEW, 1, None, Some(77), 88), Standing::Unproved);
        assert_eq!(peer.incarnation(), Some(OLD));
        assert_eq!(peer.receive(NEW, 2, None, Some(88), 0), Standing::Proved);
        assert_eq!(peer.incarnation(), Some(NEW));
        assert_eq!(peer.receive(OLD, 9, None, Some(77), 99), Standing::Unproved);
        assert_eq!(peer.receive(OLD, 9, None, Some(88), 99), Standing::Unproved);
    }

    #[test]
    fn replays_of_old_runs_do_not_change_the_number_a_new_run_must_echo() {
        let mut peer = proved(OLD);
        peer.receive(NEW, 1, None, None, 88);
        for run in 10..50 {
            peer.receive(InstanceId(run), 1, None, None, 1000);
        }
        assert_eq!(peer.challenge(), Some(88));
        assert_eq!(peer.receive(NEW, 2, None, Some(88), 0), Standing::Proved);
    }

    #[test]
    fn two_nodes_that_start_together_come_to_believe_each_other() {
        let (mut a, mut b) = (Peer::default(), Peer::default());
        for counter in 1..=4 {
            let (to_a, to_b) = ((a.challenge(), a.echo()), (b.challenge(), b.echo()));
            // Each node's own `Peer` says what it sends to the other.
            b.receive(OLD, counter, to_a.0, to_a.1, 5);
            a.receive(NEW, counter, to_b.0, to_b.1, 6);
        }
        assert_eq!((a.incarnation(), b.incarnation()), (Some(NEW), Some(OLD)));
    }

    proptest! {
        #[test]
        fn no_datagram_is_taken_twice(counters in proptest::collection::vec(0u64..200, 1..300)) {
            let mut window = Window::default();
            let mut taken = BTreeSet::new();
            for counter in counters {
                let top = taken.last().copied().unwrap_or(0);
                if window.take(counter) {
                    prop_assert!(taken.insert(counter));
                } else {
                    prop_assert!(counter == 0 || taken.contains(&counter) || counter + 64 <= top);
                }
            }
        }
    }
}
