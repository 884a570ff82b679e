//! Can a queue live in this directory? What the takeover protocol asks of a file system is tried here, by several processes
//! at once, and with `--peer` by two machines.
//!
//! | tried | because |
//! |---|---|
//! | the kind of file system | what is in memory, or seen by one container alone, is no place for acknowledged mail |
//! | claims that race | two owners of one epoch would both deliver |
//! | reads past the cache | a fence that is read late is no fence |
//! | what was synced is seen by others | a taker must see every record that an owner acknowledged |
//! | times | the lease is renewed every 300 ms |
//! | space | a full disk takes no mail |
//!
//! What cannot be tried from here: whether the disk keeps what it said was written when the power goes.

mod measure;
mod pair;
mod race;

use std::path::{Path, PathBuf};

use daemon_kit::SystemClock;
use mail_model::{Clock, NodeId, WallTime};
use nix::sys::statfs::statfs;
use nix::sys::statvfs::statvfs;
use queue_store::storage::{Disk, Storage};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(crate) use self::race::racer;
use crate::command::{Context, Failure, Outcome, say, show};
use crate::exit::Exit;
use crate::lights::{Light, Lights};
use crate::output::Format;

/// Where a node keeps what the last check of its spool found, in its state folder.
const RECORD: &str = "fscheck.json";
/// Older than this a check says little.
const OLD_DAYS: u64 = 180;
/// Less than this is red, or amber.
const SPACE: (u64, u64) = (128 << 20, 1 << 30);

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Options {
    /// The directory.
    pub(crate) dir: PathBuf,
    /// The node on which the same command is given now.
    pub(crate) peer: Option<NodeId>,
    /// Check it whatever file system it is.
    pub(crate) force: bool,
    /// Races.
    pub(crate) rounds: u32,
}

/// What a check found, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    dir: PathBuf,
    at_ms: u64,
    light: String,
    peer: Option<NodeId>,
}

/// Checks a directory. Ends with 1 if a queue must not live there, and with 4 if it need not even be tried.
pub(crate) fn run(config: &Path, format: Format, options: &Options) -> Outcome {
    let Options { dir, peer, force, rounds } = options;
    let dir = std::fs::canonicalize(dir)
        .map_err(|error| Failure::not_found(format_args!("{}: {error}", dir.display())))?;
    // The node's own name is needed to meet a peer, and its state folder to keep the result. Without them it works as well.
    let context = match Context::load(config, format, None) {
        Ok(context) => Some(context),
        Err(failure) if peer.is_some() => return Err(failure),
        Err(_) => None,
    };
    if let (Some(peer), Some(context)) = (peer, &context) {
        context.known(peer)?;
    }
    let mut found = Lights::default();
    kind(&dir, *force, &mut found)?;
    let place = dir.join(format!(".fscheck-{}", daemon_kit::instance_id()));
    std::fs::create_dir(&place).map_err(|error| {
        Failure::failed(format_args!("{}: {error}; call as the user that owns the queues", place.display()))
    })?;
    let tried = measure::uncached(&place, &mut found)
        .and_then(|()| race::claims(&place, *rounds, &mut found))
        .and_then(|()| measure::times(&place, &mut found));
    let removed = std::fs::remove_dir_all(&place);
    if let Err(error) = tried {
        found.add("tried", Light::Red, format!("{error:#}"));
    }
    if let Err(error) = removed {
        found.add("removed", Light::Amber, format!("{}: {error}; remove it", place.display()));
    }
    space(&dir, &mut found);
    if let (Some(peer), Some(context)) = (peer, &context) {
        pair::meet(&dir, &context.settings.node.id, peer, &mut found)?;
    }
    if let Some(context) = &context {
        keep(context, &dir, peer.as_ref(), found.worst());
    }
    let mut listing = found.listing("mailswitch.fscheck/1");
    listing.with("dir", json!(dir));
    listing.with("fit", json!(found.worst() != Light::Red));
    let exit = show(format, &listing)?;
    if format == Format::Table {
        say(match found.worst() {
            Light::Red => "RED: a queue must not live here",
            Light::Amber => "AMBER: a queue can live here; look at what is amber",
            Light::Green if peer.is_none() => "GREEN: seen from this machine; try two with --peer",
            Light::Green => "GREEN",
        })?;
    }
    Ok(if found.worst() == Light::Red { Exit::Failed } else { exit })
}

/// Names a file system. The numbers are of statfs(2).
fn kind(dir: &Path, force: bool, found: &mut Lights) -> Result<(), Failure> {
    let stat = statfs(dir).map_err(|error| Failure::failed(format_args!("{}: {error}", dir.display())))?;
    let number = stat.filesystem_type().0;
    let (name, unfit) = match number {
        0x0102_1994 => ("tmpfs", Some("what lies there is gone with the power")),
        0x8584_58f6 => ("ramfs", Some("what lies there is gone with the power")),
        0x794c_7630 => ("overlayfs", Some("it belongs to one container, and goes with it")),
        0xef53 => ("ext4", None),
        0x5846_5342 => ("XFS", None),
        0x9123_683e => ("btrfs", None),
        0x6969 => ("NFS", None),
        0x6573_5546 => ("FUSE (GlusterFS and others)", None),
        0x00c3_6400 => ("CephFS", None),
        0x0116_1970 => ("GFS2", None),
        0x7461_636f => ("OCFS2", None),
        _ => ("a file system that mailswitch does not know", None),
    };
    match unfit {
        Some(why) if !force => Err(Failure::new(
            Exit::Unsafe,
            format_args!(
                "{} is on {name}: {why}; choose another place, or try it with --force",
                dir.display()
            ),
        )),
        Some(why) => {
            found.add("kind", Light::Amber, format!("{name}, tried by force: {why}"));
            Ok(())
        }
        None => {
            found.add("kind", Light::Green, format!("{name} ({number:#x})"));
            Ok(())
        }
    }
}

fn space(dir: &Path, found: &mut Lights) {
    match Disk.free_space(dir) {
        Ok(free) => {
            let light = if free < SPACE.0 { Light::Red } else { Light::Amber };
            found.if_well("space", free >= SPACE.1, light, format!("{} MiB free", free >> 20));
        }
        Err(error) => found.add("space", Light::Red, error.to_string()),
    }
    if let Ok(stat) = statvfs(dir)
        && stat.files() > 0
    {
        let free = stat.files_available();
        found.if_well("files", free > 10_000, Light::Amber, format!("{free} more files can be made"));
    }
}

/// Keeps the result if it is about this node's spool.
fn keep(context: &Context, dir: &Path, peer: Option<&NodeId>, light: Light) {
    let spool = std::fs::canonicalize(&context.settings.queue.dir);
    if !spool.is_ok_and(|spool| spool.starts_with(dir)) {
        return;
    }
    let record = Record {
        dir: dir.to_owned(),
        at_ms: SystemClock.wall().0,
        light: light.as_str().to_owned(),
        peer: peer.cloned(),
    };
    let path = context.settings.node.state_dir.join(RECORD);
    // Only a reminder: who checks need not be who may write there.
    if let Ok(text) = serde_json::to_string_pretty(&record) {
        drop(std::fs::write(path, text));
    }
}

/// What the last check of this node's spool found.
pub(crate) fn last(context: &Context) -> (Light, String) {
    let path = context.settings.node.state_dir.join(RECORD);
    let record = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
    let Some(record) = record else {
        let spool = context.settings.queue.dir.display();
        return (Light::Amber, format!("never done; once: switchctl fscheck {spool}"));
    };
    let days = SystemClock.wall().since(WallTime(record.at_ms)).as_secs() / 86_400;
    let with = record.peer.map_or_else(|| "alone".to_owned(), |peer| format!("with node {peer}"));
    let text = format!("{days} days ago, {with}: {}", record.light);
    match record.light.as_str() {
        "red" => (Light::Red, text),
        "green" if days < OLD_DAYS => (Light::Green, text),
        _ => (Light::Amber, text),
    }
}
