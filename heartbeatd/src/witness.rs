//! A witness keeps a register for each queue on promoted storage: a file each, `registers/QUEUE` in the node's state folder.
//!
//! An answer is given only after what it says is on stable storage. After a write that failed nothing is answered any more
//! until a restart reads what is on the disk: unknown means no effect, and a wrong answer could mean two owners.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use cluster::register::{Entry, Register, Version};
use control::register::{Answer, Request};
use control::{Code, Fault, Server};
use mail_model::QueueId;
use parking_lot::Mutex;

struct Registers {
    dir: PathBuf,
    /// Every queue of the cluster; `None` after a write that failed.
    entries: Mutex<Option<BTreeMap<QueueId, Entry>>>,
}

/// Reads the registers and answers until the runtime ends.
pub(crate) fn serve(state_dir: &Path, queues: impl IntoIterator<Item = QueueId>) -> Result<()> {
    let registers = Arc::new(Registers::open(&state_dir.join("registers"), queues)?);
    let server = Server::bind(&control::paths::witness(state_dir)).context("make the witness's socket")?;
    tokio::spawn(server.serve(move |request: Request| {
        let registers = Arc::clone(&registers);
        async move {
            let answer = tokio::task::spawn_blocking(move || registers.answer(request)).await;
            answer.unwrap_or_else(|_| Err(Fault::failed("the witness is ending")))
        }
    }));
    Ok(())
}

impl Registers {
    fn open(dir: &Path, queues: impl IntoIterator<Item = QueueId>) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let mut entries = BTreeMap::new();
        for queue in queues {
            let path = dir.join(queue.as_str());
            let entry = match fs::read(&path) {
                Ok(text) => serde_json::from_slice(&text).with_context(|| {
                    format!("{}: this is no register; look at the disk and bring it back", path.display())
                })?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Entry::default(),
                Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
            };
            entries.insert(queue, entry);
        }
        // What was renamed before a crash may not have been on the disk when it was read.
        sync(dir).with_context(|| format!("sync {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), entries: Mutex::new(Some(entries)) })
    }

    fn answer(&self, request: Request) -> Result<Answer, Fault> {
        match request {
            Request::Read { queue } => {
                let entries = self.entries.lock();
                let entry = entries.as_ref().ok_or_else(sick)?.get(&queue).cloned();
                entry.map(Answer::Entry).ok_or_else(|| unknown(&queue))
            }
            Request::Swap { queue, expected, register } => self.swap(&queue, expected, register),
        }
    }

    fn swap(&self, queue: &QueueId, expected: Version, register: Register) -> Result<Answer, Fault> {
        let mut entries = self.entries.lock();
        let known = entries.as_mut().ok_or_else(sick)?;
        let entry = known.get_mut(queue).ok_or_else(|| unknown(queue))?;
        let Some(next) = entry.swapped(expected, register) else { return Ok(Answer::Changed) };
        if let Err(error) = self.write(queue, &next) {
            tracing::error!(event = "witness.failed", %queue, dir = %self.dir.display(), %error);
            *entries = None;
            return Err(sick());
        }
        entry.clone_from(&next);
        if let Some(register) = &next.register {
            let (owner, term, copies) = (&register.owner, register.term, &register.copies);
            tracing::info!(event = "witness.changed", %queue, version = next.version.0, %owner, term, ?copies);
        }
        Ok(Answer::Entry(next))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "written whole and synced before it gets its name, and the name is synced before anybody hears of it"
    )]
    fn write(&self, queue: &QueueId, entry: &Entry) -> io::Result<()> {
        let path = self.dir.join(queue.as_str());
        // No queue bears such a name.
        let new = self.dir.join(format!("{queue}.new"));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(entry).map_err(io::Error::other)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync(&self.dir)
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn sick() -> Fault {
    Fault::failed("the witness could not write a register; look at its log and its disk, then restart it")
}

fn unknown(queue: &QueueId) -> Fault {
    Fault::new(Code::NotFound, format!("the witness knows no queue {queue}; has it the same cluster.nodes?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_model::NodeId;

    fn queue(name: &str) -> QueueId {
        name.parse().unwrap()
    }

    fn first(name: &str) -> Register {
        Register::first(&NodeId::new(name).unwrap())
    }

    fn swap(registers: &Registers, expected: u64, register: Register) -> Result<Answer, Fault> {
        registers.answer(Request::Swap { queue: queue("a"), expected: Version(expected), register })
    }

    fn read(registers: &Registers) -> Result<Answer, Fault> {
        registers.answer(Request::Read { queue: queue("a") })
    }

    #[test]
    fn a_register_survives_a_restart_and_its_version_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let registers = Registers::open(dir.path(), [queue("a")]).unwrap();
        let wanted = Entry { version: Version(1), register: Some(first("a")) };
        assert_eq!(swap(&registers, 0, first("a")), Ok(Answer::Entry(wanted.clone())));
        assert_eq!(swap(&registers, 0, first("b")), Ok(Answer::Changed));
        let again = Registers::open(dir.path(), [queue("a")]).unwrap();
        assert_eq!(read(&again), Ok(Answer::Entry(wanted)));
        assert_eq!(swap(&again, 0, first("b")), Ok(Answer::Changed));
        assert!(matches!(swap(&again, 1, first("b")), Ok(Answer::Entry(e)) if e.version == Version(2)));
        assert!(again.answer(Request::Read { queue: queue("x") }).is_err());
    }

    #[test]
    fn after_a_write_that_failed_nothing_is_answered_until_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let registers = Registers::open(dir.path(), [queue("a")]).unwrap();
        // In the way of the draft, for root too.
        fs::create_dir(dir.path().join("a.new")).unwrap();
        assert!(swap(&registers, 0, first("a")).is_err());
        assert!(read(&registers).is_err());
        fs::remove_dir(dir.path().join("a.new")).unwrap();
        assert!(read(&registers).is_err());
        let again = Registers::open(dir.path(), [queue("a")]).unwrap();
        assert_eq!(read(&again), Ok(Answer::Entry(Entry::default())));
    }

    #[test]
    fn a_file_that_is_no_register_is_refused_and_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), b"").unwrap();
        assert!(Registers::open(dir.path(), [queue("a")]).is_err());
    }
}
