//! Tables of small runs, and properties over generated ones.

use mail_model::Moment;
use proptest::prelude::*;

use super::*;
use crate::record::{Accepted, ProbeTag};

const SUM: u32 = 77;

fn probe(number: u64, accepted: Option<&str>, cuts_after_dot: u32) -> Probe {
    Probe {
        number,
        size_bytes: 10,
        checksum: SUM,
        recipients: 1,
        first_submitted: Some(Moment(1)),
        submissions: 1 + cuts_after_dot,
        cuts_after_dot,
        accepted: accepted.map(|id| Accepted { at: Moment(2), text: format!("2.0.0 queued as {id}") }),
        refused: None,
    }
}

fn delivery(number: u64, id: &str) -> Delivery {
    Delivery {
        at: Moment(3),
        probe: Some(ProbeTag { run: "run".into(), number }),
        id: Some(id.to_owned()),
        reverse_path: "a@b".into(),
        recipients: vec!["c@d".into()],
        mail_parameters: String::new(),
        size_bytes: 10,
        checksum: SUM,
        content: None,
    }
}

fn close(probes: &[Probe], deliveries: &[Delivery]) -> Balance {
    Balance::close("run", probes, deliveries)
}

fn reasons(balance: &Balance) -> Vec<UnexpectedReason> {
    balance.unexpected.iter().map(|unexpected| unexpected.reason).collect()
}

#[test]
fn what_was_accepted_and_came_once_is_whole() {
    let balance = close(&[probe(1, Some("a-1-1"), 0)], &[delivery(1, "a-1-1")]);
    assert_eq!(balance, Balance { begun: 1, accepted: 1, delivered: 1, ..Balance::default() });
    assert!(balance.is_whole());
}

#[test]
fn what_was_accepted_and_never_came_is_lost() {
    let balance = close(&[probe(1, Some("a-1-1"), 0), probe(2, None, 0)], &[]);
    assert_eq!((balance.lost.as_slice(), balance.accepted), ([1].as_slice(), 1));
    assert!(!balance.is_whole());
}

#[test]
fn a_recipient_who_got_nothing_is_a_loss() {
    let two = Probe { recipients: 2, ..probe(1, Some("a-1-1"), 0) };
    assert_eq!(close(std::slice::from_ref(&two), &[delivery(1, "a-1-1")]).lost, [1]);
    let other = Delivery { recipients: vec!["e@f".into()], ..delivery(1, "a-1-1") };
    let balance = close(&[two], &[delivery(1, "a-1-1"), other]);
    assert!(balance.is_whole() && balance.duplicates == 0, "in two transactions, yet each has it once");
}

#[test]
fn a_second_delivery_of_one_id_is_a_duplicate_and_no_client_retry() {
    let again = [delivery(1, "a-1-1"), delivery(1, "a-1-1"), delivery(1, "a-1-1")];
    let balance = close(&[probe(1, Some("a-1-1"), 1)], &again);
    assert_eq!((balance.duplicates, balance.client_retries_delivered_twice, balance.delivered), (2, 0, 1));
    assert_eq!(balance.duplicated, [Duplicate { number: 1, id: "a-1-1".into(), times: 2 }]);
    assert!(balance.is_whole());
}

#[test]
fn a_second_id_of_one_probe_is_the_clients_retry_only_if_the_client_was_cut() {
    let both = [delivery(1, "a-1-1"), delivery(1, "b-1-1")];
    let balance = close(&[probe(1, Some("b-1-1"), 1)], &both);
    assert_eq!((balance.duplicates, balance.client_retries_delivered_twice), (0, 1));
    assert!(balance.is_whole());

    let balance = close(&[probe(1, Some("b-1-1"), 0)], &both);
    assert_eq!(balance.client_retries_delivered_twice, 0);
    assert_eq!(reasons(&balance), [UnexpectedReason::ExtraCopy]);
}

#[test]
fn the_copy_that_had_the_250_must_come_itself() {
    let balance = close(&[probe(1, Some("b-1-1"), 1)], &[delivery(1, "a-1-1")]);
    assert_eq!((balance.lost.len(), balance.lost_copies.as_slice()), (0, [1].as_slice()));
    assert!(!balance.is_whole());
}

#[test]
fn what_was_cut_after_the_dot_may_come() {
    let balance = close(&[probe(1, None, 1), probe(2, None, 1)], &[delivery(1, "a-1-1")]);
    assert_eq!((balance.delivered, balance.delivered_unacknowledged), (1, 1));
    assert!(balance.is_whole());
}

#[test]
fn what_nothing_explains_is_named() {
    let foreign = Delivery { probe: None, ..delivery(1, "a-1-1") };
    let other = Delivery { probe: Some(ProbeTag { run: "old".into(), number: 1 }), ..delivery(1, "a-1-2") };
    let extra = Delivery { recipients: vec!["c@d".into(), "x@y".into()], ..delivery(2, "a-1-4") };
    let balance = close(
        &[probe(1, None, 0), probe(2, Some("a-1-4"), 0)],
        &[extra, delivery(1, "a-1-3"), delivery(9, "a-1-5"), other, foreign],
    );
    assert_eq!(
        reasons(&balance),
        [
            UnexpectedReason::NoProbe,
            UnexpectedReason::OtherRun,
            UnexpectedReason::NeverBegun,
            UnexpectedReason::NeverAccepted,
            UnexpectedReason::ExtraRecipient,
        ]
    );
}

#[test]
fn other_bytes_are_damage() {
    let damaged = Delivery { checksum: SUM + 1, ..delivery(1, "a-1-1") };
    assert_eq!(close(&[probe(1, Some("a-1-1"), 0)], &[damaged]).damaged, [1]);
}

#[test]
fn without_ids_a_second_delivery_is_the_clients_own() {
    let bare = Delivery { id: None, ..delivery(1, "") };
    let balance = close(&[probe(1, None, 2)], &[bare.clone(), bare]);
    assert_eq!((balance.duplicates, balance.client_retries_delivered_twice), (0, 1));
}

#[test]
fn the_balance_is_written_with_the_documented_names() {
    let json = serde_json::to_value(Balance::default()).unwrap();
    for name in [
        "accepted",
        "delivered",
        "lost",
        "duplicates",
        "client_retries_delivered_twice",
        "damaged",
        "unexpected",
    ] {
        assert!(json.get(name).is_some(), "{name}");
    }
}

proptest! {
    /// A faultless relay that sends some copies again and drops none: every delivery is accounted for once, in any order.
    #[test]
    fn every_delivery_is_accounted_for(
        fates in proptest::collection::vec((any::<bool>(), 0_u32..3, 1_usize..4), 0..40),
        seed in any::<u64>(),
    ) {
        let (mut probes, mut deliveries) = (Vec::new(), Vec::new());
        for (number, (accepted, cuts, times)) in (1..).zip(&fates) {
            // Each cut left a durable copy, the last transaction got the 250.
            let id = format!("q-1-{number}");
            probes.push(probe(number, accepted.then_some(id.as_str()), *cuts));
            let copies = (0..*cuts).map(|cut| format!("q-9{cut}-{number}")).chain(accepted.then_some(id));
            for copy in copies {
                deliveries.extend(std::iter::repeat_n(delivery(number, &copy), *times));
            }
        }
        // Any order will do.
        deliveries.sort_by_cached_key(|delivery| crc32c::crc32c(format!("{seed}{:?}", delivery.id).as_bytes()));
        let balance = close(&probes, &deliveries);
        prop_assert!(balance.is_whole(), "{balance:?}");
        prop_assert_eq!(
            balance.delivered + balance.duplicates + balance.client_retries_delivered_twice,
            deliveries.len() as u64
        );
    }

    /// Whatever is taken away from a faultless run is missed.
    #[test]
    fn every_loss_is_seen(count in 1_u64..40, gone in proptest::collection::btree_set(1_u64..40, 1..10)) {
        let id = |number: u64| format!("q-1-{number}");
        let probes: Vec<Probe> = (1..=count).map(|number| probe(number, Some(&id(number)), 0)).collect();
        let kept = (1..=count).filter(|number| !gone.contains(number));
        let deliveries: Vec<Delivery> = kept.map(|number| delivery(number, &id(number))).collect();
        let wanted: Vec<u64> = gone.into_iter().filter(|number| *number <= count).collect();
        prop_assert_eq!(close(&probes, &deliveries).lost, wanted);
    }
}
