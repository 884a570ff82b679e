//! A full disk refuses mail before anything is damaged, is emptied by deliveries, and takes mail again.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cluster::instance::State;
use mail_model::{Epoch, WallTime};
use queue_format::record::{Content, OutcomeGroup, OutcomeRecord, Verdict};
use queue_store::{AppendError, Queue, Refusal};

use crate::disk::{Fortune, SimDisk};
use crate::drive::{User, agree, message, options, started};
use crate::model::{Model, Note, Rng, content};

#[tokio::test(flavor = "current_thread")]
async fn a_full_disk_refuses_and_when_emptied_accepts_again() {
    let disk = SimDisk::default();
    disk.limit(Some(400 << 10));
    let storage = Arc::new(disk.mount(Fortune::default(), 1));
    let queue = Queue::open_on(storage, options(Path::new("/sim/a"), Epoch(0))).unwrap();
    assert_eq!(started(&queue, || false).await, State::Active);
    let mut keys = Vec::new();
    loop {
        let key = queue.next_key();
        let body = Bytes::from(content(key, 4_000));
        match queue.accept(message(key, 1, 4_000, Content::Inline), body).await {
            Ok(()) => keys.push(key),
            Err(Refusal::Append(AppendError::Full)) => break,
            Err(other) => panic!("{other}"),
        }
        assert!(keys.len() < 200, "the disk never fills");
    }
    assert!(keys.len() > 40, "only {} messages", keys.len());
    // A taker finds all of it, on the full disk.
    let storage = Arc::new(disk.mount(Fortune::default(), 2));
    let taker = Queue::open_on(storage, options(Path::new("/sim/a"), Epoch(1))).unwrap();
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
    assert_eq!(
        taker.books(queue_format::books::Books::balance).map(|b| (b.holds, b.queued)),
        Some((true, 0))
    );
    let key = taker.next_key();
    taker.accept(message(key, 1, 3, Content::Inline), Bytes::from_static(b"one")).await.unwrap();
    taker.drain();
    taker.release().await;
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
