//! Several processes claim one queue at once: one of them gets it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use cluster::instance::State;
use mail_model::Epoch;
use queue_store::{OpenError, Queue, inspect};

use crate::drive::options;
use crate::model::scratch;

const CHILD: &str = "QUEUE_RACE_CHILD";

/// Not a test of its own: one of those that race. It says with its end whether it won.
#[tokio::test(flavor = "current_thread")]
async fn the_one_that_races() {
    let Ok(line) = std::env::var(CHILD) else { return };
    let (dir, expected) = line.split_once('|').unwrap();
    let gate = PathBuf::from(dir).with_extension("gate");
    while !gate.exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let queue = match Queue::open(options(dir.as_ref(), Epoch(expected.parse().unwrap()))) {
        // The winner was so quick that the queue is seen to be run already.
        Err(OpenError::Busy(_)) => std::process::exit(43),
        opened => opened.unwrap(),
    };
    let mut state = queue.state();
    let end = *state.wait_for(|s| s.is_final() || *s == State::Active).await.unwrap();
    // The winner stays the owner until it has said so; its process then ends as a crash would.
    std::process::exit(if end == State::Active { 42 } else { 43 });
}

#[test]
fn of_three_processes_that_claim_an_epoch_one_gets_it() {
    let spool = scratch();
    let dir = spool.path().join("a");
    for round in 0..12 {
        let gate = dir.with_extension("gate");
        std::fs::remove_file(&gate).ok();
        let racers: Vec<_> = (0..3)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "race::the_one_that_races", "--nocapture"])
                    .env(CHILD, format!("{}|{round}", dir.display()))
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        std::fs::write(&gate, "").unwrap();
        let codes: Vec<_> =
            racers.into_iter().map(|mut racer| racer.wait().unwrap().code().unwrap()).collect();
        assert_eq!(codes.iter().filter(|code| **code == 42).count(), 1, "round {round}: {codes:?}");
        let (claim, _) = inspect::top_lease(&dir).unwrap().unwrap();
        assert_eq!(claim.epoch, Epoch(round + 1), "an epoch was skipped or taken twice");
    }
}
