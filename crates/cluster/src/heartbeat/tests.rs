use proptest::prelude::*;

use super::*;
use crate::drill::{DrillFault, DrillStage};

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn header() -> Header {
    Header { path: 1, incarnation: InstanceId(1 << 90), counter: 7, from: node("a"), to: node("b") }
}

fn beat() -> Heartbeat {
    Heartbeat {
        version: "0.1.0".into(),
        config_hash: "0123456789abcdef".into(),
        state: "up".into(),
        queues: vec![QueueBeat {
            queue: "a".parse().unwrap(),
            epoch: Epoch(7),
            seq: 412,
            role: Role::Primary,
            state: Some(LeaseState::Active),
            io_p999_us: 900,
            queued: 5,
        }],
        heard: vec![Heard { node: node("b"), paths: 3 }],
        instance_dead: vec![InstanceDead { queue: "a".parse().unwrap(), epoch: Epoch(6) }],
        restarting: true,
        waiting: false,
        paused_ms: Some(60_000),
        smtp: Some("192.0.2.1:25".parse().unwrap()),
        drill: Some(DrillOrder { id: 9, node: node("b"), fault: DrillFault::Freeze, for_ms: 8_000 }),
        word: Some(DrillWord { id: 8, stage: DrillStage::Refused { why: "no".into() } }),
        challenge: Some(u64::MAX),
        echo: None,
    }
}

fn key() -> ClusterKey {
    ClusterKey::new([9; 32])
}

fn sealed() -> Vec<u8> {
    seal(&key(), "demo", &header(), &beat()).unwrap()
}

#[test]
fn what_was_sealed_is_opened_by_its_receiver_alone() {
    let bytes = sealed();
    assert_eq!(open(&key(), "demo", &node("b"), &bytes), Ok((header(), beat())));
    assert_eq!(open(&key(), "demo", &node("c"), &bytes), Err(Unopened::Misdirected));
    assert_eq!(open(&key(), "other", &node("b"), &bytes), Err(Unopened::Forged));
    assert_eq!(open(&ClusterKey::new([8; 32]), "demo", &node("b"), &bytes), Err(Unopened::Forged));
}

#[test]
fn a_heartbeat_of_another_version_is_told_from_a_forged_one() {
    let mut bytes = sealed();
    bytes[4] = 2;
    assert_eq!(open(&key(), "demo", &node("b"), &bytes), Err(Unopened::Version));
}

#[test]
fn every_cut_is_refused() {
    let bytes = sealed();
    for len in 0..bytes.len() {
        assert!(open(&key(), "demo", &node("b"), &bytes[..len]).is_err(), "{len}");
    }
}

#[test]
fn what_does_not_fit_is_left_out_and_the_rest_arrives() {
    let mut large = beat();
    for number in 0..200 {
        large.heard.push(Heard { node: node(&format!("node-{number}")), paths: 3 });
        large
            .queues
            .push(QueueBeat { queue: format!("q{number}").parse().unwrap(), ..beat().queues[0].clone() });
    }
    let bytes = seal(&key(), "demo", &header(), &large).unwrap();
    assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
    let (_, opened) = open(&key(), "demo", &node("b"), &bytes).unwrap();
    assert_eq!(opened.instance_dead, large.instance_dead);
    assert!(opened.heard.is_empty() && !opened.queues.is_empty());
    large.config_hash = "x".repeat(DATAGRAM_BYTES_MAX);
    assert_eq!(seal(&key(), "demo", &header(), &large), Err(TooLong));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
        prop_assert!(open(&key(), "demo", &node("b"), &bytes).is_err());
        let mut marked = b"MSHB\x01".to_vec();
        marked.extend_from_slice(&bytes);
        prop_assert!(open(&key(), "demo", &node("b"), &marked).is_err());
    }

    #[test]
    fn any_flipped_bit_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = sealed();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(open(&key(), "demo", &node("b"), &bytes).is_err());
    }
}
