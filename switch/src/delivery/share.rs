//! Which destinations the other switches of this node send to as well: the own queue's and those of taken-over queues share
//! `limits.concurrency_per_destination`. See `docs/decisions/0022`.
//!
//! It is said by locks on bytes of one file in `node.state_dir`, which is never read or written:
//!
//! | bytes | locked means |
//! |---|---|
//! | 0 to 63 | a switch has this place |
//! | 64 for each destination | the switch of that place has a transaction toward it |
//!
//! A lock is asked about and never waited for, so nothing here depends on another process. The kernel takes the locks of one that
//! ends, however it ends. Without the file each goes by its own bound.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::destination::Destination;

/// The file in `node.state_dir`.
const FILE: &str = "concurrency";
/// Switches of one node.
const PLACES: i64 = 64;
/// So many looks pass before what others say of a destination is believed to be all of it, and before one where nothing ran is
/// given up: most are busy again at once.
const LOOKS: u32 = 3;

/// What is said of a destination.
#[derive(Debug)]
struct Known {
    /// The first of its bytes.
    bytes: i64,
    sharers: usize,
    looks: u32,
    /// Of these, the latest ones at which nothing ran there.
    idle: u32,
}

/// A switch among those of its node.
#[derive(Debug)]
pub(crate) struct Share {
    /// With its place. `None` if there is none.
    place: Option<(File, i64)>,
    known: BTreeMap<Destination, Known>,
}

impl Share {
    /// Takes a place.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let place = take_place(&state_dir.join(FILE))
            .inspect_err(
                |error| tracing::warn!(event = "share.unavailable", dir = %state_dir.display(), %error),
            )
            .ok();
        Self { place, known: BTreeMap::new() }
    }

    /// Switches of this node, this one among them.
    pub(crate) fn switches(&self) -> usize {
        1 + self.others().len()
    }

    /// The places that others have.
    fn others(&self) -> Vec<i64> {
        let Some((file, _)) = &self.place else { return Vec::new() };
        // Most often this is the only one, and one question says so.
        if !is_locked(file, 0, PLACES) {
            return Vec::new();
        }
        (0..PLACES).filter(|place| is_locked(file, *place, 1)).collect()
    }

    /// Says where something runs now. Answered are those destinations whose number of switches is another one than before.
    pub(crate) fn look(&mut self, busy: Vec<Destination>) -> Vec<(Destination, usize)> {
        let others = self.others();
        let Some((file, place)) = &self.place else { return Vec::new() };
        let mut changed = Vec::new();
        for known in self.known.values_mut() {
            known.idle += 1;
        }
        if !others.is_empty() {
            for destination in busy {
                // Only what goes to a host is anybody's to share.
                let Destination::Hop(..) = &destination else { continue };
                let bytes = bytes_of(&destination);
                let new = || {
                    lock(file, bytes + place);
                    Known { bytes, sharers: 0, looks: 0, idle: 0 }
                };
                self.known.entry(destination).or_insert_with(new).idle = 0;
            }
        }
        self.known.retain(|destination, known| {
            if others.is_empty() || known.idle >= LOOKS {
                unlock(file, known.bytes + place);
                changed.push((destination.clone(), 1));
                return false;
            }
            known.looks += 1;
            // Who has just seen that it is not alone may not have said yet where it sends to.
            let is_told = |other: &&i64| known.looks <= LOOKS || is_locked(file, known.bytes + **other, 1);
            let sharers = 1 + others.iter().filter(is_told).count();
            if known.sharers != sharers {
                known.sharers = sharers;
                changed.push((destination.clone(), sharers));
            }
            true
        });
        changed
    }
}

/// The bytes of a destination. Two that meet there share what they need not share, and no more.
fn bytes_of(destination: &Destination) -> i64 {
    let mut hasher = DefaultHasher::new();
    destination.to_string().hash(&mut hasher);
    let number = i64::try_from(hasher.finish() >> 8).unwrap_or(0);
    PLACES * (1 + number)
}

/// The first place that nobody has.
fn take_place(path: &Path) -> io::Result<(File, i64)> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o640);
    let file = options.open(path)?;
    for place in 0..PLACES {
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock_of(libc::F_WRLCK, place, 1))) {
            Ok(_) => return Ok((file, place)),
            Err(Errno::EAGAIN | Errno::EACCES) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("too many switches run on this node"))
}

/// Nobody else wants a byte of this place, so it is never refused; if it were, the others would count one less.
fn lock(file: &File, byte: i64) {
    let done = fcntl(file, FcntlArg::F_OFD_SETLK(&lock_of(libc::F_WRLCK, byte, 1)));
    if let Err(error) = done {
        tracing::warn!(event = "share.not_said", %error);
    }
}

fn unlock(file: &File, byte: i64) {
    // A lock that stays makes others wait for nobody: they only count one more.
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock_of(libc::F_UNLCK, byte, 1))).ok();
}

/// True if another process has one of these bytes.
fn is_locked(file: &File, from: i64, count: i64) -> bool {
    let mut probe = lock_of(libc::F_WRLCK, from, count);
    let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe));
    asked.is_ok() && i32::from(probe.l_type) != libc::F_UNLCK
}

fn lock_of(kind: i32, from: i64, count: i64) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: from,
        l_len: count,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::destination::Lane;
    use super::*;

    fn hop(text: &str) -> Destination {
        Destination::Hop(Arc::new(text.parse().unwrap()), Lane::Mail)
    }

    #[test]
    fn a_destination_is_shared_by_those_who_send_there_now_and_a_dead_one_is_gone_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut a = Share::open(dir.path());
        assert_eq!(a.switches(), 1);
        assert_eq!(a.look(vec![hop("10.0.0.1")]), [], "alone nothing is said");
        let mut b = Share::open(dir.path());
        assert_eq!((a.switches(), b.switches()), (2, 2));
        let both = || vec![hop("10.0.0.1"), hop("10.0.0.2")];
        // Nobody knows yet where the other one sends to.
        assert_eq!(a.look(both()), [(hop("10.0.0.1"), 2), (hop("10.0.0.2"), 2)]);
        assert_eq!(b.look(vec![hop("10.0.0.1"), Destination::Bounce]), [(hop("10.0.0.1"), 2)]);
        for _ in 1..LOOKS {
            assert_eq!(a.look(both()), []);
        }
        assert_eq!(a.look(both()), [(hop("10.0.0.2"), 1)]);
        let c = Share::open(dir.path());
        assert_eq!((a.switches(), a.look(vec![hop("10.0.0.1")])), (3, Vec::new()));
        drop((b, c));
        assert_eq!(a.switches(), 1);
        assert_eq!(a.look(vec![hop("10.0.0.1")]), [(hop("10.0.0.1"), 1), (hop("10.0.0.2"), 1)]);
    }

    #[test]
    fn where_nothing_runs_for_some_looks_the_others_have_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (mut a, mut b) = (Share::open(dir.path()), Share::open(dir.path()));
        a.look(vec![hop("10.0.0.1")]);
        assert_eq!(b.look(vec![hop("10.0.0.1")]), [(hop("10.0.0.1"), 2)]);
        for _ in 0..LOOKS {
            assert_eq!(b.look(vec![hop("10.0.0.1")]), []);
        }
        for _ in 1..LOOKS {
            assert_eq!(a.look(Vec::new()), []);
        }
        assert_eq!(a.look(Vec::new()), [(hop("10.0.0.1"), 1)]);
        assert_eq!(b.look(vec![hop("10.0.0.1")]), [(hop("10.0.0.1"), 1)]);
    }

    #[test]
    fn without_a_file_nobody_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut alone = Share::open(&dir.path().join("absent"));
        assert_eq!((alone.switches(), alone.look(vec![hop("10.0.0.1")])), (1, Vec::new()));
    }
}
