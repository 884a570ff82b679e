//! Several processes claim the same name at once, as takers of a queue do; one writes and others read.
//!
//! A racer is this program again, told over its standard input: `claim K` links a file of its own to the name K, `write K`
//! writes K to the common page and syncs it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use queue_store::storage::{Disk, Storage, StoredFile};

use super::measure::SECTOR;
use crate::command::{Outcome, say};
use crate::exit::Exit;
use crate::lights::{Light, Lights};

/// Processes.
const RACERS: usize = 4;
/// The page that one writes and others read.
const PAGE: &str = "page";

/// A racer, seen from the one that starts it.
struct Racer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Racer {
    fn start(place: &Path, name: usize) -> Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(program)
            .arg("fscheck")
            .arg(place)
            .args(["--racer", &name.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start another process")?;
        let orders = child.stdin.take().context("its input")?;
        let answers = BufReader::new(child.stdout.take().context("its output")?);
        let mut racer = Self { child, orders, answers };
        racer.answer()?;
        Ok(racer)
    }

    fn order(&mut self, what: &str, round: u32) -> Result<()> {
        writeln!(self.orders, "{what} {round}").context("tell a racer")
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "a racer ended before its time");
        Ok(line.trim().to_owned())
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Lets claims race, then looks whether what one process synced is seen by another at once.
pub(super) fn claims(place: &Path, rounds: u32, found: &mut Lights) -> Result<()> {
    let page = write_page(place, None, 0)?;
    let mut racers = (0..RACERS).map(|name| Racer::start(place, name)).collect::<Result<Vec<_>>>()?;
    let mut wrong = Vec::new();
    let mut wins = [0_u32; RACERS];
    for round in 1..=rounds {
        for racer in &mut racers {
            racer.order("claim", round)?;
        }
        let mut winners = Vec::new();
        for (name, racer) in racers.iter_mut().enumerate() {
            match racer.answer()?.as_str() {
                "won" => winners.push(name),
                "lost" => {}
                other => bail!("a claim: {other}"),
            }
        }
        match winners.as_slice() {
            [winner] if owner(place, round)? == winner.to_string() => {
                if let Some(wins) = wins.get_mut(*winner) {
                    *wins += 1;
                }
            }
            _ => wrong.push(format!("round {round}: won by {winners:?}")),
        }
    }
    let text = format!("{rounds} races of {RACERS} processes, won {wins:?}; not by exactly one: {wrong:?}");
    found.if_well("claim race", wrong.is_empty(), Light::Red, text);
    let uncached = Disk.open_uncached(&place.join(PAGE))?;
    let cached = Disk.open(&place.join(PAGE))?;
    let (mut unseen, mut late) = (0, 0);
    for round in 1..=rounds {
        let turn = usize::try_from(round)? % RACERS;
        let racer = racers.get_mut(turn).context("a racer")?;
        racer.order("write", round)?;
        let said = racer.answer()?;
        ensure!(said == "done", "a write: {said}");
        unseen += u32::from(read_page(uncached.as_ref())? != round);
        late += u32::from(read_page(cached.as_ref())? != round);
    }
    drop(page);
    let text = format!("{rounds} synced writes of other processes, {unseen} not seen by an uncached read");
    found.if_well("seen at once", unseen == 0, Light::Red, text);
    let text = format!("{late} of {rounds} not seen through the cache, which nothing relies on");
    found.add("seen through the cache", Light::Green, text);
    Ok(())
}

fn owner(place: &Path, round: u32) -> Result<String> {
    let mut sector = [0; SECTOR];
    Disk.open_uncached(&place.join(format!("name-{round}")))?.read_at(0, &mut sector)?;
    Ok(String::from_utf8_lossy(&sector).trim_end_matches('\0').to_owned())
}

/// The first bytes of the page as a number.
fn read_page(file: &dyn StoredFile) -> Result<u32> {
    let mut sector = [0; SECTOR];
    file.read_at(0, &mut sector)?;
    let (number, _) = sector.split_first_chunk().context("a page")?;
    Ok(u32::from_le_bytes(*number))
}

fn write_page(place: &Path, open: Option<Box<dyn StoredFile>>, round: u32) -> Result<Box<dyn StoredFile>> {
    let path = place.join(PAGE);
    let file = match open {
        Some(file) => file,
        None if path.exists() => Disk.open_write(&path)?,
        None => Disk.create_new(&path)?,
    };
    let mut sector = [0; SECTOR];
    for (slot, byte) in sector.iter_mut().zip(round.to_le_bytes()) {
        *slot = byte;
    }
    file.write_at(0, &sector)?;
    file.sync_data()?;
    Ok(file)
}

/// The other side: does what it is told until its input ends.
pub(crate) fn racer(place: &Path, name: &str) -> Outcome {
    let mut page = None;
    let mut ready = own(place, name).is_ok();
    say("ready")?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let told = match line.split_once(' ') {
            Some(("claim", round)) if ready => {
                let said = claim(place, name, round);
                ready = own(place, name).is_ok();
                said
            }
            Some(("write", round)) => match round.parse().map_err(anyhow::Error::from) {
                Ok(round) => match write_page(place, page.take(), round) {
                    Ok(file) => {
                        page = Some(file);
                        "done".to_owned()
                    }
                    Err(error) => format!("{error:#}"),
                },
                Err(error) => format!("{error:#}"),
            },
            Some(_) | None => format!("cannot do: {line}"),
        };
        say(told)?;
    }
    Ok(Exit::Ok)
}

/// A file of its own, synced, to be linked.
fn own(place: &Path, name: &str) -> std::io::Result<()> {
    let path = place.join(format!("own-{name}"));
    Disk.unlink(&path).ok();
    let mut sector = [0; SECTOR];
    for (slot, byte) in sector.iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    let file = Disk.create_new(&path)?;
    file.write_at(0, &sector)?;
    file.sync_data()
}

/// As a taker claims: an error is no answer, the number of names is.
fn claim(place: &Path, name: &str, round: &str) -> String {
    let (from, to) = (place.join(format!("own-{name}")), place.join(format!("name-{round}")));
    let won = match Disk.link(&from, &to) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
        Err(error) => match Disk.link_count(&from) {
            Ok(names) => names == 2,
            Err(_) => return error.to_string(),
        },
    };
    if let Err(error) = Disk.sync_dir(place) {
        return error.to_string();
    }
    if won { "won" } else { "lost" }.to_owned()
}
