//! Two machines try one directory: the same command on both, each naming the other. They meet in the directory itself, so
//! nothing but the storage is between them.
//!
//! Each has a page that only it writes: `ROUND LAST_RESULT`. A round begins when both pages say so; then both claim one name,
//! and exactly one may win.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mail_model::NodeId;
use queue_store::storage::{Disk, Storage, StoredFile};
use tokio::time::Instant;

use super::measure::SECTOR;
use crate::command::Failure;
use crate::exit::Exit;
use crate::lights::{Light, Lights};

/// How long the other side may take to come.
const MEET: Duration = Duration::from_mins(2);
/// How long it may take with a round.
const ROUND: Duration = Duration::from_secs(20);
/// Races.
const ROUNDS: u32 = 100;
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What a page says.
#[derive(Debug, Clone, Copy, Default)]
struct Page {
    round: u32,
    /// Its side won the race before this round, and the one before that.
    won: [bool; 2],
}

/// One side.
struct Side {
    place: PathBuf,
    me: NodeId,
    page: Box<dyn StoredFile>,
}

/// Races with `peer`.
pub(super) fn meet(dir: &Path, me: &NodeId, peer: &NodeId, found: &mut Lights) -> Result<(), Failure> {
    if me == peer {
        return Err(Failure::new(Exit::Usage, "--peer names this node; name the other one"));
    }
    let (first, second) = (me.as_str().min(peer.as_str()), me.as_str().max(peer.as_str()));
    let place = dir.join(format!(".fscheck-{first}-{second}"));
    Disk.create_dir(&place)?;
    let page = place.join(format!("page-{me}"));
    // What a check that was broken off left behind.
    clear(&place, me, me.as_str() == first);
    let side = Side { page: Disk.create_new(&page)?, place: place.clone(), me: me.clone() };
    let raced = side.race(peer);
    clear(&place, me, me.as_str() == first);
    // Whoever is last takes the folder away.
    std::fs::remove_dir(&place).ok();
    let (wins, mut waits) = raced?;
    waits.sort_unstable();
    let half = waits.get(waits.len() / 2).copied().unwrap_or_default();
    let most = waits.last().copied().unwrap_or_default();
    let text = format!(
        "{ROUNDS} races with node {peer}, {wins} won here, each by exactly one; both sides saw each other's synced pages within {} us, {} us at most",
        half.as_micros(),
        most.as_micros()
    );
    found.add("peer", Light::Green, text);
    Ok(())
}

/// Takes away what this side made; `names` too where that is its part.
fn clear(place: &Path, me: &NodeId, names: bool) {
    for round in 1..=ROUNDS {
        Disk.unlink(&place.join(format!("own-{me}-{round}"))).ok();
        if names {
            Disk.unlink(&place.join(format!("name-{round}"))).ok();
        }
    }
    Disk.unlink(&place.join(format!("page-{me}"))).ok();
}

impl Side {
    fn race(&self, peer: &NodeId) -> Result<(u32, Vec<Duration>), Failure> {
        let mut page = Page::default();
        self.write(page)?;
        self.wait(peer, 0, MEET)?;
        let (mut wins, mut waits) = (0, Vec::new());
        // One more round, for the result of the last race.
        for round in 1..=ROUNDS + 1 {
            let own = self.place.join(format!("own-{}-{round}", self.me));
            if round <= ROUNDS {
                Disk.create_new(&own)?.sync_data()?;
            }
            page.round = round;
            self.write(page)?;
            let began = Instant::now();
            let theirs = self.wait(peer, round, ROUND)?;
            waits.push(began.elapsed());
            let [last, _] = page.won;
            if round > 1 && last == theirs {
                return Err(self.not_by_one(round - 1, last));
            }
            if round <= ROUNDS {
                let won = self.claim(&own, round)?;
                wins += u32::from(won);
                page.won = [won, last];
            }
        }
        self.part(peer, page)?;
        Ok((wins, waits))
    }

    /// Nobody leaves before the other one has read the last result. Who is gone has.
    fn part(&self, peer: &NodeId, page: Page) -> Result<(), Failure> {
        let round = ROUNDS + 2;
        self.write(Page { round, ..page })?;
        let path = self.place.join(format!("page-{peer}"));
        let deadline = Instant::now() + ROUND;
        while Instant::now() < deadline
            && path.exists()
            && self.read(peer).is_none_or(|page| page.round < round)
        {
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn not_by_one(&self, round: u32, won: bool) -> Failure {
        let who = if won { "both nodes" } else { "nobody" };
        let dir = self.place.display();
        Failure::failed(format_args!(
            "RED: race {round} in {dir} was won by {who}: a queue must not live here"
        ))
    }

    fn claim(&self, own: &Path, round: u32) -> Result<bool, Failure> {
        match Disk.link(own, &self.place.join(format!("name-{round}"))) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(_) => Ok(Disk.link_count(own)? == 2),
        }
    }

    fn write(&self, page: Page) -> Result<(), Failure> {
        let mut sector = [0; SECTOR];
        let whole = [1, u8::from(page.won[0]), u8::from(page.won[1])];
        for (slot, byte) in sector.iter_mut().zip(page.round.to_le_bytes().into_iter().chain(whole)) {
            *slot = byte;
        }
        self.page.write_at(0, &sector)?;
        self.page.sync_data()?;
        Ok(())
    }

    /// The page of `peer`; `None` if it is not there yet, or not whole yet.
    fn read(&self, peer: &NodeId) -> Option<Page> {
        let mut sector = [0; SECTOR];
        let path = self.place.join(format!("page-{peer}"));
        let read = Disk.open_uncached(&path).and_then(|page| page.read_at(0, &mut sector));
        match (read, &sector) {
            (Ok(SECTOR), [a, b, c, d, 1, last, before, ..]) => {
                let round = u32::from_le_bytes([*a, *b, *c, *d]);
                Some(Page { round, won: [*last == 1, *before == 1] })
            }
            (Ok(_) | Err(_), _) => None,
        }
    }

    /// Waits until `peer` has come to `round`, and answers whether it won the race before. It may be one round ahead.
    fn wait(&self, peer: &NodeId, round: u32, patience: Duration) -> Result<bool, Failure> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match self.read(peer) {
                Some(Page { round: said, won: [last, _] }) if said == round => return Ok(last),
                Some(Page { round: said, won: [last, before] }) if said == round + 1 => {
                    // Behind the last race nothing follows: its result stays where it was.
                    return Ok(if said > ROUNDS + 1 { last } else { before });
                }
                Some(_) | None => std::thread::sleep(LOOK_EVERY),
            }
        }
        let (me, dir) = (&self.me, self.place.parent().unwrap_or(&self.place).display());
        Err(Failure::new(
            Exit::Timeout,
            format_args!(
                "node {peer} was not met within {} s; on it, at the same time: switchctl fscheck {dir} --peer {me}",
                patience.as_secs()
            ),
        ))
    }
}
