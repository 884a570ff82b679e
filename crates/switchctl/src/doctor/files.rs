//! The key, the folders, and the disk under the queues.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::cluster::heartbeat::parse_key;
use daemon_kit::SystemClock;
use mail_model::Clock;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use settings::{Settings, Storage};
use uuid::Uuid;

use super::finding::Findings;
use crate::lights::Light;

/// So many commits are timed.
const COMMITS: u32 = 20;
/// A commit of a good disk is far below; the lease is renewed by commits, too.
const SLOW: Duration = Duration::from_millis(50);
const FAR_TOO_SLOW: Duration = Duration::from_millis(500);
/// Below this share of free bytes or inodes somebody should look.
const SCARCE_PERCENT: u64 = 10;

pub(super) fn look(settings: &Settings, findings: &mut Findings) {
    key(settings, findings);
    folder("state_dir", &settings.node.state_dir, findings);
    let queues = &settings.queue.dir;
    if !folder("queue_dir", queues, findings) {
        return;
    }
    kind(queues, findings);
    room(queues, settings.queue.free_space_reserve, findings);
    speed(queues, findings);
    fencing(settings, findings);
}

/// Who puts a node off that does not let go of its storage.
fn fencing(settings: &Settings, findings: &mut Findings) {
    let check = "fencing";
    let Some(fence) = &settings.fence else {
        return match settings.queue.storage {
            Storage::Shared => {
                findings.ok(
                    check,
                    "not needed: on shared storage each owner reads its own fence before every effect",
                );
            }
            Storage::Promoted => findings.warn(
                check,
                "no fence.command: a device that a dead node does not give up waits for somebody's hand",
                "set fence.command: /usr/lib/mailswitch/fence and a file for each node, see STORAGE.md",
            ),
        };
    };
    let program = fence.command.first().map_or("", String::as_str);
    let found = std::fs::metadata(program).map(|file| (file.is_file(), file.permissions().mode() & 0o111));
    let remedy =
        format!("let fence.command begin with the whole path of a program; try it: {program} status NODE");
    match found {
        Ok((true, 1..)) => findings.ok(check, format_args!("{program}")),
        Ok((false, _) | (_, 0)) => findings.bad(check, format_args!("{program} is no program"), remedy),
        Err(error) => findings.bad(check, format_args!("{program}: {error}"), remedy),
    }
}

fn key(settings: &Settings, findings: &mut Findings) {
    let check = "cluster_key";
    let Some(path) = &settings.cluster.key_file else {
        findings.ok(check, "not needed: this node stands alone");
        return;
    };
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let remedy = "make it with 'switchctl cluster keygen', or copy it from another node; run doctor as its owner";
            findings.bad(check, format_args!("{shown}: {error}"), remedy);
            return;
        }
    };
    let mode = std::fs::metadata(path).map_or(0, |data| data.permissions().mode() & 0o777);
    if parse_key(&text).is_err() {
        findings.bad(check, format_args!("{shown} is no key"), "copy the key of another node here");
    } else if mode & 0o077 != 0 {
        let remedy = format!("chmod 600 {shown}: who has the key can speak as a node");
        findings.bad(check, format_args!("{shown}: others can read it (mode {mode:o})"), remedy);
    } else {
        findings.ok(check, format_args!("{shown}, mode {mode:o}"));
    }
}

/// A folder that is there and can be written. False if not.
fn folder(check: &'static str, path: &Path, findings: &mut Findings) -> bool {
    match probe_file(path) {
        Ok((_, made)) => {
            std::fs::remove_file(made).ok();
            findings.ok(check, path.display());
            true
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let remedy = "mount it if it is a mount; else the first start makes it";
            findings.warn(check, format_args!("{} is not there", path.display()), remedy);
            false
        }
        Err(error) => {
            let remedy = "run doctor as the user of the service; else let that user own the folder";
            findings.bad(check, format_args!("{}: {error}", path.display()), remedy);
            false
        }
    }
}

/// A file that no program takes for anything.
fn probe_file(folder: &Path) -> io::Result<(File, PathBuf)> {
    let path = folder.join(format!(".doctor-{}", Uuid::new_v4().simple()));
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    Ok((file, path))
}

fn kind(queues: &Path, findings: &mut Findings) {
    let check = "queue_storage";
    match statfs(queues).map(|stat| stat.filesystem_type()) {
        Ok(TMPFS_MAGIC) => {
            findings.bad(
                check,
                "tmpfs: gone with the machine's power",
                "set queue.dir to a disk that all nodes see",
            );
        }
        Ok(OVERLAYFS_SUPER_MAGIC) => {
            findings.warn(
                check,
                "overlayfs: a container's own layer",
                "mount a volume that all nodes see at queue.dir",
            );
        }
        Ok(_) => findings.ok(check, "a file system on a disk or a network"),
        Err(error) => findings.bad(check, error, "look at the mount of queue.dir"),
    }
}

fn room(queues: &Path, reserve: u64, findings: &mut Findings) {
    let stat = match statvfs(queues) {
        Ok(stat) => stat,
        Err(error) => {
            findings.bad("disk_space", error, "look at the mount of queue.dir");
            return;
        }
    };
    let all = stat.blocks().saturating_mul(stat.fragment_size());
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    let percent = |part: u64, whole: u64| part.saturating_mul(100).checked_div(whole).unwrap_or(100);
    let state = match free {
        free if free <= reserve => Light::Red,
        free if percent(free, all) < SCARCE_PERCENT => Light::Amber,
        _ => Light::Green,
    };
    let mib = |bytes: u64| bytes >> 20;
    findings.add(
        "disk_space",
        state,
        &format_args!(
            "{} MiB free of {} MiB; new mail is refused below {} MiB",
            mib(free),
            mib(all),
            mib(reserve)
        ),
        &"make room: 'switchctl queue summary' says what lies there; a larger disk, or other files elsewhere",
    );
    let (free, all) = (stat.files_available(), stat.files());
    // Some file systems have no number of them.
    let state = if all > 0 && percent(free, all) < SCARCE_PERCENT { Light::Amber } else { Light::Green };
    findings.add(
        "inodes",
        state,
        &format_args!("{free} free of {all}"),
        &"remove other files from this file system",
    );
}

/// What one message costs at least: a write and an fdatasync.
fn speed(queues: &Path, findings: &mut Findings) {
    let check = "fsync_latency";
    match timed(queues) {
        Ok((median, worst)) => {
            let state = match worst {
                worst if worst >= FAR_TOO_SLOW => Light::Red,
                worst if median >= SLOW || worst >= FAR_TOO_SLOW / 2 => Light::Amber,
                _ => Light::Green,
            };
            findings.add(
                check,
                state,
                &format_args!(
                    "half of {COMMITS} commits within {} ms, all within {} ms",
                    median.as_millis(),
                    worst.as_millis()
                ),
                &"look for other load on this disk; a lease that is renewed late makes others take the queue",
            );
        }
        Err(error) => findings.bad(check, error, "look at the disk and its mount"),
    }
}

fn timed(queues: &Path) -> io::Result<(Duration, Duration)> {
    let (mut file, path) = probe_file(queues)?;
    let mut times = Vec::new();
    let mut written = Ok(());
    for _ in 0..COMMITS {
        let began = SystemClock.now();
        written = file.write_all(&[0; 4096]).and_then(|()| file.sync_data());
        if written.is_err() {
            break;
        }
        times.push(SystemClock.now().since(began));
    }
    std::fs::remove_file(path).ok();
    written?;
    times.sort_unstable();
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    Ok((at(times.len() / 2), at(times.len().saturating_sub(1))))
}
