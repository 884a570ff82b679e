//! Bits that flip and files that are cut: never a panic, never a wrong body, what is whole is kept, the rest is reported.

use std::path::{Path, PathBuf};

use cluster::instance::State;
use mail_model::Epoch;
use queue_format::record::MessageKey;
use queue_store::Queue;
use queue_store::inspect::{self, Depth, Inspection};

use crate::drive::{User, options, started};
use crate::model::{Model, Note, Rng, content, scratch};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for part in ["segments", "digests", "lease"] {
        found.extend(std::fs::read_dir(dir.join(part)).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.sort();
    found
}

pub(crate) fn copy(from: &Path, to: &Path) {
    for part in ["segments", "digests", "lease"] {
        std::fs::create_dir_all(to.join(part)).unwrap();
    }
    for file in files(from) {
        std::fs::copy(&file, to.join(file.strip_prefix(from).unwrap())).unwrap();
    }
}

/// The content, or what is said instead.
fn read(seen: &Inspection, key: MessageKey) -> Result<Vec<u8>, String> {
    let mut reader = seen.content(key).ok_or("not live")?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next_piece() {
        bytes.extend_from_slice(&piece.map_err(|error| error.to_string())?);
    }
    Ok(bytes)
}

/// A queue of several owners and segments, left as crashes leave it.
async fn made(dir: &Path) {
    let mut model = Model::default();
    let mut rng = Rng::new(11);
    for life in 0..3 {
        let queue = Queue::open(options(dir, Epoch(life))).unwrap();
        assert_eq!(started(&queue, || false).await, State::Active);
        let mut log = |_: Note| {};
        let mut user = User { queue: &queue, model: &mut model, log: &mut log };
        for _ in 0..60 {
            user.step(&mut rng).await.unwrap();
        }
        if life == 2 {
            // One that is only dropped goes on cleaning until another one takes over.
            queue.drain();
            queue.release().await;
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn whatever_is_damaged_no_wrong_body_comes_out_and_the_loss_is_reported() {
    let spool = scratch();
    let whole = spool.path().join("whole");
    made(&whole).await;
    let queue = "a".parse().unwrap();
    let before = inspect::inspect(&whole, "test", &queue, Depth::Everything).unwrap();
    assert_eq!(before.replay.faults, []);
    let live: Vec<(MessageKey, usize)> =
        before.replay.books.messages().map(|(key, m)| (key, usize::try_from(m.size).unwrap())).collect();
    assert!(live.len() > 10, "{}", live.len());
    let hurt = spool.path().join("hurt");
    let (mut lost_somewhere, mut rng) = (0, Rng::new(5));
    for round in 0..200 {
        std::fs::remove_dir_all(&hurt).ok();
        copy(&whole, &hurt);
        let files = files(&hurt);
        let file = &files[usize::try_from(rng.below(files.len() as u64)).unwrap()];
        let mut bytes = std::fs::read(file).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
        match rng.below(4) {
            0 => bytes.truncate(at),
            1 => {
                let end = bytes.len().min(at + 700);
                bytes[at..end].fill(0);
            }
            _ => bytes[at] ^= 1 << rng.below(8),
        }
        std::fs::write(file, &bytes).unwrap();
        let what = format!("round {round}: {} at {at}", file.display());
        let depth = if round % 3 == 0 { Depth::Books } else { Depth::Everything };
        // A refusal is an answer; a panic or a wrong byte is none.
        if let Ok(seen) = inspect::inspect(&hurt, "test", &queue, depth) {
            let mut lost = 0;
            for (key, len) in &live {
                match read(&seen, *key) {
                    Ok(bytes) => assert!(bytes == content(*key, *len), "{what}: a wrong body for {key:?}"),
                    Err(_) => lost += 1,
                }
            }
            let silent =
                seen.replay.faults.is_empty() && seen.replay.books.balance().holds && !seen.replay.torn;
            assert!(
                depth == Depth::Books || lost == 0 || !silent,
                "{what}: {lost} messages are gone, unsaid"
            );
            lost_somewhere += lost;
        }
    }
    assert!(lost_somewhere > 0, "nothing was ever hurt");
}
