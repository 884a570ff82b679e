//! The claim: a compare-and-swap, and no rubbish left behind.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

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

const ROUNDS: u64 = 1_000;
const RACERS: usize = 3;
/// Tells a process of this test that it is one of those that race: the queue's directory, the starter's port, its number.
const RACER: &str = "QUEUE_CLAIM_RACER";

fn scratch() -> tempfile::TempDir {
    // In memory: the race is about names, and a thousand rounds of syncs would only be slow.
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Not a test of its own: a process that claims one epoch after the other, each when the starter says so.
#[test]
fn a_process_that_races() {
    let Ok(line) = std::env::var(RACER) else { return };
    let [dir, port, racer] = line.split('|').collect::<Vec<_>>().try_into().unwrap();
    let files = QueueFiles::new(Arc::new(Disk), Path::new(dir));
    let mut starter = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    starter.set_nodelay(true).unwrap();
    for epoch in (1..=ROUNDS).map(Epoch) {
        let mut go = [0];
        starter.read_exact(&mut go).unwrap();
        let won = files.claim(&claim(epoch, racer.parse().unwrap())).unwrap() == ClaimResult::Won;
        starter.write_all(&[u8::from(won)]).unwrap();
    }
}

#[test]
fn of_three_processes_that_claim_at_once_one_wins_each_of_a_thousand_epochs() {
    let spool = scratch();
    let files = QueueFiles::new(Arc::new(Disk), &spool.path().join("a"));
    files.make_dirs().unwrap();
    let starter = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = starter.local_addr().unwrap().port();
    let mut processes: Vec<_> = (1..=RACERS)
        .map(|racer| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "files::tests::a_process_that_races", "--nocapture"])
                .env(RACER, format!("{}|{port}|{racer}", files.dir.display()))
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut racers: Vec<_> = (0..RACERS).map(|_| starter.accept().unwrap().0).collect();
    for round in 1..=ROUNDS {
        for racer in &mut racers {
            racer.write_all(&[1]).unwrap();
        }
        let mut won = [[0]; RACERS];
        for (racer, won) in racers.iter_mut().zip(&mut won) {
            racer.read_exact(won).unwrap();
        }
        assert_eq!(won.iter().filter(|won| won[0] == 1).count(), 1, "epoch {round}: {won:?}");
    }
    for process in &mut processes {
        assert!(process.wait().unwrap().success());
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
