//! One node's dealings with the device of one queue on promoted storage: when it is promoted here, and when let go.
//!
//! ```text
//! round: read the register -> ask the device -> at most one of: swap the register, promote, release, fence
//! ```
//!
//! Nothing is remembered as the truth: each round looks at both again and does one thing. So an answer that was lost costs
//! a round, and a program that starts anew finds its way.
//!
//! | the register says | the device here | then |
//! |---|---|---|
//! | nothing yet | current | the home node writes the first register, when its switch wants it |
//! | another node | primary or mounted | the switch is stopped, the device released |
//! | another node | secondary, current | a taker swaps the register, and promotes in a later round, never before |
//! | another node | parted from the other copy | not taken: which of the two has everything a person must say |
//! | this node | not mounted | promote |
//! | this node | mounted, the peer connected and not among the copies | the peer's copy is current again: swap |
//! | this node, which hands back | released | the register goes to the home node |
//! | less than was seen before | any | nothing: the arbiter lost its memory, an operator must look |
//!
//! Never: promote a copy that the register does not call current, or that says of itself that it is not. Never: act on a
//! register that could not be read.

mod state;

use mail_model::{NodeId, QueueId};
use serde::{Deserialize, Serialize};

use crate::register::{Entry, Register, Unfit, Version};

pub use state::{CopyState, DeviceRole, DeviceState, PeerLink};

/// What the node says each time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Around {
    /// The own switch wants its queue: it waits for it or runs. Matters at home.
    pub wanted: bool,
    /// The switch of this node released the queue and is gone, and this node waits for it.
    pub give_to: Option<NodeId>,
    /// Promotions have failed for longer than an old owner that lives needs to let go.
    pub late: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// Time for a round. Ignored while one is under way.
    Round,
    /// Answer to [`Action::Read`]; `None`: unknown.
    Read(Option<Entry>),
    /// Answer to [`Action::Ask`]; `None`: it failed, or what it said is not understood.
    Said(Option<DeviceState>),
    /// Answer to [`Action::Swap`]. What came of it is read in the next round.
    Swapped,
    /// Answer to [`Action::Promote`].
    Promoted(bool),
    /// Answer to [`Action::Release`].
    Released(bool),
    /// Answer to [`Action::Fence`].
    Fenced(bool),
}

/// What to do. One answer each, but for [`Action::Stop`], [`Action::Launch`] and [`Action::Tell`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read the register.
    Read,
    /// Ask the device how it stands.
    Ask,
    /// Compare-and-swap of the register.
    Swap {
        /// As it was read.
        expected: Version,
        /// What shall stand there.
        register: Register,
    },
    /// Make the device primary and mount it.
    Promote,
    /// Unmount the device and make it secondary.
    Release,
    /// Put this node off.
    Fence(NodeId),
    /// End this node's switch of the queue at once: it owns nothing any more.
    Stop,
    /// The device is held, and a taker is wanted: start the secondary.
    Launch,
    /// Nobody will start a secondary: the takeover failed.
    GiveUp,
    /// Somebody should know. Each thing once until it is over.
    Tell(Word),
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The device is promoted and mounted here.
    Held,
    /// The device was let go.
    LetGo,
    /// The register gives the queue to another node while the device is held here.
    Lost,
    /// The own copy is behind: not promoted.
    NotCurrent,
    /// Promotion fails; most often the old owner's side is primary still.
    NotPromoted,
    /// The fence agent could not prove that the old owner is off.
    NotFenced,
    /// Both sides wrote: the device's copies have parted.
    Split,
    /// The register is older than what was seen: the arbiter lost its memory.
    WentBack,
    /// The arbiter does not answer.
    Unknown,
}

impl Word {
    /// In a sentence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "the device is promoted and mounted here",
            Self::LetGo => "the device was released",
            Self::Lost => {
                "another node owns the queue by the arbiter's register: the switch is stopped, the device released"
            }
            Self::NotCurrent => "the copy of this node is not current: it is not promoted",
            Self::NotPromoted => {
                "the device cannot be promoted; is the old owner's side primary still? put that node off"
            }
            Self::NotFenced => "the fence agent could not prove that the old owner is off",
            Self::Split => "split brain: the two copies of the device have parted; see the runbook",
            Self::WentBack => {
                "the arbiter's register is older than what this node has seen: it lost its memory; see the runbook"
            }
            Self::Unknown => "the arbiter does not answer: nothing is taken over, and owners accept nothing",
        }
    }

    /// True if somebody must look.
    #[must_use]
    pub fn is_alarm(self) -> bool {
        match self {
            Self::Held | Self::LetGo => false,
            Self::Lost
            | Self::NotCurrent
            | Self::NotPromoted
            | Self::NotFenced
            | Self::Split
            | Self::WentBack
            | Self::Unknown => true,
        }
    }
}

/// Whether this node could take the queue, as far as its copy is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OwnCopy {
    /// The register and the device say that it has everything.
    Current,
    /// It lacks something, or may.
    Behind,
    /// The arbiter or the device does not say.
    #[default]
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Doing {
    #[default]
    Nothing,
    Reading,
    Asking,
    Swapping,
    Promoting {
        term: u64,
    },
    Releasing,
    Fencing,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Device {
    me: NodeId,
    /// The other node with a copy.
    peer: NodeId,
    home: NodeId,
    /// There is a fence agent.
    fence: bool,
    doing: Doing,
    /// The term for which it was promoted here.
    held: Option<u64>,
    /// As read in this round; that of the last one between rounds.
    entry: Option<Entry>,
    said: Option<DeviceState>,
    /// The highest term ever seen.
    seen: u64,
    /// A takeover is wanted.
    take: bool,
    /// The term for which the old owner was put off.
    fenced: u64,
    told: Vec<Word>,
}

impl Device {
    /// A machine that knows nothing.
    #[must_use]
    pub fn new(me: NodeId, peer: NodeId, queue: &QueueId, fence: bool) -> Self {
        Self {
            me,
            peer,
            home: queue.home().clone(),
            fence,
            doing: Doing::Nothing,
            held: None,
            entry: None,
            said: None,
            seen: 0,
            take: false,
            fenced: 0,
            told: Vec::new(),
        }
    }

    /// The term for which the device is held here: promoted, mounted, and the register said so.
    #[must_use]
    pub fn held(&self) -> Option<u64> {
        self.held
    }

    /// The highest term that was ever seen. Whoever keeps it over a restart gives it to [`Self::remember`].
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// What an earlier run has seen.
    pub fn remember(&mut self, term: u64) {
        self.seen = self.seen.max(term);
    }

    /// The register as it was read last; `None` if that failed or there is none.
    #[must_use]
    pub fn register(&self) -> Option<&Register> {
        self.entry.as_ref()?.register.as_ref()
    }

    /// What the device said last.
    #[must_use]
    pub fn said(&self) -> Option<DeviceState> {
        self.said
    }

    /// What is wrong now.
    #[must_use]
    pub fn wrong(&self) -> Option<Word> {
        self.told.iter().copied().find(|word| word.is_alarm())
    }

    /// True if the register says that this node owns.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.register().is_some_and(|register| register.owner == self.me)
    }

    /// True if a round should follow soon: something is under way.
    #[must_use]
    pub fn is_hurried(&self) -> bool {
        self.take || self.is_owner() != self.held.is_some()
    }

    /// How the own copy stands.
    #[must_use]
    pub fn copy(&self) -> OwnCopy {
        let (Some(register), Some(said)) = (self.register(), self.said) else { return OwnCopy::Unknown };
        if self.is_whole(register, said) { OwnCopy::Current } else { OwnCopy::Behind }
    }

    /// The copy has everything that the owner may have acknowledged. Once the copies have parted, only the owner's surely has.
    fn is_whole(&self, register: &Register, said: DeviceState) -> bool {
        let parted = said.peer == PeerLink::Split && register.owner != self.me;
        said.data == CopyState::Current && register.is_current(&self.me) && !parted
    }

    /// Drops what no later decision rests on: what was read, said and told in rounds that are over. A model checker tells
    /// fewer states apart then.
    pub fn forget(&mut self) {
        if !matches!(self.doing, Doing::Reading | Doing::Asking) {
            (self.entry, self.said) = (None, None);
        }
        self.told.clear();
    }

    /// A takeover is wanted: [`Action::Launch`] or [`Action::GiveUp`] will follow.
    pub fn take(&mut self) {
        self.take = true;
    }

    /// Takes one event and says what to do.
    pub fn step(&mut self, event: &Event, around: &Around, out: &mut Vec<Action>) {
        match (event, self.doing) {
            (Event::Round, Doing::Nothing) => {
                self.doing = Doing::Reading;
                out.push(Action::Read);
            }
            (Event::Read(entry), Doing::Reading) => self.read(entry.clone(), out),
            (Event::Said(said), Doing::Asking) => {
                self.doing = Doing::Nothing;
                self.said = *said;
                self.tell_if(said.is_some_and(|said| said.peer == PeerLink::Split), Word::Split, out);
                self.decide(around, out);
            }
            (Event::Swapped, Doing::Swapping) => self.doing = Doing::Nothing,
            (Event::Promoted(done), Doing::Promoting { term }) => self.promoted(*done, term, out),
            (Event::Released(done), Doing::Releasing) => {
                self.doing = Doing::Nothing;
                if *done && self.held.take().is_some() {
                    out.push(Action::Tell(Word::LetGo));
                }
            }
            (Event::Fenced(done), Doing::Fencing) => {
                self.doing = Doing::Nothing;
                if *done {
                    self.fenced = self.seen;
                }
                self.tell_if(!done, Word::NotFenced, out);
            }
            // An answer that nobody waits for.
            (
                Event::Round
                | Event::Read(_)
                | Event::Said(_)
                | Event::Swapped
                | Event::Promoted(_)
                | Event::Released(_)
                | Event::Fenced(_),
                _,
            ) => {}
        }
    }

    fn read(&mut self, entry: Option<Entry>, out: &mut Vec<Action>) {
        self.doing = Doing::Nothing;
        self.entry = entry;
        let Some(entry) = &self.entry else {
            self.tell_if(true, Word::Unknown, out);
            // Whether it is still wanted when the arbiter is back is to be judged then.
            return self.give_up(out);
        };
        let term = entry.register.as_ref().map_or(0, |register| register.term);
        let back = term < self.seen;
        self.seen = self.seen.max(term);
        self.tell_if(false, Word::Unknown, out);
        self.tell_if(back, Word::WentBack, out);
        if back {
            self.entry = None;
            return self.give_up(out);
        }
        self.doing = Doing::Asking;
        out.push(Action::Ask);
    }

    fn promoted(&mut self, done: bool, term: u64, out: &mut Vec<Action>) {
        self.doing = Doing::Nothing;
        if done {
            self.held = Some(term);
            self.tell_if(false, Word::NotFenced, out);
            out.push(Action::Tell(Word::Held));
        }
        self.tell_if(!done, Word::NotPromoted, out);
    }

    /// What this round is for.
    fn decide(&mut self, around: &Around, out: &mut Vec<Action>) {
        let Some(Entry { version, register }) = self.entry.clone() else { return };
        let here = self.held.is_some()
            || self.said.is_some_and(|said| said.mounted || said.role == DeviceRole::Primary);
        match register {
            Some(register) if register.owner == self.me => {
                self.tell_if(false, Word::Lost, out);
                self.as_owner(version, &register, here, around, out);
            }
            Some(_) | None if here => self.let_go(out),
            Some(register) => {
                self.tell_if(false, Word::Lost, out);
                if self.take {
                    self.as_taker(version, &register, out);
                }
            }
            None => {
                let whole = self.said.is_some_and(|said| said.data == CopyState::Current);
                if self.home == self.me && around.wanted && whole {
                    self.swap(version, Ok(Register::first(&self.me)), out);
                } else {
                    self.give_up(out);
                }
            }
        }
    }

    fn as_owner(
        &mut self,
        version: Version,
        register: &Register,
        here: bool,
        around: &Around,
        out: &mut Vec<Action>,
    ) {
        if let Some(next) = around.give_to.as_ref().filter(|next| register.is_current(next)) {
            self.give_up(out);
            if here {
                self.doing = Doing::Releasing;
                out.push(Action::Release);
            } else {
                self.swap(version, register.given(&self.me, next), out);
            }
            return;
        }
        let Some(said) = self.said else { return };
        if self.held == Some(register.term) && said.mounted {
            let joins = said.role == DeviceRole::Primary && said.peer == PeerLink::Connected;
            if std::mem::take(&mut self.take) {
                out.push(Action::Launch);
            } else if joins && !register.is_current(&self.peer) {
                self.swap(version, register.joined(&self.me, &self.peer), out);
            }
            return;
        }
        let whole = self.is_whole(register, said);
        self.tell_if(!whole, Word::NotCurrent, out);
        if !whole {
            return self.give_up(out);
        }
        // Who was given the device, or is at home with it, has nobody to put off: there is another reason. Nor is a node put
        // off again and again.
        if self.fence && self.take && around.late && self.fenced < register.term {
            self.doing = Doing::Fencing;
            out.push(Action::Fence(self.peer.clone()));
        } else {
            self.doing = Doing::Promoting { term: register.term };
            out.push(Action::Promote);
        }
    }

    fn as_taker(&mut self, version: Version, register: &Register, out: &mut Vec<Action>) {
        // A device that says nothing now is asked again when the takeover is.
        let Some(said) = self.said else { return self.give_up(out) };
        let whole = self.is_whole(register, said);
        self.tell_if(!whole, Word::NotCurrent, out);
        if whole {
            self.swap(version, register.taken(&self.me), out);
        } else {
            self.give_up(out);
        }
    }

    /// No takeover is under way any more, if one was.
    fn give_up(&mut self, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.take) {
            out.push(Action::GiveUp);
        }
    }

    /// The device is here, and the register says that it should not be.
    fn let_go(&mut self, out: &mut Vec<Action>) {
        self.tell_if(true, Word::Lost, out);
        self.give_up(out);
        self.doing = Doing::Releasing;
        out.push(Action::Stop);
        out.push(Action::Release);
    }

    fn swap(&mut self, expected: Version, register: Result<Register, Unfit>, out: &mut Vec<Action>) {
        let Ok(register) = register else { return };
        self.doing = Doing::Swapping;
        out.push(Action::Swap { expected, register });
    }

    /// Tells it when it begins, and forgets it when it is over.
    fn tell_if(&mut self, holds: bool, word: Word, out: &mut Vec<Action>) {
        let known = self.told.contains(&word);
        if holds && !known {
            self.told.push(word);
            out.push(Action::Tell(word));
        } else if !holds {
            self.told.retain(|told| *told != word);
        }
    }
}

#[cfg(test)]
mod tests;
