//! The shared disk: leases, one segment for each epoch, and what a recovery reads of them.
//!
//! Frames are written in order; `synced` of them are on stable storage. What another node has read has left the writer's
//! machine, so it counts as synced from then on (`owner.rs::settle`). Time, listings and torn bytes are not here.

use crate::frame::{Books, EPOCHS, Frame, UNSEALED};

/// The three sectors of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    /// CLAIM: the node.
    pub(crate) owner: u8,
    /// RENEW: it sealed and works.
    pub(crate) working: bool,
    /// RENEW: it writes no more.
    pub(crate) released: bool,
    /// FENCE: not zero.
    pub(crate) fenced: bool,
}

/// Whether a segment's file is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum File {
    /// Not made yet.
    #[default]
    Absent,
    /// There.
    There,
    /// Unlinked. A late writer still writes into it, and nobody will read that.
    Removed,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Segment {
    pub(crate) file: File,
    pub(crate) frames: Vec<Frame>,
    pub(crate) synced: u8,
}

impl Segment {
    /// Frames that are written and not synced.
    pub(crate) fn unsynced(&self) -> u8 {
        u8::try_from(self.frames.len()).unwrap() - self.synced
    }

    /// The next `more` unsynced frames reach stable storage.
    pub(crate) fn settle(&mut self, more: u8) {
        self.synced += more.min(self.unsynced());
    }

    /// The writer's machine is gone, and with it what was not synced.
    pub(crate) fn lose_unsynced(&mut self) {
        self.frames.truncate(usize::from(self.synced));
    }

    /// Unlinks the file.
    pub(crate) fn remove(&mut self) {
        *self = Self { file: File::Removed, frames: Vec::new(), synced: 0 };
    }

    /// Appends, if anybody could ever read it.
    pub(crate) fn append(&mut self, frame: Frame) {
        if self.file != File::Removed {
            self.file = File::There;
            self.frames.push(frame);
        }
    }

    fn stable(&self) -> &[Frame] {
        &self.frames[..usize::from(self.synced)]
    }
}

/// The disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Disk {
    /// Lease of epoch 1 first.
    pub(crate) leases: Vec<Lease>,
    /// By epoch.
    pub(crate) segments: [Segment; EPOCHS],
    /// The one fence of all epochs, in the variant that has only one: the epoch that wrote it last.
    pub(crate) register: u8,
}

impl Disk {
    /// The newest epoch, 0 if there is none.
    pub(crate) fn top(&self) -> u8 {
        u8::try_from(self.leases.len()).unwrap()
    }

    /// The lease of an epoch that was claimed.
    pub(crate) fn lease(&mut self, epoch: u8) -> &mut Lease {
        &mut self.leases[usize::from(epoch) - 1]
    }

    /// The segment of an epoch.
    pub(crate) fn segment(&mut self, epoch: u8) -> &mut Segment {
        &mut self.segments[usize::from(epoch)]
    }
}

/// A recovery under way: `queue_format::replay`. It looks without touching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Replay {
    seals: [u8; EPOCHS],
    /// The oldest epoch whose segment matters.
    pub(crate) first_live: u8,
    /// How many frames of each epoch count, as far as read.
    pub(crate) ends: [u8; EPOCHS],
    /// What they add up to.
    pub(crate) books: Books,
    /// A segment that matters is not there, or is shorter than its seal says.
    pub(crate) fault: bool,
    /// A weakened reading: an epoch counts although its SEAL never reached the disk.
    torn_begin_counts: bool,
}

impl Replay {
    /// Finds the seals that count and the oldest segment that matters: mirrors `Walk::survey`, `find_seals`, `first_live`.
    pub(crate) fn survey(disk: &Disk, before: u8, torn_begin_counts: bool) -> Self {
        let mut replay = Self {
            seals: [UNSEALED; EPOCHS],
            first_live: 1,
            ends: [UNSEALED; EPOCHS],
            books: Books::default(),
            fault: false,
            torn_begin_counts,
        };
        for epoch in (1..usize::from(before)).rev() {
            // SEGMENT and SEAL are the first two frames.
            for frame in replay.effective(disk, epoch).iter().take(2) {
                if let Frame::Seal(entries) = frame {
                    for (known, entry) in replay.seals.iter_mut().zip(entries) {
                        if *known == UNSEALED {
                            *known = *entry;
                        }
                    }
                }
            }
        }
        let mut looked_into = 0;
        for epoch in (1..usize::from(before)).rev() {
            let frames = replay.effective(disk, epoch);
            let Some(Frame::Head { first_live, .. }) = frames.first() else { continue };
            replay.first_live = replay.first_live.max(*first_live);
            looked_into += 1;
            if looked_into > 2 {
                continue;
            }
            for frame in frames {
                if let Frame::Retire { first_live } = frame {
                    replay.first_live = replay.first_live.max(*first_live);
                }
            }
        }
        replay
    }

    /// The frames that count. An epoch whose SEAL did not reach the disk never began: its SEGMENT alone says nothing.
    fn effective<'a>(&self, disk: &'a Disk, epoch: usize) -> &'a [Frame] {
        let stable = disk.segments[epoch].stable();
        if stable.len() < 2 && !self.torn_begin_counts {
            return &[];
        }
        &stable[..stable.len().min(usize::from(self.seals[epoch]))]
    }

    /// Applies one epoch, up to its seal: mirrors `Walk::epoch`.
    pub(crate) fn read(&mut self, disk: &Disk, epoch: u8) {
        let index = usize::from(epoch);
        if epoch < self.first_live {
            return;
        }
        let frames = self.effective(disk, index);
        let sealed = self.seals[index];
        let short = sealed != UNSEALED && frames.len() < usize::from(sealed);
        self.fault |= short || (sealed != 0 && disk.segments[index].file == File::Removed);
        for frame in frames {
            self.books.apply(epoch, *frame);
        }
        self.ends[index] = u8::try_from(frames.len()).unwrap();
    }

    /// Hands the books over, and keeps only where each epoch ends.
    pub(crate) fn take_books(&mut self) -> Books {
        self.seals = [UNSEALED; EPOCHS];
        std::mem::take(&mut self.books)
    }

    /// What a recovery would find now if every machine lost its power.
    pub(crate) fn whole(disk: &Disk, torn_begin_counts: bool) -> Self {
        let end = u8::try_from(EPOCHS).unwrap();
        let mut replay = Self::survey(disk, end, torn_begin_counts);
        for epoch in 1..end {
            replay.read(disk, epoch);
        }
        replay
    }
}
