//! A process that dies at a named point, at every point there is, several times; and what the next owner finds.
//!
//! The test runs itself again as the process that dies. What that one asks for and is told goes to a file, line by line.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster::instance::State;
use mail_model::Epoch;
use nix::sys::signal::{Signal, kill};
use queue_store::inspect::{self, Depth};
use queue_store::{CRASH_POINTS, Queue};

use crate::drive::{User, agree, options, started};
use crate::model::{Model, Note, Rng, scratch};

const CHILD: &str = "QUEUE_CRASH_CHILD";

/// What the dying process is told: directory, top epoch, point, which time, seed.
fn orders() -> Option<(PathBuf, Epoch, String, u64, u64)> {
    let line = std::env::var(CHILD).ok()?;
    let words: Vec<&str> = line.split('|').collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    Some((words[0].into(), Epoch(number(1)), words[2].to_owned(), number(3), number(4)))
}

fn die_at(point: &str, hit: u64) {
    let met = AtomicU64::new(0);
    let die = move || {
        if met.fetch_add(1, Ordering::Relaxed) + 1 == hit {
            kill(nix::unistd::Pid::this(), Signal::SIGKILL).unwrap();
        }
    };
    fail::cfg_callback(point, die).unwrap();
}

fn log_of(dir: &Path) -> PathBuf {
    dir.with_extension("log")
}

/// Not a test of its own: the process that dies.
#[tokio::test(flavor = "current_thread")]
async fn the_one_that_dies() {
    let Some((dir, expected, point, hit, seed)) = orders() else { return };
    die_at(&point, hit);
    let queue = Queue::open(options(&dir, expected)).unwrap();
    assert_eq!(started(&queue, || false).await, State::Active);
    let mut file = OpenOptions::new().append(true).create(true).open(log_of(&dir)).unwrap();
    let mut log = |note: Note| file.write_all(note.line().as_bytes()).unwrap();
    let (mut model, mut rng) = (Model::default(), Rng::new(seed));
    let mut user = User { queue: &queue, model: &mut model, log: &mut log };
    for _ in 0..150 {
        // With an attempt open nobody leaves clean.
        let calm = point == "clean::committed";
        if calm { user.offer(&mut rng).await } else { user.step(&mut rng).await }.unwrap();
    }
    queue.drain();
    queue.release().await;
}

/// Runs a process until it dies. False if it never came to the point.
fn died(dir: &Path, expected: Epoch, point: &str, hit: u64, seed: u64) -> bool {
    File::create(log_of(dir)).unwrap();
    let orders = format!("{}|{}|{point}|{hit}|{seed}", dir.display(), expected.0);
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::the_one_that_dies", "--nocapture"])
        .env(CHILD, orders)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    let killed = status.signal() == Some(9);
    assert!(killed || status.success(), "{point}, time {hit}: {status}");
    killed
}

/// Recovers what is left, compares, and gives the queue up again; returns the top epoch.
async fn recovered(dir: &Path, model: &mut Model, what: &str) -> Epoch {
    let log = std::fs::read_to_string(log_of(dir)).unwrap();
    for line in log.lines() {
        model.note(Note::parse(line).unwrap());
    }
    let seen = inspect::inspect(dir, "test", &"a".parse().unwrap(), Depth::Everything).unwrap();
    assert_eq!(seen.replay.faults, [], "{what}");
    let top = inspect::top_lease(dir).unwrap().map_or(Epoch(0), |(claim, _)| claim.epoch);
    let queue = Queue::open(options(dir, top)).unwrap();
    assert_eq!(started(&queue, || false).await, State::Active, "{what}");
    if let Err(fault) = agree(&queue, model) {
        panic!("{what}: {fault}");
    }
    queue.drain();
    queue.release().await;
    assert_eq!(*queue.state().borrow(), State::Released, "{what}");
    Epoch(top.0 + 1)
}

#[tokio::test(flavor = "current_thread")]
async fn a_process_killed_at_any_point_leaves_every_acknowledged_message_once_and_whole() {
    for (number, point) in (1u64..).zip(CRASH_POINTS) {
        let mut deaths = 0;
        for (round, hit) in [1, 3, 8].into_iter().enumerate() {
            let spool = scratch();
            let dir = spool.path().join("a");
            // Half of the rounds die in a queue that has a history.
            let mut expected = Epoch(0);
            let mut model = Model::default();
            if round % 2 == 1 || *point == "fence::written" {
                died(&dir, expected, "commit::synced", 60, number);
                expected = recovered(&dir, &mut model, "the history").await;
            }
            let what = format!("{point}, time {hit}");
            deaths += u32::from(died(&dir, expected, point, hit, number * 100 + hit));
            recovered(&dir, &mut model, &what).await;
        }
        assert!(deaths > 0, "no process ever came to {point}");
    }
}
