//! A full disk refuses mail before anything is damaged, is emptied by deliveries, and takes mail again.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use cluster::instance::State;
use mail_model::{Epoch, WallTime};
use queue_format::record::{Content, OutcomeGroup, OutcomeRecord, Verdict};
use queue_store::{AppendError, Queue, QueueOptions, Refusal};

use crate::disk::{Fortune, SimDisk};
use crate::drive::{User, agree, message, options, started};
use crate::model::{Model, Note, Rng, content};

/// Fills the disk under `first`, empties it under `taker`.
async fn fill_and_empty(first: &Queue, take: impl FnOnce() -> Queue) {
    assert_eq!(started(first, || false).await, State::Active);
    let mut keys = Vec::new();
    loop {
        let key = first.next_key();
        let body = Bytes::from(content(key, 4_000));
        match first.accept(message(key, 1, 4_000, Content::Inline), body).await {
            Ok(()) => keys.push(key),
            Err(Refusal::Append(AppendError::Full)) => break,
            Err(other) => panic!("{other}"),
        }
        assert!(keys.len() < 400, "the disk never fills");
    }
    assert!(keys.len() > 40, "only {} messages", keys.len());
    // A taker finds all of it, on the full disk.
    let taker = take();
    assert_eq!(started(&taker, || false).await, State::Active);
    for key in &keys {
        let number = taker.begin_attempt(*key, vec![0], "hop".into(), WallTime(1)).await.unwrap();
        let outcome = OutcomeRecord {
            message: *key,
            attempt: Some((taker.epoch(), number)),
            at: WallTime(1),
            groups: vec![OutcomeGroup { verdict: Verdict::Delivered, reply: None, recipients: vec![0] }],
        };
        taker.settle(outcome).await.unwrap();
    }
    let balance = taker.books(queue_format::books::Books::balance).unwrap();
    assert_eq!((balance.holds, balance.queued, balance.totals.delivered), (true, 0, keys.len() as u64));
    let key = taker.next_key();
    taker.accept(message(key, 1, 3, Content::Inline), Bytes::from_static(b"one")).await.unwrap();
    taker.drain();
    taker.release().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_full_disk_refuses_and_when_emptied_accepts_again() {
    let disk = SimDisk::default();
    disk.limit(Some(400 << 10));
    let open = |expected| {
        let storage = Arc::new(disk.mount(Fortune::default(), expected));
        Queue::open_on(storage, options(Path::new("/sim/a"), Epoch(expected))).unwrap()
    };
    fill_and_empty(&open(0), || open(1)).await;
}

/// A file system of 1 MiB; unmounted at the end, also of a test that fails.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn small() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(dir))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_full_file_system_refuses_and_when_emptied_accepts_again() {
    let Some(small) = Mounted::small() else {
        println!("skipped: needs root");
        return;
    };
    let dir = small.0.path().join("a");
    let open = |expected| {
        let kept = QueueOptions { free_space_reserve: 160 << 10, ..options(&dir, Epoch(expected)) };
        Queue::open(kept).unwrap()
    };
    fill_and_empty(&open(0), || open(1)).await;
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_full_disk_refused_is_never_found_again() {
    for seed in 1..40 {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::default();
        let mut model = Model::default();
        for life in 0..4 {
            let mount = disk.mount(Fortune::default(), seed);
            let queue =
                Queue::open_on(Arc::new(mount.clone()), options(Path::new("/sim/a"), Epoch(life))).unwrap();
            assert_eq!(started(&queue, || false).await, State::Active, "seed {seed}");
            if let Err(what) = agree(&queue, &mut model) {
                panic!("seed {seed}, life {life}: {what}");
            }
            let mut log = |_: Note| {};
            let mut user = User { queue: &queue, model: &mut model, log: &mut log };
            for _ in 0..60 {
                if rng.one_in(10) {
                    disk.limit(Some(disk.used() + rng.below(20_000)));
                }
                user.step(&mut rng).await.unwrap();
            }
            disk.limit(None);
            mount.kill();
            if life % 2 == 0 {
                disk.lose_power(&mut rng);
            }
        }
    }
}
