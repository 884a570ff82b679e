//! Owners of one queue on a disk that keeps only what it promised: they die, lose power, meet a failing sync, or are
//! taken over in good health, each at an operation of its own, in the middle of a takeover too.
//!
//! `QUEUE_SEED=7 cargo nextest run -p queue-store power` plays one seed again.

use std::path::Path;
use std::sync::Arc;

use cluster::instance::State;
use mail_model::Epoch;
use queue_format::lease::{FENCE_OFFSET, Fence};
use queue_format::names;
use queue_store::{Queue, Refusal};

use crate::disk::{Fortune, Mount, SimDisk};
use crate::drive::{User, agree, ended, options, started};
use crate::model::{Model, Note, Rng};

const DIR: &str = "/sim/a";

/// Seeds of every run.
const SEEDS: u64 = 200;

fn top(disk: &SimDisk) -> Epoch {
    let names = disk.names(&Path::new(DIR).join(names::LEASE_DIR));
    names.iter().filter_map(|name| names::parse_lease_file(name)).max().unwrap_or_default()
}

/// Every epoch before that of an owner at work is fenced, durably.
fn all_fenced(disk: &SimDisk, owner: Epoch) -> Result<(), String> {
    for epoch in (1..owner.0).map(Epoch) {
        let path = Path::new(DIR).join(names::LEASE_DIR).join(names::lease_file(epoch));
        let lease = disk.durable(&path).ok_or(format!("the lease of epoch {epoch} is gone"))?;
        let fence = lease.get(usize::try_from(FENCE_OFFSET).unwrap()..).unwrap_or_default();
        if !Fence::is_fenced(fence) {
            return Err(format!("epoch {epoch} is not fenced, and {owner} is at work"));
        }
    }
    Ok(())
}

fn fortune(rng: &mut Rng) -> Fortune {
    let early = 1 + rng.below(120);
    let any = 1 + rng.below(1_500);
    let at = if rng.one_in(2) { early } else { any };
    let old_listings = rng.one_in(4);
    match rng.below(4) {
        0 => Fortune { old_listings, ..Fortune::default() },
        1 => Fortune { sync_fails_at: Some(at), old_listings, ..Fortune::default() },
        _ => Fortune { dies_at: Some(at), old_listings, ..Fortune::default() },
    }
}

/// Works until the owner ends or has had enough.
async fn work(queue: &Queue, model: &mut Model, rng: &mut Rng) -> Result<(), Refusal> {
    let mut log = |_: Note| {};
    let mut user = User { queue, model, log: &mut log };
    for _ in 0..10 + rng.below(120) {
        user.step(rng).await?;
    }
    Ok(())
}

/// What follows a life that ended, or is about to.
async fn aftermath(
    disk: &SimDisk,
    mount: &Mount,
    queue: &Queue,
    model: &mut Model,
    rng: &mut Rng,
) -> Result<(), String> {
    match rng.below(4) {
        0 => {
            mount.kill();
            disk.lose_power(rng);
        }
        1 => mount.kill(),
        2 if *queue.state().borrow() == State::Active => {
            queue.drain();
            queue.release().await;
        }
        // It lives on and does not know yet that it will be taken over.
        _ => return Ok(()),
    }
    finish(queue, model, rng).await
}

/// Lets an owner notice that it is over.
async fn finish(queue: &Queue, model: &Model, rng: &mut Rng) -> Result<(), String> {
    let mut unseen = model.clone();
    let mut log = |_: Note| {};
    let mut user = User { queue, model: &mut unseen, log: &mut log };
    if *queue.state().borrow() == State::Active && user.offer(rng).await.is_ok() {
        return Err("an owner that is over accepted a message".to_owned());
    }
    let end = ended(queue).await;
    if end == State::Active { Err("it did not end".to_owned()) } else { Ok(()) }
}

async fn play(seed: u64) -> Result<u64, String> {
    let mut rng = Rng::new(seed);
    let disk = SimDisk::default();
    let mut model = Model::default();
    let mut living: Option<(Queue, Mount)> = None;
    let lives = 3 + rng.below(6);
    let mut operations = 0;
    for life in 0..=lives {
        let last = life == lives;
        let fortune = if last { Fortune::default() } else { fortune(&mut rng) };
        let mount = disk.mount(fortune, seed ^ life);
        let expected = top(&disk);
        let storage: Arc<Mount> = Arc::new(mount.clone());
        let opened = Queue::open_on(storage, options(Path::new(DIR), expected));
        let Ok(queue) = opened else {
            mount.kill();
            if rng.one_in(2) {
                disk.lose_power(&mut rng);
                living = None;
            }
            continue;
        };
        let state = started(&queue, || mount.is_dead()).await;
        if state == State::Active {
            all_fenced(&disk, queue.epoch())?;
            if let Some((older, _)) = living.take() {
                finish(&older, &model, &mut rng).await?;
            }
            if let Err(what) = agree(&queue, &mut model) {
                // A machine that dies while it is asked says nothing.
                if queue.may_act().is_ok() && fortune.dies_at.is_none_or(|at| mount.operations() < at) {
                    return Err(format!("life {life}, epoch {}: {what}", queue.epoch()));
                }
            }
            work(&queue, &mut model, &mut rng).await.ok();
        } else if last {
            return Err(format!("the last owner of a healthy disk ended as {state:?}"));
        }
        operations += mount.operations();
        if last {
            queue.drain();
            queue.release().await;
            break;
        }
        aftermath(&disk, &mount, &queue, &mut model, &mut rng).await?;
        if queue.state().borrow().is_final() {
            continue;
        }
        living = Some((queue, mount));
    }
    Ok(operations)
}

async fn play_all(seeds: std::ops::RangeInclusive<u64>) {
    let one = std::env::var("QUEUE_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let mut operations = 0;
    for seed in one.map_or(seeds, |seed| seed..=seed) {
        match play(seed).await {
            Ok(count) => operations += count,
            Err(what) => panic!("QUEUE_SEED={seed}: {what}"),
        }
    }
    assert!(operations > 0);
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_acknowledged_is_lost_whatever_the_disk_forgets() {
    play_all(1..=SEEDS / 2).await;
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_acknowledged_is_lost_whatever_else_the_disk_forgets() {
    play_all(SEEDS / 2 + 1..=SEEDS).await;
}
