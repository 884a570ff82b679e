//! Frames, and what they add up to: `queue_format::record` and `queue_format::books` cut down to what safety turns on.
//!
//! A message has one recipient, and its attempt is named by the epoch that made it. Never decides anything: see
//! `books_check` for the proof that these books and the production's say the same.

/// Room in the tables: epochs 1 to 3; index 0 is no epoch.
pub(crate) const EPOCHS: usize = 4;

/// Room in the tables: messages.
pub(crate) const MESSAGES: usize = 3;

/// What a seal says of an epoch it does not name.
pub(crate) const UNSEALED: u8 = u8::MAX;

/// One frame. The epoch that wrote it is the segment's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Frame {
    /// SEGMENT: the sums before it, and the oldest epoch whose segment still matters.
    Head { first_live: u8, doubts: [u8; MESSAGES] },
    /// SEAL: how many frames of each older epoch count.
    Seal([u8; EPOCHS]),
    /// MESSAGE.
    Message(u8),
    /// CARRY.
    Carry(u8),
    /// ATTEMPT.
    Attempt(u8),
    /// OUTCOME: a next hop took it. `by` is the epoch of the attempt.
    Delivered { id: u8, by: u8 },
    /// OUTCOME: nobody knows; it is tried again.
    InDoubt { id: u8, by: u8 },
    /// RETIRE.
    Retire { first_live: u8 },
    /// CLEAN.
    Clean,
}

/// What a queue is after a list of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Books {
    /// The epoch whose segment holds the newest MESSAGE or CARRY of each live message; 0 if it is not live.
    pub(crate) place: [u8; MESSAGES],
    /// Epochs with an open attempt, a bit for each.
    pub(crate) open: [u8; MESSAGES],
    /// Attempts that ended in doubt.
    pub(crate) doubts: [u8; MESSAGES],
    /// Segments of older epochs are retired.
    pub(crate) first_live: u8,
}

impl Books {
    /// Mirrors `queue_format::books::Books::apply`.
    pub(crate) fn apply(&mut self, epoch: u8, frame: Frame) {
        match frame {
            Frame::Head { first_live, doubts } => {
                self.doubts = doubts;
                self.first_live = self.first_live.max(first_live);
            }
            Frame::Message(id) | Frame::Carry(id) => self.place[usize::from(id)] = epoch,
            Frame::Attempt(id) => self.open[usize::from(id)] |= 1 << epoch,
            Frame::Delivered { id, by } => {
                self.open[usize::from(id)] &= !(1 << by);
                self.place[usize::from(id)] = 0;
            }
            Frame::InDoubt { id, by } => {
                self.open[usize::from(id)] &= !(1 << by);
                self.doubts[usize::from(id)] += 1;
            }
            Frame::Retire { first_live } => self.first_live = self.first_live.max(first_live),
            Frame::Seal(_) | Frame::Clean => {}
        }
    }

    /// True if the message is still to be delivered.
    pub(crate) fn is_live(&self, id: u8) -> bool {
        self.place[usize::from(id)] != 0
    }

    /// True if some live message stands in a segment older than `epoch`.
    pub(crate) fn needs_older_than(&self, epoch: u8) -> bool {
        self.place.iter().any(|place| (1..epoch).contains(place))
    }

    /// Deliveries that these books explain: one outcome, each doubt, each attempt that is open.
    pub(crate) fn explained(&self, id: u8) -> u8 {
        let open = u8::try_from(self.open[usize::from(id)].count_ones()).unwrap();
        self.doubts[usize::from(id)] + open + u8::from(!self.is_live(id))
    }

    /// The open attempts of live messages: mirrors `Books::open_attempts` as reduced by `queue_store::effect::reduce`.
    pub(crate) fn open_attempts(&self) -> Vec<(u8, u8)> {
        let mut open = Vec::new();
        for (id, epochs) in (0..).zip(self.open).filter(|(id, _)| self.is_live(*id)) {
            open.extend((1..8).filter(|by| epochs & (1 << by) != 0).map(|by| (id, by)));
        }
        open
    }
}
