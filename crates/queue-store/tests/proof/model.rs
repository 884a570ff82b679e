//! What a client and a next hop know of a queue, and whether a recovered queue agrees with them.
//!
//! Every request is noted before it is made and once it is answered. A crash between the two leaves both outcomes
//! possible, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use mail_model::Epoch;
use queue_format::books::{Books, Standing};
use queue_format::record::{MessageKey, RecipientState};

/// Small, seeded, and the same everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A place for files that need not survive the machine, and whose syncs cost nothing where there is one.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The content that belongs to a message: no two messages share it.
pub(crate) fn content(key: MessageKey, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(key.epoch.0 << 32 | key.sequence);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// What a recipient became, as far as it can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Queued,
    Held,
    Owed,
    Delivered,
    Failed,
    Deleted,
}

impl Fate {
    const ALL: [(Self, char); 6] = [
        (Self::Queued, 'q'),
        (Self::Held, 'h'),
        (Self::Owed, 'o'),
        (Self::Delivered, 'd'),
        (Self::Failed, 'f'),
        (Self::Deleted, 'x'),
    ];
    fn letter(self) -> char {
        Self::ALL.iter().find(|(fate, _)| *fate == self).unwrap().1
    }
    fn of(state: RecipientState) -> Self {
        match state {
            RecipientState::Queued => Self::Queued,
            RecipientState::Held => Self::Held,
            RecipientState::Owed(_) | RecipientState::OwedSuccess => Self::Owed,
            RecipientState::Delivered => Self::Delivered,
            RecipientState::Failed(_) => Self::Failed,
            RecipientState::Deleted => Self::Deleted,
        }
    }
    fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed | Self::Deleted)
    }
}

/// One line of what happened outside the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// A message is offered.
    Offer { key: MessageKey, len: usize, recipients: u16 },
    /// An attempt for all its recipients is asked for.
    Try { key: MessageKey },
    /// A fate is asked for, for one recipient.
    Ask { key: MessageKey, recipient: u16, fate: Fate },
    /// Everything asked for so far is answered with yes.
    Yes,
    /// The last thing asked for was refused before anything was written.
    No,
}

impl Note {
    pub(crate) fn line(self) -> String {
        match self {
            Self::Offer { key, len, recipients } => {
                format!("offer {} {} {len} {recipients}\n", key.epoch.0, key.sequence)
            }
            Self::Try { key } => format!("try {} {}\n", key.epoch.0, key.sequence),
            Self::Ask { key, recipient, fate } => {
                format!("ask {} {} {recipient} {}\n", key.epoch.0, key.sequence, fate.letter())
            }
            Self::Yes => "yes\n".to_owned(),
            Self::No => "no\n".to_owned(),
        }
    }

    /// Reads a line; `None` for one that a crash cut.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        let key = || Some(MessageKey { epoch: Epoch(number(1)?), sequence: number(2)? });
        Some(match *words.first()? {
            "offer" => Self::Offer {
                key: key()?,
                len: usize::try_from(number(3)?).ok()?,
                recipients: u16::try_from(number(4)?).ok()?,
            },
            "try" => Self::Try { key: key()? },
            "ask" => {
                let letter = words.get(4)?.chars().next()?;
                let fate = Fate::ALL.iter().find(|(_, l)| *l == letter)?.0;
                Self::Ask { key: key()?, recipient: u16::try_from(number(3)?).ok()?, fate }
            }
            "yes" => Self::Yes,
            "no" => Self::No,
            _ => return None,
        })
    }
}

/// Longer ones come in pieces, and without a name.
const INLINE_BELOW: usize = 9_000;

/// Every third message is handed over under a name.
pub(crate) fn name(key: MessageKey) -> Option<String> {
    key.sequence.is_multiple_of(3).then(|| format!("{}-{}", key.epoch.0, key.sequence))
}

#[derive(Debug, Clone)]
struct Known {
    fate: Fate,
    /// Asked for and not answered.
    asked: Vec<Fate>,
    /// Attempts that ended for certain.
    attempts: u16,
}

#[derive(Debug, Clone)]
struct Message {
    len: usize,
    acknowledged: bool,
    /// Attempts begun and not ended; the second number counts those asked for and not answered.
    open: (u16, u16),
    recipients: Vec<Known>,
}

impl Message {
    fn is_inline(&self) -> bool {
        self.len < INLINE_BELOW
    }
    fn may_be_gone(&self) -> bool {
        self.recipients.iter().all(|r| r.fate.is_final() || r.asked.iter().any(|f| f.is_final()))
    }
    fn must_be_gone(&self) -> bool {
        self.recipients.iter().all(|r| r.fate.is_final())
    }
}

/// What the outside knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    messages: BTreeMap<MessageKey, Message>,
    last: Option<Note>,
    /// Those that have a name and are durable, ever: nobody says that a name is over.
    named: BTreeSet<MessageKey>,
    /// Recipients of acknowledged messages, ever.
    accepted: u64,
    delivered: u64,
}

impl Model {
    pub(crate) fn note(&mut self, note: Note) {
        match note {
            Note::Offer { key, len, recipients } => {
                let fresh = Known { fate: Fate::Queued, asked: Vec::new(), attempts: 0 };
                let recipients = vec![fresh; usize::from(recipients)];
                self.messages.insert(key, Message { len, acknowledged: false, open: (0, 0), recipients });
            }
            Note::Try { key } => self.messages.get_mut(&key).unwrap().open.1 += 1,
            Note::Ask { key, recipient, fate } => {
                let message = self.messages.get_mut(&key).unwrap();
                message.recipients[usize::from(recipient)].asked.push(fate);
            }
            Note::Yes => self.all_answered(),
            Note::No => match self.last {
                Some(Note::Offer { key, .. }) => drop(self.messages.remove(&key)),
                Some(Note::Try { key }) => self.messages.get_mut(&key).unwrap().open.1 -= 1,
                Some(Note::Ask { key, .. }) => {
                    let message = self.messages.get_mut(&key).unwrap();
                    message.recipients.iter_mut().for_each(|known| known.asked.clear());
                }
                Some(Note::Yes | Note::No) | None => panic!("nothing that can be refused was asked for"),
            },
        }
        self.last = Some(note);
    }

    fn all_answered(&mut self) {
        for (key, message) in &mut self.messages {
            if !message.acknowledged {
                message.acknowledged = true;
                self.named.extend(name(*key).map(|_| *key).filter(|_| message.is_inline()));
                self.accepted += message.recipients.len() as u64;
            }
            message.open = (message.open.0 + message.open.1, 0);
            for known in &mut message.recipients {
                for fate in std::mem::take(&mut known.asked) {
                    self.delivered += u64::from(fate == Fate::Delivered);
                    known.fate = fate;
                }
            }
        }
        self.messages.retain(|_, message| !message.must_be_gone());
    }

    /// A message of which every recipient is known to be queued.
    pub(crate) fn pick(&self, rng: &mut Rng) -> Option<(MessageKey, u16)> {
        let quiet = |m: &Message| {
            m.acknowledged && m.recipients.iter().all(|r| r.fate == Fate::Queued && r.asked.is_empty())
        };
        let ready: Vec<_> = self.messages.iter().filter(|(_, m)| quiet(m)).collect();
        let (key, message) = ready.get(usize::try_from(rng.below(ready.len().max(1) as u64)).unwrap())?;
        Some((**key, u16::try_from(message.recipients.len()).unwrap()))
    }

    pub(crate) fn waiting(&self) -> usize {
        self.messages.len()
    }

    /// Compares with a queue that was just recovered, and goes on from what it says. `read` reads a content.
    pub(crate) fn agree(
        &mut self,
        books: &Books,
        mut read: impl FnMut(MessageKey) -> Result<Vec<u8>, String>,
    ) -> Result<(), String> {
        let balance = books.balance();
        let totals = balance.totals;
        if !balance.holds {
            return Err(format!("the books do not balance: {balance:?}"));
        }
        if totals.accepted < self.accepted || totals.delivered < self.delivered {
            return Err(format!("{totals:?}, but {} {} are known", self.accepted, self.delivered));
        }
        for (key, message) in &mut self.messages {
            match books.message(*key) {
                None if message.acknowledged && !message.may_be_gone() => {
                    return Err(format!("{key:?} was acknowledged and is lost: {message:?}"));
                }
                None => message.recipients.clear(),
                Some(_) if message.acknowledged && message.must_be_gone() => {
                    return Err(format!("{key:?} was finished and is back"));
                }
                Some(found) => {
                    if read(*key)? != content(*key, message.len) {
                        return Err(format!("{key:?} has another content"));
                    }
                    message.agree(&found.standings).map_err(|what| format!("{key:?}: {what}"))?;
                }
            }
        }
        let known = |key: &MessageKey| {
            name(*key).is_some_and(|name| books.handed_over(&name).map(|(known, _)| known).eq([*key]))
        };
        if let Some(key) = self.named.iter().find(|key| !known(key)) {
            return Err(format!("{key:?} was handed over under a name that is forgotten"));
        }
        if let Some((key, _)) = books.messages().find(|(key, _)| !self.messages.contains_key(key)) {
            return Err(format!("{key:?} was never offered, or was finished"));
        }
        self.messages.retain(|_, message| !message.recipients.is_empty());
        (self.accepted, self.delivered) = (totals.accepted, totals.delivered);
        Ok(())
    }
}

impl Message {
    /// Compares, and takes over what was found.
    fn agree(&mut self, found: &[Standing]) -> Result<(), String> {
        if found.len() != self.recipients.len() {
            return Err(format!("{} recipients, not {}", found.len(), self.recipients.len()));
        }
        let open = self.open.0 + self.open.1;
        for (known, standing) in self.recipients.iter_mut().zip(found) {
            let fate = Fate::of(standing.state);
            if fate != known.fate && !known.asked.contains(&fate) {
                return Err(format!("a recipient is {fate:?}, known was {known:?}"));
            }
            if standing.attempts < known.attempts || standing.attempts > known.attempts + open {
                return Err(format!("{} attempts, known was {known:?} with {open}", standing.attempts));
            }
            *known = Known { fate, asked: Vec::new(), attempts: standing.attempts };
        }
        (self.open, self.acknowledged) = ((0, 0), true);
        Ok(())
    }
}
