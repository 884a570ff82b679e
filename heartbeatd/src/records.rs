//! Records of decisions, `decisions.jsonl` in the node's state folder: one JSON object a line, appended and synced.
//!
//! A thread of its own writes, so that a slow disk holds up no takeover. At [`FILE_BYTES_MAX`] the file becomes
//! `decisions.old.jsonl`; what was in that before is gone. A pause is a record too, which is how it survives a restart.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result};
use cluster::drill::DrillFault;
use cluster::takeover::{Decision, Verdict};
use mail_model::{NodeId, QueueId, WallTime};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Records kept in memory for questions.
const RECENT_MAX: usize = 5_000;
/// Records in one answer.
const ANSWER_MAX: usize = 500;
/// Bytes of one answer: it must fit into a line of the control protocol.
const ANSWER_BYTES_MAX: usize = 768 << 10;

struct Entry {
    line: Vec<u8>,
    written: oneshot::Sender<bool>,
}

/// The records.
#[derive(Clone)]
pub(crate) struct Records {
    node: NodeId,
    recent: Arc<Mutex<VecDeque<Value>>>,
    entries: Sender<Entry>,
}

impl Records {
    /// Reads what is there and starts the writer. Lines that are torn are left out.
    pub(crate) fn open(state_dir: &Path, node: &NodeId) -> Result<Self> {
        let path = state_dir.join("decisions.jsonl");
        let mut recent = VecDeque::new();
        for file in [older(&path), path.clone()] {
            let text = match std::fs::read(&file) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
            };
            let lines = text.split(|byte| *byte == b'\n');
            for record in lines.filter_map(|line| serde_json::from_slice(line).ok()) {
                remember(&mut recent, record);
            }
        }
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path);
        let mut file = file.with_context(|| format!("open {}", path.display()))?;
        mend(&mut file).with_context(|| format!("append to {}", path.display()))?;
        let (entries, inbox) = channel::<Entry>();
        std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || {
                let mut file = file;
                for entry in inbox {
                    let result = append(&mut file, &path, &entry.line);
                    if let Err(error) = &result {
                        tracing::error!(event = "records.failed", path = %path.display(), %error);
                    }
                    entry.written.send(result.is_ok()).ok();
                }
            })
            .context("start the record writer")?;
        Ok(Self { node: node.clone(), recent: Arc::new(Mutex::new(recent)), entries })
    }

    /// Keeps a decision.
    pub(crate) fn decision(&self, wall: WallTime, decision: &Decision) {
        let record = serde_json::to_value(decision).unwrap_or_default();
        drop(self.keep(wall, record));
    }

    /// Keeps a pause, or its end with `until` in the past. True comes when it is on disk.
    pub(crate) fn pause(&self, wall: WallTime, until: WallTime, reason: &str) -> oneshot::Receiver<bool> {
        let verdict = if until > wall { Verdict::Paused } else { Verdict::Resumed };
        let rule = "operator";
        let record = json!({"decision": verdict, "rule": rule, "text": reason, "until_ms": until.0});
        self.keep(wall, record)
    }

    /// Keeps that a drill began on this node, or is over.
    pub(crate) fn drill(&self, wall: WallTime, id: u64, fault: DrillFault, what: &str) {
        let text = format!("a drill is {what} on this node: {fault}, {}", fault.meaning());
        drop(self.keep(wall, json!({"decision": "drill", "rule": "operator", "text": text, "drill": id})));
    }

    fn keep(&self, wall: WallTime, record: Value) -> oneshot::Receiver<bool> {
        let mut full = json!({"at": rfc3339(wall), "at_ms": wall.0, "node": self.node});
        if let (Some(full), Value::Object(record)) = (full.as_object_mut(), record) {
            full.extend(record);
        }
        let mut line = serde_json::to_vec(&full).unwrap_or_default();
        line.push(b'\n');
        remember(&mut self.recent.lock(), full);
        let (written, done) = oneshot::channel();
        self.entries.send(Entry { line, written }).ok();
        done
    }

    /// The end of the last pause, if it was not ended.
    pub(crate) fn paused_until(&self) -> Option<WallTime> {
        let recent = self.recent.lock();
        let last = recent.iter().rev().find_map(|record| record.get("until_ms"))?;
        last.as_u64().map(WallTime)
    }

    /// The latest about one queue, oldest first.
    pub(crate) fn about(&self, queue: &QueueId) -> Vec<Value> {
        self.latest(ANSWER_MAX, |record| {
            record.get("queue").is_none_or(|name| name.as_str() == Some(queue.as_str()))
        })
    }

    /// The latest, oldest first.
    pub(crate) fn history(&self, limit: u32) -> Vec<Value> {
        self.latest(usize::try_from(limit).unwrap_or(ANSWER_MAX).min(ANSWER_MAX), |_| true)
    }

    fn latest(&self, limit: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let recent = self.recent.lock();
        let mut bytes = 0;
        let mut found: Vec<Value> = recent
            .iter()
            .rev()
            .filter(|record| wanted(record))
            .take(limit)
            .take_while(|record| {
                bytes += record.to_string().len() + 1;
                bytes <= ANSWER_BYTES_MAX
            })
            .cloned()
            .collect();
        found.reverse();
        found
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_file_name("decisions.old.jsonl")
}

fn remember(recent: &mut VecDeque<Value>, record: Value) {
    if recent.len() >= RECENT_MAX {
        recent.pop_front();
    }
    recent.push_back(record);
}

/// Ends a line that a crash tore, so that the next record has a line of its own.
fn mend(file: &mut File) -> std::io::Result<()> {
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last == [b'\n'] { Ok(()) } else { file.write_all(b"\n") }
}

fn append(file: &mut File, path: &Path, line: &[u8]) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    if length >= FILE_BYTES_MAX {
        // A crash between the two steps leaves records twice, never none.
        let mut old = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut old)?;
        let mut copy = File::create(older(path))?;
        copy.write_all(&old)?;
        copy.sync_all()?;
        file.set_len(0)?;
    }
    file.write_all(line)?;
    file.sync_data()
}

/// As RFC 3339 writes it.
pub(crate) fn rfc3339(wall: WallTime) -> String {
    let ms = i64::try_from(wall.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Records {
        Records::open(dir, &NodeId::new("a").unwrap()).unwrap()
    }

    #[test]
    fn a_pause_survives_a_restart_and_its_end_too() {
        let dir = tempfile::tempdir().unwrap();
        let records = open(dir.path());
        assert_eq!(records.paused_until(), None);
        let done = records.pause(WallTime(1000), WallTime(5000), "work on the switchboard");
        assert!(done.blocking_recv().unwrap());
        assert_eq!(open(dir.path()).paused_until(), Some(WallTime(5000)));
        let done = records.pause(WallTime(2000), WallTime(2000), "");
        assert!(done.blocking_recv().unwrap());
        assert_eq!(open(dir.path()).paused_until(), Some(WallTime(2000)));
    }

    #[test]
    fn a_torn_line_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let records = open(dir.path());
        assert!(records.pause(WallTime(1), WallTime(2), "first").blocking_recv().unwrap());
        let path = dir.path().join("decisions.jsonl");
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"at\":").unwrap();
        let records = open(dir.path());
        assert!(records.pause(WallTime(3), WallTime(4), "second").blocking_recv().unwrap());
        let texts: Vec<_> = open(dir.path()).history(10).iter().map(|r| r["text"].clone()).collect();
        assert_eq!(texts, ["first", "second"]);
    }

    #[test]
    fn the_file_is_bounded_and_the_latest_records_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        std::fs::write(&path, vec![b'\n'; usize::try_from(FILE_BYTES_MAX).unwrap()]).unwrap();
        let records = open(dir.path());
        assert!(records.pause(WallTime(1), WallTime(2), "kept").blocking_recv().unwrap());
        assert!(std::fs::metadata(&path).unwrap().len() < 1000);
        assert_eq!(open(dir.path()).history(10).len(), 1);
    }
}
