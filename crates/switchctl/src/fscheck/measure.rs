//! Reads past the cache, and how long things take.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use queue_store::storage::{Disk, Storage};
use tokio::time::Instant;

use crate::lights::{Light, Lights};

/// Bytes of a sector of a lease.
pub(super) const SECTOR: usize = 4096;
/// How often each thing is timed.
const TIMES: u32 = 200;
/// The lease is renewed so often: a sync that takes longer is missed.
const RENEW: Duration = Duration::from_millis(300);
/// Where the alarm of a running switch is, for the default window.
const SLOW: Duration = Duration::from_millis(100);

/// Whether `O_DIRECT` is taken; where it is not, files are opened anew for every read that must be fresh.
pub(super) fn uncached(place: &Path, found: &mut Lights) -> Result<()> {
    let path = place.join("direct");
    let file = Disk.create_new(&path).context("make a file")?;
    file.write_at(0, &[b'm'; SECTOR]).context("write")?;
    file.sync_data().context("fdatasync")?;
    file.allocate(1 << 20).context("set space aside")?;
    let direct = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECT.bits()).open(&path);
    match direct {
        Ok(_) => found.add("O_DIRECT", Light::Green, "fences are read past the cache of this machine"),
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
            let text =
                "refused, so files are opened anew for each such read; mount without attribute caching";
            found.add("O_DIRECT", Light::Amber, text);
        }
        Err(error) => return Err(error).context("open with O_DIRECT"),
    }
    let mut sector = [0; SECTOR];
    let read = Disk.open_uncached(&path)?.read_at(0, &mut sector).context("an uncached read")?;
    ensure!(
        read == SECTOR && sector.iter().all(|byte| *byte == b'm'),
        "other bytes came back than were written"
    );
    Disk.sync_dir(place).context("fsync of a directory")?;
    Ok(())
}

/// How long commits and fence reads take.
pub(super) fn times(place: &Path, found: &mut Lights) -> Result<()> {
    let path = place.join("times");
    let file = Disk.create_new(&path)?;
    let uncached = Disk.open_uncached(&path)?;
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    let mut sector = [0; SECTOR];
    for turn in 0..TIMES {
        let began = Instant::now();
        file.write_at(u64::from(turn) * SECTOR as u64, &[b't'; SECTOR])?;
        file.sync_data().context("fdatasync")?;
        writes.push(began.elapsed());
        let began = Instant::now();
        uncached.read_at(0, &mut sector).context("an uncached read")?;
        reads.push(began.elapsed());
    }
    for (what, times) in [("write and sync", &mut writes), ("uncached read", &mut reads)] {
        times.sort_unstable();
        let [half, most, max] = [50, 99, 100].map(|percent| percentile(times, percent));
        let light = if max >= RENEW { Light::Red } else { Light::Amber };
        let text = format!(
            "50 % within {} us, 99 % within {} us, the longest {} us; the lease wants less than {} us",
            half.as_micros(),
            most.as_micros(),
            max.as_micros(),
            SLOW.as_micros()
        );
        found.if_well(what, max < SLOW, light, text);
    }
    Ok(())
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let all = [50, 99, 100].map(|percent| percentile(&times, percent).as_millis());
        assert_eq!((all, percentile(&[], 50)), ([100, 198, 200], Duration::ZERO));
    }
}
