//! A full queue, made once and copied for every run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use cluster::Timers;
use cluster::instance::State;
use daemon_kit::SystemClock;
use mail_model::{BootId, Clock, Envelope, Mailbox, QueueId, Recipient, ReversePath, Role};
use queue_format::record::{Content, MessageRecord, encode_envelope};
use queue_store::{Queue, QueueOptions};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::demo::site::CLUSTER;

/// Bytes of a message.
const MESSAGE_BYTES: usize = 1024;
/// Messages that are given to the queue at once.
const AT_ONCE: u32 = 200;
/// Longest wait for the queue to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// Fills the queue in `dir` with `count` messages, and releases it.
pub(super) async fn fill(dir: &Path, id: &QueueId, count: u32) -> Result<()> {
    let queue = Queue::open(QueueOptions {
        dir: dir.to_owned(),
        cluster: CLUSTER.to_owned(),
        queue: id.clone(),
        owner: id.home().clone(),
        instance: daemon_kit::instance_id(),
        boot: BootId(0),
        role: Role::Primary,
        order: None,
        timers: Timers::default(),
        segment_size: 64 << 20,
        free_space_reserve: 0,
        clock: Arc::new(SystemClock),
        proof: None,
    })
    .map_err(|error| anyhow!("open a queue in {}: {error}", dir.display()))?;
    let mut state = queue.state();
    let active = timeout(PATIENCE, state.wait_for(|state| *state == State::Active)).await;
    active.context("the queue does not begin")?.context("the queue ended")?;
    let mut envelope = Envelope::from_sender(ReversePath::Mailbox(mailbox("from@example.test")?));
    envelope.recipients.push(Recipient::plain(mailbox("to@example.test")?));
    let envelope = encode_envelope(&envelope);
    let mut body = b"Subject: one of many\r\n\r\n".to_vec();
    body.resize(MESSAGE_BYTES - 2, b'x');
    body.extend_from_slice(b"\r\n");
    let body = Bytes::from(body);
    let mut givers = JoinSet::new();
    for giver in 0..AT_ONCE {
        let (queue, envelope, body) = (queue.clone(), envelope.clone(), body.clone());
        let share = (count / AT_ONCE) + u32::from(giver < count % AT_ONCE);
        givers.spawn(async move {
            for _ in 0..share {
                let record = MessageRecord {
                    key: queue.next_key(),
                    received: SystemClock.wall(),
                    size: body.len() as u64,
                    origin: "a benchmark".to_owned(),
                    envelope: envelope.clone(),
                    content: Content::Inline,
                    settles: None,
                    handover: None,
                };
                queue.accept(record, body.clone()).await.map_err(|refusal| anyhow!("{refusal}"))?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(giver) = givers.join_next().await {
        giver??;
    }
    queue.drain();
    queue.release().await;
    Ok(())
}

fn mailbox(text: &str) -> Result<Mailbox> {
    Mailbox::parse_stored(text).map_err(|error| anyhow!("{text}: {error}"))
}

/// Copies a folder and all below it.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).with_context(|| format!("copy to {}", target.display()))?;
        }
    }
    Ok(())
}
