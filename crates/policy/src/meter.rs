//! What each client and each network did lately, as far as it counts against its bound.
//!
//! For each kind the generic cell rate algorithm: a bound of N in a minute is N at once, given back one by one over a minute.
//! What is kept is one moment for each kind, namely when all is given back.
//!
//! Two generations bound the memory: what is touched is young; after a minute, or when half of [`TRACKED_MAX`] are young, the
//! young become the old and the old are forgotten. Whoever was not seen for a minute has nothing to remember, so only a
//! crowd of more clients than that makes anything forgotten early.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;

use mail_model::Moment;

use crate::limits::{ClientLimits, Kind, network_of};

/// Clients and networks that are remembered at most; each takes about 100 bytes.
pub const TRACKED_MAX: usize = 200_000;

/// A minute, in microseconds: bounds of many thousands a minute need finer steps than milliseconds.
const MINUTE: u64 = 60_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Client(IpAddr),
    Network(IpAddr),
}

/// When everything is given back, in microseconds, by kind.
type Debts = [u64; 5];

/// The memory.
#[derive(Debug, Default)]
pub struct Meter {
    young: BTreeMap<Who, Debts>,
    old: BTreeMap<Who, Debts>,
    born: Moment,
}

impl Meter {
    /// Counts `count` more of `kind` for `client` and its network if both may; false if one may not, and nothing is counted.
    pub fn take(
        &mut self,
        now: Moment,
        client: IpAddr,
        kind: Kind,
        count: u64,
        limits: &ClientLimits,
    ) -> bool {
        let Some(bound) = limits.per_minute.of(kind) else { return true };
        if count == 0 || limits.is_exempt(client) {
            return true;
        }
        self.age(now);
        let whose = [
            (Who::Client(client), bound),
            (Who::Network(network_of(client)), bound.saturating_mul(limits.network_factor)),
        ];
        let now = now.0.saturating_mul(1_000);
        let owed = whose.map(|(who, bound)| {
            let owed = self.debts(who).get(place(kind)).copied().unwrap_or_default().max(now);
            owed.saturating_add(step(bound).saturating_mul(count))
        });
        if owed.iter().any(|owed| owed.saturating_sub(now) > MINUTE) {
            return false;
        }
        for ((who, _), owed) in whose.into_iter().zip(owed) {
            let mut debts = self.debts(who);
            if let Some(debt) = debts.get_mut(place(kind)) {
                *debt = owed;
            }
            self.young.insert(who, debts);
        }
        true
    }

    /// Clients and networks that are remembered.
    #[must_use]
    pub fn tracked(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn debts(&self, who: Who) -> Debts {
        self.young.get(&who).or_else(|| self.old.get(&who)).copied().unwrap_or_default()
    }

    fn age(&mut self, now: Moment) {
        // Two may be added.
        let full = self.young.len() + 2 > TRACKED_MAX / 2;
        if full || now.since(self.born).as_secs() >= 60 {
            self.old = std::mem::take(&mut self.young);
            self.born = now;
        }
    }
}

fn place(kind: Kind) -> usize {
    match kind {
        Kind::Connection => 0,
        Kind::Message => 1,
        Kind::Recipient => 2,
        Kind::Command => 3,
        Kind::Error => 4,
    }
}

/// After how long one is given back.
fn step(bound: NonZeroU32) -> u64 {
    MINUTE / u64::from(bound.get())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::PerMinute;

    fn limits(messages: u32) -> ClientLimits {
        ClientLimits {
            per_minute: PerMinute { messages: NonZeroU32::new(messages), ..PerMinute::default() },
            network_factor: NonZeroU32::new(2).unwrap(),
            exempt: vec!["10.0.0.0/8".parse().unwrap()],
            greet_delay: Duration::ZERO,
            tarpit: Duration::ZERO,
            tarpit_after: 0,
        }
    }

    fn taken(meter: &mut Meter, now: u64, client: [u8; 4], limits: &ClientLimits) -> usize {
        let take = |_: &usize| meter.take(Moment(now), client.into(), Kind::Message, 1, limits);
        (0..1_000).take_while(take).count()
    }

    #[test]
    fn a_client_may_do_its_bound_at_once_and_gets_it_back_over_a_minute() {
        let (mut meter, limits) = (Meter::default(), limits(10));
        let one = [192, 0, 2, 1];
        assert_eq!(taken(&mut meter, 1_000, one, &limits), 10);
        assert_eq!(taken(&mut meter, 6_999, one, &limits), 0);
        assert_eq!(taken(&mut meter, 7_000, one, &limits), 1);
        assert_eq!(taken(&mut meter, 31_000, one, &limits), 4);
        assert_eq!(taken(&mut meter, 200_000, one, &limits), 10);
        assert!(
            !meter.take(Moment(500_000), one.into(), Kind::Message, 11, &limits),
            "more than is ever there"
        );
        assert_eq!(taken(&mut meter, 500_000, one, &limits), 10, "what was refused is not counted");
    }

    #[test]
    fn a_network_may_do_as_much_as_its_factor_of_clients_and_others_are_not_touched() {
        let (mut meter, limits) = (Meter::default(), limits(10));
        assert_eq!(taken(&mut meter, 1_000, [192, 0, 2, 1], &limits), 10);
        assert_eq!(taken(&mut meter, 1_000, [192, 0, 2, 2], &limits), 10);
        assert_eq!(taken(&mut meter, 1_000, [192, 0, 2, 3], &limits), 0);
        assert_eq!(taken(&mut meter, 1_000, [192, 0, 3, 3], &limits), 10);
        assert_eq!(taken(&mut meter, 1_000, [10, 0, 0, 1], &limits), 1_000, "exempt");
        assert!(
            meter.take(Moment(1_000), [192, 0, 2, 3].into(), Kind::Error, 9, &limits),
            "no bound of this kind"
        );
    }

    #[test]
    fn memory_is_bounded_and_nobody_who_is_active_is_forgotten_within_the_minute() {
        let (mut meter, limits) = (Meter::default(), limits(10));
        let one = [192, 0, 2, 1];
        assert_eq!(taken(&mut meter, 59_000, one, &limits), 10);
        // The generation ends at 60 s; the client is old then, and still known.
        assert_eq!(taken(&mut meter, 61_000, one, &limits), 0);
        for number in 0..2 * u32::try_from(TRACKED_MAX).unwrap() {
            meter.take(Moment(70_000), number.to_be_bytes().into(), Kind::Message, 1, &limits);
        }
        assert!(meter.tracked() <= TRACKED_MAX, "{}", meter.tracked());
    }
}
