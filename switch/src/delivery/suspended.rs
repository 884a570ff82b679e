//! Domains to which nothing is sent for some time, because an operator said so.
//!
//! They are kept in a file beside the queue, so that a restart keeps them and whoever takes the queue over finds them. It is
//! advice, not part of the queue: a file that cannot be read suspends nobody, and mail is never lost by it.

use std::path::{Path, PathBuf};

use control::switch::{SUSPENSIONS_FILE, Suspension};
use mail_model::{Domain, Mailbox, WallTime};
use parking_lot::RwLock;
use routing::DomainPattern;

#[derive(Debug, Clone)]
struct Entry {
    pattern: DomainPattern,
    until: WallTime,
    by: String,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Suspended {
    file: PathBuf,
    entries: RwLock<Vec<Entry>>,
}

impl Suspended {
    /// Those that the owner before had, of the queue in `dir`.
    pub(crate) fn load(dir: &Path) -> Self {
        let file = dir.join(SUSPENSIONS_FILE);
        let kept: Vec<Suspension> = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(event = "delivery.suspensions_unreadable", file = %file.display(), %error);
                Vec::new()
            }),
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!(event = "delivery.suspensions_unreadable", file = %file.display(), %error);
                }
                Vec::new()
            }
        };
        let entry = |kept: Suspension| {
            let pattern = kept.domain.parse().ok()?;
            Some(Entry { pattern, until: WallTime(kept.until_ms), by: kept.by })
        };
        Self { file, entries: RwLock::new(kept.into_iter().filter_map(entry).collect()) }
    }

    /// Until when nothing goes to `address`, if it is not for now.
    pub(crate) fn until(&self, address: &Mailbox, now: WallTime) -> Option<WallTime> {
        let entries = self.entries.read();
        if entries.is_empty() {
            return None;
        }
        let domain: &Domain = address.domain()?;
        let fits = |entry: &&Entry| entry.until > now && entry.pattern.matches(domain);
        entries.iter().filter(fits).map(|entry| entry.until).max()
    }

    /// Suspends a domain, or changes until when. Kept when it returns.
    pub(crate) async fn add(
        &self,
        pattern: DomainPattern,
        until: WallTime,
        by: String,
    ) -> std::io::Result<()> {
        {
            let mut entries = self.entries.write();
            entries.retain(|entry| entry.pattern != pattern);
            entries.push(Entry { pattern, until, by });
        }
        self.keep().await
    }

    /// Ends it. False if it was not suspended.
    pub(crate) async fn remove(&self, pattern: &DomainPattern) -> std::io::Result<bool> {
        let found = {
            let mut entries = self.entries.write();
            let before = entries.len();
            entries.retain(|entry| entry.pattern != *pattern);
            entries.len() < before
        };
        if found {
            self.keep().await?;
        }
        Ok(found)
    }

    async fn keep(&self) -> std::io::Result<()> {
        let told: Vec<Suspension> = self.entries.read().iter().map(Entry::told).collect();
        let file = self.file.clone();
        let text = serde_json::to_vec(&told).map_err(std::io::Error::other)?;
        tokio::task::spawn_blocking(move || write(&file, &text)).await.map_err(std::io::Error::other)?
    }
}

impl Entry {
    fn told(&self) -> Suspension {
        Suspension { domain: self.pattern.to_string(), until_ms: self.until.0, by: self.by.clone() }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "advice of an operator: whoever reads it after a crash finds the old or the new, and either will do"
)]
fn write(file: &Path, text: &[u8]) -> std::io::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_takes_the_queue_over_finds_what_is_suspended_and_until_when() {
        let dir = tempfile::tempdir().unwrap();
        let first = Suspended::load(dir.path());
        let pattern: DomainPattern = ".example.test".parse().unwrap();
        first.add(pattern.clone(), WallTime(1_000), "root: full".into()).await.unwrap();
        let next = Suspended::load(dir.path());
        let address = |text: &str| Mailbox::parse_stored(text).unwrap();
        assert_eq!(next.until(&address("a@mx.example.test"), WallTime(999)), Some(WallTime(1_000)));
        assert_eq!(next.until(&address("a@mx.example.test"), WallTime(1_000)), None);
        assert_eq!(next.until(&address("a@example.test"), WallTime(1)), None);
        assert!(next.remove(&pattern).await.unwrap() && !next.remove(&pattern).await.unwrap());
        let is_empty = || Suspended::load(dir.path()).entries.read().is_empty();
        assert!(is_empty());
        std::fs::write(dir.path().join(SUSPENSIONS_FILE), "rubbish").unwrap();
        assert!(is_empty());
    }
}
