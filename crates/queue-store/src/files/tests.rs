//! The claim: a compare-and-swap, and no rubbish left behind.

use std::sync::Barrier;

use mail_model::{BootId, InstanceId, NodeId, Reason, Role, WallTime};

use super::*;
use crate::storage::Disk;

fn claim(epoch: Epoch, instance: u128) -> Claim {
    Claim {
        cluster: "test".into(),
        queue: "a".parse().unwrap(),
        epoch,
        owner: NodeId::new("b").unwrap(),
        instance: InstanceId(instance),
        boot: BootId(1),
        role: Role::Secondary,
        previous: Epoch(epoch.0 - 1),
        reason: Reason::Forced,
        renew_ms: 300,
        window_ms: 2_000,
        wall: WallTime(1),
    }
}

#[test]
fn of_three_claimers_one_wins_each_epoch_in_a_thousand_rounds() {
    const ROUNDS: u64 = 1_000;
    let spool = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let files = QueueFiles::new(Arc::new(Disk), &spool.path().join("a"));
    files.make_dirs().unwrap();
    let gate = Barrier::new(3);
    let race = |racer: u128| {
        let mut won = Vec::new();
        for epoch in (1..=ROUNDS).map(Epoch) {
            gate.wait();
            let result = files.claim(&claim(epoch, racer)).unwrap();
            won.push(result == ClaimResult::Won);
            gate.wait();
            let owner = files.read_claim(epoch).unwrap().instance;
            assert_eq!(result == ClaimResult::Won, owner == InstanceId(racer), "epoch {epoch}");
        }
        won
    };
    let wins = std::thread::scope(|scope| {
        let racers: Vec<_> = (1..=3).map(|racer| scope.spawn(move || race(racer))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect::<Vec<_>>()
    });
    for round in 0..usize::try_from(ROUNDS).unwrap() {
        assert_eq!(wins.iter().filter(|won| won[round]).count(), 1, "round {round}");
    }
    assert_eq!(files.top_epoch().unwrap(), Some(Epoch(ROUNDS)));
    let names = files.storage.list(&files.lease_dir()).unwrap();
    assert_eq!(names.len() as u64, ROUNDS, "temporary names are left");
}

#[test]
fn what_a_dead_claimer_left_is_swept_by_the_next_owner() {
    let spool = tempfile::tempdir().unwrap();
    let files = QueueFiles::new(Arc::new(Disk), &spool.path().join("a"));
    files.make_dirs().unwrap();
    let left = files.lease_dir().join(".claim-1-00000000000000000000000000000009");
    std::fs::write(&left, "half a claim").unwrap();
    assert_eq!(files.claim(&claim(Epoch(1), 1)).unwrap(), ClaimResult::Won);
    assert!(left.exists(), "a rival of the same epoch may still be at it");
    assert_eq!(files.claim(&claim(Epoch(2), 2)).unwrap(), ClaimResult::Won);
    assert!(!left.exists());
}

#[test]
fn a_torn_renewal_keeps_nobody_waiting_for_ever() {
    let spool = tempfile::tempdir().unwrap();
    let files = QueueFiles::new(Arc::new(Disk), &spool.path().join("a"));
    files.make_dirs().unwrap();
    files.claim(&claim(Epoch(1), 1)).unwrap();
    assert_eq!(files.watch_renewal(Epoch(1)).unwrap(), (0, None));
    let lease = files.storage.open_write(&files.lease(Epoch(1))).unwrap();
    lease.write_at(RENEW_OFFSET, b"torn").unwrap();
    let (torn, state) = files.watch_renewal(Epoch(1)).unwrap();
    assert_eq!(state, None);
    assert_eq!(files.watch_renewal(Epoch(1)).unwrap().0, torn, "it does not change, so it grows stale");
    lease.write_at(RENEW_OFFSET, b"other").unwrap();
    assert_ne!(files.watch_renewal(Epoch(1)).unwrap().0, torn, "a change is a sign of life");
}
